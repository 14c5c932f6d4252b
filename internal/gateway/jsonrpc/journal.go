package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/methods"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// maxEntries is how many entries of the journal one notification has.
const maxEntries = 200

// An endedAt is the error with which a subscription to the journal ended, and the cursor of the
// last entry that was sent. Another subscription can continue after the cursor.
type endedAt struct {
	error
	cursor string
}

func (e *endedAt) Unwrap() error { return e.error }

// sendJournal sends the entries of the journal as they are written, and continues after a restart
// of tridentd. Without a cursor and a time it begins with the next entry. It reads no further
// than the caller takes: only the entries of one answer of tridentd are in memory.
func (c *conn) sendJournal(j *methods.Journal) stream {
	return func(ctx context.Context, name string, started func()) error {
		isStarted := false
		err := keepUp(ctx, func() (bool, bool, error) {
			before := j.Cursor
			err := c.followJournal(ctx, j, name, func() { isStarted = true; started() })
			return isStarted, j.Cursor != before, err
		})
		return &endedAt{err, j.Cursor}
	}
}

// followJournal sends entries until the stream ends, and keeps the cursor of the last one in j.
func (c *conn) followJournal(ctx context.Context, j *methods.Journal, name string, started func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := j.Request()
	request.Follow = true
	if j.Cursor == "" && j.Since == nil {
		now := time.Now() // an entry that comes in during a restart of tridentd is not lost
		j.Since = &now
		request.Since = j.Request().GetSince()
	}
	stream, err := c.openStream(ctx, methods.JournalGRPC, request)
	if err != nil {
		return err
	}
	if header, err := stream.Header(); err == nil && header != nil {
		started()
	}
	for {
		var got machinev1.JournalResponse
		if err := stream.RecvMsg(&got); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		started()
		if err := c.sendEntries(ctx, j, name, got.GetEntries()); err != nil {
			return err
		}
	}
}

// sendEntries sends entries in notifications that are not too large.
func (c *conn) sendEntries(ctx context.Context, j *methods.Journal, name string, entries []*machinev1.JournalEntry) error {
	page := methods.NewPage(j.Cursor, maxEntries)
	for i := 0; i < len(entries); {
		ok, err := page.Add(entries[i])
		if err != nil {
			return err
		}
		if ok {
			i++
		}
		if ok && i < len(entries) {
			continue
		}
		if err := c.sendPage(ctx, j, name, page); err != nil {
			return err
		}
		page = methods.NewPage(j.Cursor, maxEntries)
	}
	return nil
}

// sendPage sends one notification, and keeps its cursor in j. It fails if the caller is so slow
// that other messages of the connection wait for long.
func (c *conn) sendPage(ctx context.Context, j *methods.Journal, name string, page *methods.Page) error {
	data, err := json.Marshal(page)
	if err != nil {
		return err
	}
	params := append(json.RawMessage(`{"subscription":"`+name+`",`), data[1:]...)
	if err := c.gate.Pass(ctx, len(params)); err != nil {
		return err
	}
	begin := time.Now()
	if err := c.socket.send(ctx, envelope.Notification("notify.journal", params)); err != nil {
		return err
	}
	if j.Cursor = page.Cursor; time.Since(begin) > c.slowTime {
		return errkind.WithHint(errkind.Errorf(errkind.TooLarge, "follow the journal: the caller reads too slowly"),
			"subscribe again with the cursor of the last notification, perhaps for fewer entries")
	}
	return nil
}
