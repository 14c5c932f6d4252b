// Package hoststate stores the state of this host durably in one SQLite file: its
// status, the journal of operations, and the versions of Trident that failed on
// this host.
//
// It uses SQLite because upstream's datastore is a SQLite file. The status is in
// upstream's table, so that this Trident can adopt a host that upstream provisioned,
// can still roll it back, and upstream can read the status again. All else is in other
// tables. The schema only grows, because the previous and the next release open the
// same file. Beside the file is a backup from the end of the last operation; Open
// restores it if the file is damaged.
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
	"strings"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver

	"github.com/trident-project/trident/internal/errkind"
)

// A Store is a datastore. An open Store is safe for concurrent use within one
// process; the daemon's lock ensures that no other process uses the file.
type Store struct {
	db   *sql.DB
	path string
	// tablesMissing is set while the disk is too full to create tables. Reads return
	// nothing then, and the next write creates the tables.
	tablesMissing atomic.Bool
}

// NewClosed returns the datastore at path without opening it. Until Open, only
// Close may be called.
func NewClosed(path string) *Store { return &Store{path: path} }

// Open opens the datastore at path; see Store.Open.
func Open(ctx context.Context, path string) (*Store, error) {
	s := NewClosed(path)
	if err := s.Open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Open opens the datastore, and creates it if it does not exist. If the datastore
// is damaged, empty or missing, and a backup exists, the backup replaces it (see
// Backup and Damaged). Without a backup, a damaged file stays as it is, and the
// error is of kind Corrupt. The error is of kind Incompatible if a newer Trident
// wrote a datastore that this version cannot read. A full disk does not prevent
// opening.
func (s *Store) Open(ctx context.Context) error {
	if err := s.openOrRestore(ctx); err != nil {
		return fmt.Errorf("open datastore %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) openOrRestore(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	sweepCopies(ctx, s.path)
	if err := clearJournal(ctx, s.path); err != nil {
		return err
	}
	err := checkLost(s.path)
	if err == nil {
		if err = s.openFile(ctx); errkind.Of(err) != errkind.Corrupt {
			return err
		}
	}
	if rerr := restore(ctx, s.path, err); rerr != nil {
		return errkind.WithHint(fmt.Errorf("%w; %w", err, rerr),
			"the file is unchanged; move the file and %s aside to begin with an empty history", filepath.Base(s.path)+backupSuffix)
	}
	return s.openFile(ctx)
}

// openFile opens the file, checks it, and migrates its schema. pragmas are added
// to those of every connection.
func (s *Store) openFile(ctx context.Context, pragmas ...string) error {
	// Created here and not by SQLite, to set the mode.
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// A rollback journal, not a write-ahead log: there is one file to copy and no
	// checkpoint. Saves are few, and each has to reach the disk.
	pragmas = append(pragmas, "journal_mode(TRUNCATE)", "synchronous(EXTRA)", "secure_delete(ON)") // a deleted value may be a password
	if s.db, err = connect(s.path, "rwc", pragmas...); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		err = errors.Join(err, s.db.Close())
		s.db = nil
		return err
	}
	return nil
}

func (s *Store) prepare(ctx context.Context) error {
	if err := check(ctx, s.db); err != nil {
		return err
	}
	err := migrate(ctx, s.db)
	if errkind.Of(err) == errkind.NoSpace {
		s.tablesMissing.Store(true)
		return nil
	}
	if err != nil {
		return err
	}
	return checkWritable(ctx, s.db)
}

// connect opens a SQLite file with one connection.
func connect(path, mode string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// Close closes the datastore.
func (s *Store) Close() error {
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}

// Snapshot writes a consistent copy of the datastore to path, which only the owner may
// read, and replaces a file at path.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy datastore: %w", err)
	}
	// Made here for its mode: configurations have secrets.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy datastore: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("copy datastore: %w", err)
	}
	return s.copyTo(ctx, path)
}

// copyTo writes a copy to path, which must not exist or be an empty file.
func (s *Store) copyTo(ctx context.Context, path string) error {
	if _, err := s.db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("copy datastore to %s: %w", path, withKind(err))
	}
	return nil
}

func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) error {
	if s.tablesMissing.Load() {
		if err := migrate(ctx, s.db); err != nil {
			return err
		}
		s.tablesMissing.Store(false)
	}
	err := s.transact(ctx, f)
	if code(err) != dbMoved {
		return withKind(err)
	}
	if perr := s.putBack(ctx); perr != nil {
		return withKind(fmt.Errorf("the file was removed or replaced while tridentd ran: %w; restore the file: %w", err, perr))
	}
	return withKind(s.transact(ctx, f))
}

func (s *Store) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // SQLite may have done so by itself, and fails then
		return err
	}
	return tx.Commit()
}

// isTableMissing reports whether a read failed because its table is not created
// yet.
func (s *Store) isTableMissing(err error) bool {
	return err != nil && s.tablesMissing.Load() && strings.Contains(err.Error(), "no such table")
}

func query[T any](ctx context.Context, s *Store, scan func(key uint64, body string) (T, error), text string, args ...any) (out []T, err error) {
	rows, err := s.db.QueryContext(ctx, text, args...)
	if s.isTableMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, withKind(err)
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
	return out, withKind(rows.Err())
}

func decode[T any](body string) (v T, err error) {
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return v, damaged(fmt.Errorf("read datastore row: %w", err))
	}
	return v, nil
}

// withKind gives an error of SQLite its kind (sqlite.org/rescode.html).
func withKind(err error) error {
	if errkind.Of(err) == errkind.Corrupt {
		return err
	}
	switch code(err) & 0xff {
	case 13: // SQLITE_FULL
		return errkind.WithHint(errkind.With(errkind.NoSpace, err), "free space on the file system of the datastore")
	case 11, 26: // SQLITE_CORRUPT, SQLITE_NOTADB
		return errkind.WithHint(damaged(err), restartHint)
	case 1: // SQLITE_ERROR
		if strings.Contains(err.Error(), "no such table") {
			return errkind.WithHint(damaged(fmt.Errorf("the datastore was emptied while tridentd ran: %w", err)), restartHint)
		}
	case 5, 6, 8, 10, 14: // SQLITE_BUSY, _LOCKED, _READONLY, _IOERR, _CANTOPEN
		return temporaryError{err}
	}
	return err
}

// dbMoved is SQLITE_READONLY_DBMOVED (sqlite.org/rescode.html).
const dbMoved = 8 | 4<<8

const restartHint = "Have tridentd check the file, and use its copy if the file is damaged: systemctl restart tridentd.service"

// code is the extended result code of SQLite that an error has, or 0.
func code(err error) int {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return 0
}

// temporaryError is an error that may be over when the same is tried again.
type temporaryError struct{ error }

func (temporaryError) Temporary() bool { return true }
func (e temporaryError) Unwrap() error { return e.error }
