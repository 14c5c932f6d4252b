// Package hoststate keeps what this host runs and does, durably, in one SQLite
// file: the journal of operations and the versions of Trident that failed here.
//
// One file, so that a step and what it means for the host change in one
// transaction. SQLite, because upstream's datastore is one and hosts
// provisioned by it are to be taken over. The schema only grows: the release
// before and the release after open the same file.
package hoststate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// keep is how many settled operations stay in the journal.
const keep = 200

// schema is applied at every start. Each statement has to leave alone what is
// there: columns and tables are added, never changed, so that any release reads
// what any other wrote.
const schema = `
CREATE TABLE IF NOT EXISTS trident_operations (
	id TEXT PRIMARY KEY,
	settled INTEGER NOT NULL,
	body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS trident_events (
	operation TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (operation, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trident_blocked (
	version TEXT PRIMARY KEY,
	body TEXT NOT NULL
);`

// applicationID is "TRID" in the file's header.
const applicationID = 0x54524944

// A Store is an open datastore. It is safe for use by many goroutines of one
// process; that there is one process only is for the daemon's lock to see to.
type Store struct {
	db *sql.DB
}

// Open opens the datastore at path and makes it if there is none. What is no
// database, or a damaged one, is an error and is left as it is.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open datastore: %w", err)
	}
	// Created here rather than by SQLite, for its mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open datastore: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open datastore: %w", err)
	}
	// A rollback journal rather than a write-ahead log: one file to copy, and
	// nothing to check-point. Saves are few, and each is to be on disk.
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		"?_pragma=journal_mode(TRUNCATE)&_pragma=synchronous(EXTRA)&_pragma=busy_timeout(5000)&_txlock=immediate"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open datastore %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{db}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(errkind.WithHint(fmt.Errorf("open datastore %s: %w", path, err),
			"the file is left as it is; move it aside to begin with an empty history"), db.Close())
	}
	return s, nil
}

func (s *Store) prepare(ctx context.Context) error {
	var result string
	if err := s.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return errkind.Errorf(errkind.Corrupt, "it is damaged: %s", result)
	}
	if _, err := s.db.ExecContext(ctx, schema); err != nil {
		return err
	}
	// Where all is there nothing is written: a start is quick, and a full disk
	// does not prevent it.
	var id int
	if err := s.db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil || id == applicationID {
		return err
	}
	_, err := s.db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return err
}

// Close closes the datastore.
func (s *Store) Close() error { return s.db.Close() }

// Snapshot writes a consistent copy of the datastore to path, replacing what is
// there.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy datastore: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("copy datastore to %s: %w", path, kindOf(err))
	}
	return nil
}

// Save implements operation.Journal.
func (s *Store) Save(ctx context.Context, op operation.Operation, events ...operation.Event) error {
	body, err := json.Marshal(op)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error {
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
			if _, err := tx.ExecContext(ctx, `INSERT INTO trident_events (operation, sequence, body) VALUES (?, ?, ?)`,
				op.ID, e.Sequence, string(body)); err != nil {
				return err
			}
		}
		if op.Phase.Settled() {
			return prune(ctx, tx)
		}
		return nil
	})
}

func prune(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM trident_operations WHERE settled AND rowid <=
		(SELECT rowid FROM trident_operations WHERE settled ORDER BY rowid DESC LIMIT 1 OFFSET ?)`, keep)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM trident_events WHERE operation NOT IN (SELECT id FROM trident_operations)`)
	return err
}

func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return kindOf(err)
	}
	if err := f(tx); err != nil {
		return errors.Join(kindOf(err), tx.Rollback())
	}
	return kindOf(tx.Commit())
}

// Load implements operation.Journal.
func (s *Store) Load(ctx context.Context, id string) (operation.Operation, error) {
	var body string
	err := s.db.QueryRowContext(ctx, `SELECT body FROM trident_operations WHERE id = ?`, id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return operation.Operation{}, errkind.WithHint(
			errkind.Errorf(errkind.NotFound, "there is no operation %.80q", id), "list them with: trident operation list")
	}
	if err != nil {
		return operation.Operation{}, err
	}
	return decode[operation.Operation](body)
}

// List implements operation.Journal.
func (s *Store) List(ctx context.Context, limit int, unsettled bool) ([]operation.Operation, error) {
	return query(ctx, s.db, func(_ uint64, body string) (operation.Operation, error) {
		return decode[operation.Operation](body)
	}, `SELECT rowid, body FROM trident_operations WHERE NOT (settled AND ?) ORDER BY rowid DESC LIMIT ?`, unsettled, limit)
}

// Events implements operation.Journal.
func (s *Store) Events(ctx context.Context, id string, after uint64, limit int) ([]operation.Event, error) {
	return query(ctx, s.db, func(sequence uint64, body string) (operation.Event, error) {
		e, err := decode[operation.Event](body)
		e.Operation, e.Sequence = id, sequence
		return e, err
	}, `SELECT sequence, body FROM trident_events WHERE operation = ? AND sequence > ? ORDER BY sequence LIMIT ?`, id, after, limit)
}

// A Blocked is a version of Trident that failed on this host.
type Blocked struct {
	Version   string    `json:"version"`
	Reason    string    `json:"reason"`
	Time      time.Time `json:"time"`
	Operation string    `json:"operation"`
	Evidence  string    `json:"evidence,omitempty"` // a folder on the host
}

// Block refuses a version from now on.
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

// Unblock takes a version off the list. That it is not on it is no error here.
func (s *Store) Unblock(ctx context.Context, version string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM trident_blocked WHERE version = ?`, version)
		return err
	})
}

// Blocked lists the versions that failed on this host.
func (s *Store) Blocked(ctx context.Context) ([]Blocked, error) {
	return query(ctx, s.db, func(_ uint64, body string) (Blocked, error) { return decode[Blocked](body) },
		`SELECT rowid, body FROM trident_blocked ORDER BY rowid`)
}

func query[T any](ctx context.Context, db *sql.DB, scan func(key uint64, body string) (T, error), text string, args ...any) (out []T, err error) {
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key uint64
		var body string
		if err := rows.Scan(&key, &body); err != nil {
			return nil, err
		}
		v, err := scan(key, body)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func decode[T any](body string) (v T, err error) {
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return v, errkind.Errorf(errkind.Corrupt, "read datastore row: %w", err)
	}
	return v, nil
}

// kindOf marks what SQLite says when the disk is full.
func kindOf(err error) error {
	var coded interface{ Code() int }
	const full = 13 // SQLITE_FULL, sqlite.org/rescode.html
	if errors.As(err, &coded) && coded.Code()&0xff == full {
		return errkind.WithHint(errkind.With(errkind.NoSpace, err), "free space on the file system of the datastore")
	}
	return err
}
