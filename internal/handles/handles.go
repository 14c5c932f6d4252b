// Package handles keeps the inputs that clients have opened: images and Host
// Configurations that a client sends once and names by a number in later calls.
//
// A handle belongs to the connection that opened it and ends with it. An operation that
// already reads a handle can read on after the handle is closed.
package handles

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
	MaxOpen     = 16      // handles of one connection
	MaxBytes    = 4 << 30 // bytes of all handles of one connection
	MaxConfig   = 1 << 20 // bytes of one Host Configuration
	MaxImage    = 2 << 30 // bytes of one image
	maxAllOpen  = 64
	maxAllBytes = 8 << 30
)

// folder is the folder of uploads while a handle holds them.
const folder = "var/lib/trident/handles"

// A Kind is the type of a handle, in words for errors.
type Kind string

// The kinds of handles.
const (
	Config       Kind = "Host Configuration"
	Sysext       Kind = "sysext image"
	Confext      Kind = "confext image"
	Trident      Kind = "Trident image"
	COSIMetadata Kind = "COSI metadata file"
)

// An Owner is a connection that opens handles. Equal owners are the same connection.
type Owner interface {
	// Life returns a context that ends with the connection.
	Life() context.Context
	// Use keeps the connection from being ended as idle until done is called. ok is false
	// if the connection is ending already.
	Use() (done func(), ok bool)
}

// handle is one opened input. Its file has no name any more, so the kernel frees the
// space when the last reader closes it or the daemon dies.
type handle struct {
	owner  Owner
	kind   Kind
	bytes  int64 // counted against the limits
	size   int64
	text   []byte   // of a configuration
	file   *os.File // of an image
	forget func() bool
	end    func() // lets the daemon and the connection become idle
}

// A Table has the handles of all connections. Their numbers rise from a random one, so
// that a number of an earlier daemon is not valid in this one.
type Table struct {
	root  string
	begin func() (end func())
	first int64

	mu    sync.Mutex
	next  int64
	open  map[int64]*handle
	swept bool
}

// New returns an empty table of the daemon that services the tree at root. The table
// calls begin for each handle, and the returned end when the handle is closed, because
// the daemon must not exit as idle while a handle is open.
func New(root string, begin func() (end func())) *Table {
	first := 1 + rand.Int64N(1<<52) // every language has exact numbers of this size
	return &Table{root: root, begin: begin, first: first, next: first, open: map[int64]*handle{}}
}

// makeFolder makes the folder for uploads. At its first call it deletes the named files
// of an earlier daemon.
func (t *Table) makeFolder() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	path := filepath.Join(t.root, folder)
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

// reserve makes a handle that counts against the limits and that no call can use yet. It
// ends with the connection of its owner.
func (t *Table) reserve(owner Owner, kind Kind, bytes int64) (int64, *handle, error) {
	if owner == nil {
		return 0, nil, errkind.Errorf(errkind.Internal, "open a handle: the connection is not known")
	}
	h := &handle{owner: owner, kind: kind}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.room(owner, 1, 0); err != nil {
		return 0, nil, err
	}
	if err := t.room(owner, 0, bytes); err != nil {
		return 0, nil, err
	}
	done, ok := owner.Use()
	if !ok {
		return 0, nil, errkind.Errorf(errkind.Cancelled, "open a handle: the connection has ended")
	}
	end := t.begin()
	h.bytes, h.end = bytes, func() { end(); done() }
	id := t.next
	t.next++
	t.open[id] = h
	h.forget = context.AfterFunc(owner.Life(), func() { t.free(id) })
	return id, h, nil
}

// grow raises the counted bytes of a handle.
func (t *Table) grow(h *handle, bytes int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if bytes <= h.bytes {
		return nil
	}
	if err := t.room(h.owner, 0, bytes-h.bytes); err != nil {
		return err
	}
	h.bytes = bytes
	return nil
}

// room fails with TooLarge if count more handles, or bytes more bytes, are over a limit.
// The caller holds t.mu.
func (t *Table) room(owner Owner, count int, bytes int64) error {
	var mine, all int
	var mineBytes, allBytes int64
	for _, h := range t.open {
		all++
		allBytes += h.bytes
		if h.owner == owner {
			mine++
			mineBytes += h.bytes
		}
	}
	full := func(format string, args ...any) error {
		return errkind.WithHint(errkind.Errorf(errkind.TooLarge, "open a handle: "+format, args...), "close handles that are not needed any more")
	}
	switch {
	case mine+count > MaxOpen:
		return full("this connection has %d open, and may have %d", mine, MaxOpen)
	case all+count > maxAllOpen:
		return full("%d are open, and %d may be", all, maxAllOpen)
	case bytes > MaxBytes-mineBytes:
		return full("those of this connection hold %d bytes, and with %d more it would be over %d", mineBytes, bytes, int64(MaxBytes))
	case bytes > maxAllBytes-allBytes:
		return full("all that are open hold %d bytes, and with %d more it would be over %d", allBytes, bytes, int64(maxAllBytes))
	}
	return nil
}

// free ends a handle, if it has not ended.
func (t *Table) free(id int64) {
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

// publish fills a reserved handle. It fails with Cancelled if its connection has ended.
func (t *Table) publish(id int64, fill func(*handle)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.open[id]
	if !ok {
		return errkind.Errorf(errkind.Cancelled, "open a handle: the connection has ended")
	}
	fill(h)
	return nil
}

// take returns a handle of owner that is of the kind want, or of any kind if want is
// empty. The caller holds t.mu.
func (t *Table) take(owner Owner, id int64, want Kind) (*handle, error) {
	h, ok := t.open[id]
	switch {
	case id <= 0:
		return nil, errkind.Errorf(errkind.Invalid, "handle %d: a handle is a number greater than 0", id)
	case !ok && t.first <= id && id < t.next:
		return nil, errkind.WithHint(errkind.Errorf(errkind.NotFound, "handle %d: it is closed", id), "open it again")
	case !ok:
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.NotFound, "handle %d: this daemon has not opened it", id), "open it again: handles end with their daemon")
	case h.owner != owner:
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.NotFound, "handle %d: it belongs to another connection", id), "open it on the connection that uses it")
	case want != "" && (want != h.kind || h.file == nil && h.text == nil):
		return nil, errkind.Errorf(errkind.Invalid, "handle %d: it names a %s, and the call needs a %s", id, h.kind, want)
	}
	return h, nil
}

// Close frees a handle of owner.
func (t *Table) Close(owner Owner, id int64) error {
	t.mu.Lock()
	_, err := t.take(owner, id, "")
	t.mu.Unlock()
	if err != nil {
		return err
	}
	t.free(id)
	return nil
}

// Config returns the text of the Host Configuration behind a handle of owner.
func (t *Table) Config(owner Owner, id int64) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.take(owner, id, Config)
	if err != nil {
		return nil, err
	}
	return h.text, nil
}

// Image returns the file behind a handle of owner, and its size. The caller closes the
// file, and can read it after the handle is closed. Handles share the position: read with
// ReadAt.
func (t *Table) Image(owner Owner, id int64, want Kind) (*os.File, int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.take(owner, id, want)
	if err != nil {
		return nil, 0, err
	}
	fd, err := unix.FcntlInt(h.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("handle %d: %w", id, err)
	}
	return os.NewFile(uintptr(fd), h.file.Name()), h.size, nil
}
