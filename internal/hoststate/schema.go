package hoststate

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
)

// schema is applied at every start. Its statements must not change existing
// tables: releases add columns and tables and never change them, so that any
// release reads what any other wrote. hoststatus is upstream's table; upstream
// writes and reads only its contents.
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
);
CREATE TABLE IF NOT EXISTS hoststatus (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	timestamp TEXT DEFAULT CURRENT_TIMESTAMP,
	contents TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS trident_hoststatus (
	id INTEGER PRIMARY KEY,
	sum TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS trident_policy (
	name TEXT PRIMARY KEY,
	value TEXT NOT NULL
);`

// applicationID is "TRID", stored in the file's header.
const applicationID = 0x54524944

// schemaLevel and schemaSublevel are the version of the schema, stored as
// level<<16|sublevel in the header's user version. A release reads any file of its
// level; a higher sublevel has more tables or columns. It refuses a higher level.
// The first release wrote 0, which is level 1 too.
const (
	schemaLevel    = 1
	schemaSublevel = 2
)

// check returns an error if the datastore is damaged, or was written by a newer
// level. It changes nothing.
func check(ctx context.Context, db *sql.DB) error {
	version, err := queryNumber(ctx, db, "PRAGMA user_version")
	if err != nil {
		return damageKind(err)
	}
	if version>>16 > schemaLevel {
		return newer{errkind.WithHint(errkind.Errorf(errkind.Incompatible,
			"a newer version of Trident has written the datastore (schema level %d.%d; this version reads level %d)", version>>16, version&0xffff, schemaLevel),
			"run the version of Trident that ran on this host before, or a newer one")}
	}
	var result string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return damageKind(err)
	}
	if result != "ok" {
		return damaged(fmt.Errorf("the datastore is damaged: %s", result))
	}
	if err := checkRows(ctx, db); err != nil {
		return fmt.Errorf("the datastore is damaged: %w", damageKind(err))
	}
	return nil
}

// checkRows checks the rows, because the pages of SQLite have no checksums.
func checkRows(ctx context.Context, db *sql.DB) error {
	if exists, err := hasTable(ctx, db, "trident_operations"); err != nil {
		return err
	} else if exists {
		bad, err := queryNumber(ctx, db, "SELECT count(*) FROM trident_operations WHERE NOT json_valid(body)")
		if err != nil {
			return err
		}
		if bad > 0 {
			return damaged(fmt.Errorf("%d operations are not JSON", bad))
		}
	}
	if exists, err := hasTable(ctx, db, "trident_hoststatus"); err != nil || !exists {
		return err
	}
	return checkSums(ctx, db)
}

func checkSums(ctx context.Context, db *sql.DB) (err error) {
	rows, err := db.QueryContext(ctx, `SELECT h.id, h.contents, t.sum FROM trident_hoststatus t JOIN hoststatus h ON h.id = t.id`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id int64
		var contents sql.RawBytes
		var sum string
		if err := rows.Scan(&id, &contents, &sum); err != nil {
			return err
		}
		if sumOf(contents) != sum {
			return damaged(fmt.Errorf("row %d of the host status differs from its checksum", id))
		}
	}
	return rows.Err()
}

func sumOf(contents []byte) string {
	sum := sha256.Sum256(contents)
	return hex.EncodeToString(sum[:])
}

// checkWritable fails if the header marks the file as read-only: SQLite would fail
// at the first save. It writes nothing.
func checkWritable(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "DELETE FROM trident_blocked WHERE false")
	return damageKind(err)
}

// migrate adds missing tables and header fields. It writes nothing if none is
// missing, so that a start is quick and works with a full disk.
func migrate(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return damageKind(err)
	}
	for _, p := range []struct {
		name   string
		want   int64
		enough func(is, want int64) bool
	}{
		{"application_id", applicationID, func(is, want int64) bool { return is == want }},
		{"user_version", schemaLevel<<16 | schemaSublevel, func(is, want int64) bool { return is >= want }},
	} {
		is, err := queryNumber(ctx, db, "PRAGMA "+p.name)
		if err != nil {
			return damageKind(err)
		}
		if p.enough(is, p.want) {
			continue
		}
		if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA %s = %d", p.name, p.want)); err != nil {
			return damageKind(err)
		}
	}
	return nil
}

// damageKind marks errors that a file as SQLite wrote it cannot have. Besides those
// of withKind, they are SQLITE_ERROR, for a format that it does not know, and
// SQLITE_READONLY, for a header that says so of a file that could be opened for
// writing.
func damageKind(err error) error {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		if c := coded.Code() & 0xff; c == 1 || c == 8 {
			return damaged(err)
		}
	}
	return withKind(err)
}

func hasTable(ctx context.Context, db *sql.DB, table string) (bool, error) {
	n, err := queryNumber(ctx, db, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", table)
	return n > 0, err
}

func queryNumber(ctx context.Context, db *sql.DB, text string, args ...any) (n int64, err error) {
	err = db.QueryRowContext(ctx, text, args...).Scan(&n)
	return n, err
}
