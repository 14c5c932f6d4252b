package hoststate

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/trident-project/trident/internal/errkind"
)

// Record makes st the status of the host. It does nothing if the newest status
// equals st, so that a step may run it twice. It deletes older statuses that no
// rollback needs (see Chain).
func (s *Store) Record(ctx context.Context, st Status) error {
	isSame, err := s.isNewest(ctx, &st)
	if err != nil {
		return fmt.Errorf("record host status: %w", err)
	}
	text, err := st.YAML()
	if err != nil {
		return fmt.Errorf("record host status: %w", err)
	}
	if len(text) > maxStatus {
		return errkind.Errorf(errkind.TooLarge, "record host status: the status has %d bytes, more than %d", len(text), maxStatus)
	}
	if isSame {
		return nil
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO hoststatus (timestamp, contents) VALUES (CURRENT_TIMESTAMP, ?)`, string(text))
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO trident_hoststatus (id, sum) VALUES (?, ?)`, id, sumOf(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("record host status: %w", err)
	}
	if err := s.pruneStatuses(ctx, st.Phase); err != nil {
		return fmt.Errorf("delete old host statuses: %w", err)
	}
	return nil
}

// isNewest reports whether st equals the newest status. It copies fields of the
// newest status that this version does not know to st.
func (s *Store) isNewest(ctx context.Context, st *Status) (bool, error) {
	for r, err := range s.statuses(ctx, true) {
		if err != nil || r.err != nil {
			return false, err
		}
		if st.unknownFields == nil {
			st.unknownFields = r.unknownFields
		}
		return r.Equal(*st), nil
	}
	return false, nil
}

const (
	// keepRows is how many statuses stay, in addition to those that a rollback needs.
	keepRows = 100
	// maxRows is the largest number of statuses that are kept and read.
	maxRows = 1000
)

// pruneStatuses deletes rows that no rollback needs. The rows that a rollback
// needs change only when the host settles.
func (s *Store) pruneStatuses(ctx context.Context, phase Phase) error {
	const idAtOffset = `(SELECT id FROM hoststatus ORDER BY id DESC LIMIT 1 OFFSET ?)`
	oldestNeeded := int64(0)
	if phase == (Settled{}) {
		oldestNeeded = math.MaxInt64
		links, err := s.Chain(ctx)
		if err != nil {
			return err
		}
		if len(links) > 0 {
			oldestNeeded = links[len(links)-1].row
		}
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM hoststatus WHERE id <= `+idAtOffset+` OR id < ? AND id <= `+idAtOffset, maxRows, oldestNeeded, keepRows)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM trident_hoststatus WHERE id NOT IN (SELECT id FROM hoststatus)`)
		return err
	})
}

// Chain returns the states to which this host can be rolled back, the state of the
// next rollback first.
func (s *Store) Chain(ctx context.Context) ([]Link, error) {
	var readErr error
	links := chainOf(func(yield func(row) bool) {
		for r, err := range s.statuses(ctx, false) {
			if readErr = err; err != nil || !yield(r) {
				return
			}
		}
	})
	if readErr != nil {
		return nil, fmt.Errorf("read rollback chain: %w", readErr)
	}
	return links, nil
}
