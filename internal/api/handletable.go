package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Limits of handles.
const (
	maxHandles        = 16 // of one connection
	maxHandleBytes    = 4 << 30
	maxAllHandles     = 64
	maxAllHandleBytes = 8 << 30
	maxConfig         = 1 << 20
)

// handleFolder is where uploads lie while a handle holds them.
const handleFolder = "var/lib/trident/handles"

// handleType is what a handle stands for, in words.
type handleType string

const configHandle handleType = "Host Configuration"

// handle is one opened input. Its file has no name any more: when the last one
// who reads it is done, or the daemon dies, its space is free.
type handle struct {
	session *session
	is      handleType
	bytes   int64 // that count against the limits
	size    int64
	sha384  string
	text    []byte   // of a configuration
	file    *os.File // of an image
	forget  func() bool
	end     func() // of the daemon's being needed
}

// handleTable has the handles of all connections. Numbers rise from a random
// one on: a number of an earlier daemon is not taken for one of this.
type handleTable struct {
	root  string
	begin func() (end func())
	first int64

	mu    sync.Mutex
	next  int64
	open  map[int64]*handle
	swept bool
}

func newHandleTable(root string, begin func() func()) *handleTable {
	first := 1 + rand.Int64N(1<<52) // exact in every language's numbers
	return &handleTable{root: root, begin: begin, first: first, next: first, open: map[int64]*handle{}}
}

// folder makes the folder for uploads. What an earlier daemon left in it, while
// a file still had its name, goes.
func (t *handleTable) folder() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	path := filepath.Join(t.root, handleFolder)
	if !t.swept {
		if err := os.RemoveAll(path); err != nil {
			return "", fmt.Errorf("make a folder for handles: %w", err)
		}
		t.swept = true
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for handles: %w", err)
	}
	return path, nil
}

// reserve makes a handle that counts and that nobody can use yet. It ends with
// its session.
func (t *handleTable) reserve(ctx context.Context, is handleType, bytes int64) (int64, *handle, error) {
	s := sessionOf(ctx)
	if s == nil {
		return 0, nil, errkind.Errorf(errkind.Internal, "open a handle: the connection is not known")
	}
	h := &handle{session: s, is: is}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.room(s, 1, 0); err != nil {
		return 0, nil, err
	}
	if err := t.room(s, 0, bytes); err != nil {
		return 0, nil, err
	}
	done, ok := s.use()
	if !ok {
		return 0, nil, errkind.Errorf(errkind.Cancelled, "open a handle: the connection has ended")
	}
	end := t.begin()
	h.bytes, h.end = bytes, func() { end(); done() }
	id := t.next
	t.next++
	t.open[id] = h
	h.forget = context.AfterFunc(s.life, func() { t.free(id) })
	return id, h, nil
}

// grow counts a handle as larger.
func (t *handleTable) grow(h *handle, bytes int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if bytes <= h.bytes {
		return nil
	}
	if err := t.room(h.session, 0, bytes-h.bytes); err != nil {
		return err
	}
	h.bytes = bytes
	return nil
}

// room reports whether so much more fits. The caller holds t.mu.
func (t *handleTable) room(s *session, count int, bytes int64) error {
	var mine, all int
	var mineBytes, allBytes int64
	for _, h := range t.open {
		all++
		allBytes += h.bytes
		if h.session == s {
			mine++
			mineBytes += h.bytes
		}
	}
	full := func(format string, args ...any) error {
		return errkind.WithHint(errkind.Errorf(errkind.TooLarge, "open a handle: "+format, args...), "close handles that are not needed any more")
	}
	switch {
	case mine+count > maxHandles:
		return full("this connection has %d open, and may have %d", mine, maxHandles)
	case all+count > maxAllHandles:
		return full("%d are open, and %d may be", all, maxAllHandles)
	case bytes > maxHandleBytes-mineBytes:
		return full("those of this connection hold %d bytes, and with %d more it would be over %d", mineBytes, bytes, int64(maxHandleBytes))
	case bytes > maxAllHandleBytes-allBytes:
		return full("all that are open hold %d bytes, and with %d more it would be over %d", allBytes, bytes, int64(maxAllHandleBytes))
	}
	return nil
}

// free ends a handle; one that has ended stays so.
func (t *handleTable) free(id int64) {
	t.mu.Lock()
	h, ok := t.open[id]
	delete(t.open, id)
	t.mu.Unlock()
	if !ok {
		return
	}
	h.forget()
	if h.file != nil {
		_ = h.file.Close()
	}
	h.end()
}

// publish fills a reserved handle, if its session has not ended meanwhile.
func (t *handleTable) publish(id int64, fill func(*handle)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.open[id]
	if !ok {
		return errkind.Errorf(errkind.Cancelled, "open a handle: the connection has ended")
	}
	fill(h)
	return nil
}

// take finds a handle of the caller's. The caller holds t.mu.
func (t *handleTable) take(ctx context.Context, id int64, want ...handleType) (*handle, error) {
	h, ok := t.open[id]
	switch {
	case id <= 0:
		return nil, errkind.Errorf(errkind.Invalid, "handle %d: a handle is a number greater than 0", id)
	case !ok && t.first <= id && id < t.next:
		return nil, errkind.WithHint(errkind.Errorf(errkind.NotFound, "handle %d: it is closed", id), "open it again")
	case !ok:
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.NotFound, "handle %d: it was not given by this daemon", id), "open it again: handles end with their daemon")
	case h.session != sessionOf(ctx):
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.NotFound, "handle %d: it belongs to another connection", id), "open it on the connection that uses it")
	}
	for _, is := range want {
		if is == h.is && (h.file != nil || h.text != nil) {
			return h, nil
		}
	}
	if len(want) == 0 {
		return h, nil
	}
	return nil, errkind.Errorf(errkind.Invalid, "handle %d: it is one of a %s, and one of a %s is needed", id, h.is, want[0])
}

// close frees a handle of the caller's.
func (t *handleTable) close(ctx context.Context, id int64) error {
	t.mu.Lock()
	_, err := t.take(ctx, id)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	t.free(id)
	return nil
}

// config returns the text behind a handle.
func (t *handleTable) config(ctx context.Context, id int64) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.take(ctx, id, configHandle)
	if err != nil {
		return nil, err
	}
	return h.text, nil
}

// image returns the file behind a handle, as one that lives on when the handle
// is closed. Its position is shared: read it with ReadAt.
func (t *handleTable) image(ctx context.Context, id int64, want handleType) (*os.File, int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.take(ctx, id, want)
	if err != nil {
		return nil, 0, err
	}
	fd, err := unix.FcntlInt(h.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("handle %d: %w", id, err)
	}
	return os.NewFile(uintptr(fd), h.file.Name()), h.size, nil
}
