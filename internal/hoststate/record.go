package hoststate

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/trident-project/trident/internal/errkind"
)

// Record makes st the status of the host. Where it is so already nothing
// happens, so that a step that records may run twice. Older statuses are deleted
// as far as no rollback needs them (see Chain).
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
		return errkind.Errorf(errkind.TooLarge, "record host status: it has %d bytes, and %d are allowed", len(text), maxStatus)
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

// isNewest reports whether st is the newest status already. What the newest has
// and this version does not know goes over into st.
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
	// keepRows is how many statuses stay, besides those that a rollback needs.
	keepRows = 100
	// maxRows is how many stay, and count, in any case.
	maxRows = 1000
)

// pruneStatuses deletes rows. What a rollback needs changes only where the host
// settles.
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

// Chain returns what this host can be rolled back to, the next first.
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
