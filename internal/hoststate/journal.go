package hoststate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// maxSettled is how many settled operations stay in the journal. Beside them the newest one of
// each kind stays, however old it is: a later operation may need its record, as an update needs
// the tokens of encrypted volumes that the last one has made.
const maxSettled = 200

// Save implements operation.Journal. It makes a backup when the operation has
// settled.
func (s *Store) Save(ctx context.Context, op operation.Operation, events ...operation.Event) error {
	body, err := json.Marshal(op)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO trident_operations (id, settled, body) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET settled = excluded.settled, body = excluded.body`, op.ID, op.Phase.Settled(), string(body))
		if err != nil {
			return err
		}
		for _, e := range events {
			body, err := json.Marshal(e)
			if err != nil {
				return err
			}
			// The event may exist: a write that seemed to fail may have worked.
			if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO trident_events (operation, sequence, body) VALUES (?, ?, ?)`,
				op.ID, e.Sequence, string(body)); err != nil {
				return err
			}
		}
		if op.Phase.Settled() {
			return pruneOperations(ctx, tx)
		}
		return nil
	})
	if err != nil || !op.Phase.Settled() {
		return err
	}
	// The operation is saved, so a failed backup is not an error of Save.
	if err := s.Backup(ctx); err != nil {
		slog.WarnContext(ctx, "the backup of the datastore is outdated", "error", err)
	}
	return nil
}

func pruneOperations(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM trident_operations WHERE settled AND rowid <=
		(SELECT rowid FROM trident_operations WHERE settled ORDER BY rowid DESC LIMIT 1 OFFSET ?)
		AND rowid NOT IN (SELECT max(rowid) FROM trident_operations WHERE settled GROUP BY CASE WHEN json_valid(body) THEN json_extract(body, '$.kind') END)`, maxSettled)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM trident_events WHERE operation NOT IN (SELECT id FROM trident_operations)`)
	return err
}

// Load implements operation.Journal.
func (s *Store) Load(ctx context.Context, id string) (operation.Operation, error) {
	var body string
	err := s.db.QueryRowContext(ctx, `SELECT body FROM trident_operations WHERE id = ?`, id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) || s.isTableMissing(err) {
		return operation.Operation{}, errkind.WithHint(
			errkind.Errorf(errkind.NotFound, "there is no operation %.80q", id), "list them with: trident operation list")
	}
	if err != nil {
		return operation.Operation{}, withKind(err)
	}
	return decode[operation.Operation](body)
}

// List implements operation.Journal.
func (s *Store) List(ctx context.Context, limit int, unsettled bool) ([]operation.Operation, error) {
	return query(ctx, s, func(_ uint64, body string) (operation.Operation, error) {
		return decode[operation.Operation](body)
	}, `SELECT rowid, body FROM trident_operations WHERE NOT (settled AND ?) ORDER BY rowid DESC LIMIT ?`, unsettled, limit)
}

// Events implements operation.Journal.
func (s *Store) Events(ctx context.Context, id string, after uint64, limit int) ([]operation.Event, error) {
	return query(ctx, s, func(sequence uint64, body string) (operation.Event, error) {
		e, err := decode[operation.Event](body)
		e.Operation, e.Sequence = id, sequence
		return e, err
	}, `SELECT sequence, body FROM trident_events WHERE operation = ? AND sequence > ? ORDER BY sequence LIMIT ?`, id, after, limit)
}
