package hoststate

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"time"
)

// A row is one status as it was read. If err is set, only Row and Time are valid.
type row struct {
	Status
	err error
}

// statuses yields the newest rows, at most maxRows, in one of two orders.
func (s *Store) statuses(ctx context.Context, newestFirst bool) iter.Seq2[row, error] {
	order := "ASC"
	if newestFirst {
		order = "DESC"
	}
	// The casts and the bound protect against rows of other writers. The sum proves
	// that this Trident wrote a row.
	text := `SELECT h.id, coalesce(CAST(h.timestamp AS TEXT), ''), substr(CAST(h.contents AS BLOB), 1, ?), coalesce(t.sum, '')
		FROM (SELECT * FROM hoststatus ORDER BY id DESC LIMIT ?) h LEFT JOIN %s t ON t.id = h.id ORDER BY h.id ` + order
	find := func(ours string) (*sql.Rows, error) {
		return s.db.QueryContext(ctx, fmt.Sprintf(text, ours), maxStatus+1, maxRows)
	}
	return func(yield func(row, error) bool) {
		rows, err := find("trident_hoststatus")
		if s.isTableMissing(err) {
			rows, err = find("(SELECT NULL AS id, NULL AS sum)") // upstream's rows only
		}
		if s.isTableMissing(err) {
			return
		}
		if err != nil {
			yield(row{}, withKind(err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanRow(rows)
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(row{}, withKind(err))
		}
	}
}

func scanRow(rows *sql.Rows) (row, error) {
	var id int64
	var stamp, sum string
	var contents []byte
	if err := rows.Scan(&id, &stamp, &contents, &sum); err != nil {
		return row{}, err
	}
	var r row
	if r.Status, r.err = ParseStatus(contents); r.err == nil {
		r.isOurs = sum != "" && sum == sumOf(contents)
	}
	r.Row, r.Time = id, timeOf(stamp)
	return r, nil
}

// timeOf parses a time of CURRENT_TIMESTAMP. Upstream's rows have no time.
func timeOf(stamp string) time.Time {
	t, err := time.Parse(time.DateTime, stamp)
	if err != nil {
		return time.Time{}
	}
	return t
}
