package hoststate

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// A Blocked is a version of Trident that failed on this host.
type Blocked struct {
	Version   string    `json:"version"`
	Reason    string    `json:"reason"`
	Time      time.Time `json:"time"`
	Operation string    `json:"operation"`
	Evidence  string    `json:"evidence,omitempty"` // a folder on the host
}

// Block adds a version to the blocked versions, or replaces its entry.
func (s *Store) Block(ctx context.Context, b Blocked) error {
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO trident_blocked (version, body) VALUES (?, ?)
			ON CONFLICT (version) DO UPDATE SET body = excluded.body`, b.Version, string(body))
		return err
	})
}

// Unblock removes a version from the blocked versions. It returns nil if the
// version is not blocked.
func (s *Store) Unblock(ctx context.Context, version string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM trident_blocked WHERE version = ?`, version)
		return err
	})
}

// Blocked lists the blocked versions in the order in which they were blocked.
func (s *Store) Blocked(ctx context.Context) ([]Blocked, error) {
	return query(ctx, s, func(_ uint64, body string) (Blocked, error) { return decode[Blocked](body) },
		`SELECT rowid, body FROM trident_blocked ORDER BY rowid`)
}
