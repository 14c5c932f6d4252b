package hoststate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// CopyStatuses writes the host statuses of the datastore at from to a new file at
// to, and nothing else. clean is applied to the text of each status. The datastore
// may be in use, and is not changed.
func CopyStatuses(ctx context.Context, from, to string, clean func(string) string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy datastore %s: %w", from, withKind(err))
		}
	}()
	source, err := connect(from, "ro")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	dest, err := connect(to, "rwc")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dest.Close()) }()
	if _, err := dest.ExecContext(ctx, `CREATE TABLE hoststatus (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT, contents TEXT NOT NULL)`); err != nil {
		return err
	}
	rows, err := source.QueryContext(ctx, `SELECT id, timestamp, substr(contents, 1, ?) FROM hoststatus ORDER BY id DESC LIMIT ?`, maxStatus, keepRows)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id int64
		var stamp sql.NullString
		var text string
		if err := rows.Scan(&id, &stamp, &text); err != nil {
			return err
		}
		if _, err := dest.ExecContext(ctx, `INSERT INTO hoststatus (id, timestamp, contents) VALUES (?, ?, ?)`, id, stamp, clean(text)); err != nil {
			return err
		}
	}
	return rows.Err()
}
