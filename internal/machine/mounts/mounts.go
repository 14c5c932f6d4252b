// Package mounts mounts and unmounts file systems for the owner of a host: disks, and shares
// of other hosts.
//
// Each mount is a unit of systemd, which outlives tridentd and waits for the network. What
// systemd says of a unit is compared with the kernel's table of mounts, because the two can
// differ (a helper that ends without a mount, somebody else's umount). A mount at each boot is
// a unit file in /etc/systemd/system with a first line by which it is known as Trident's.
package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
)

// mountTime is how long a mount may take.
const mountTime = 90 * time.Second

// Units is the part of systemd that mounts. *systemd.Bus implements it.
type Units interface {
	StartMount(ctx context.Context, name string, m systemd.TransientMount) error
	Run(ctx context.Context, job systemd.Job, unit string) error
	Reload(ctx context.Context) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	ResetFailed(ctx context.Context, unit string) error
	Unit(ctx context.Context, unit string) (systemd.Unit, error)
}

// A Service mounts on a host.
type Service struct {
	Root  string // "/" on a host
	Units Units
	// Detach detaches a file system at once (MNT_DETACH of umount(2)).
	Detach func(where string) error
	// Said returns what a unit wrote into the journal since a time, or nothing.
	Said func(ctx context.Context, unit string, since time.Time) string

	mu     sync.Mutex
	places map[string]bool // where a call mounts or unmounts
}

// claim reserves a place for one call until release is called. Without it the undo of a failed
// call would remove the unit and the credentials of another one.
func (s *Service) claim(where string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[where] {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "another caller mounts or unmounts there at the moment"), "Wait until that call has ended.")
	}
	if s.places == nil {
		s.places = map[string]bool{}
	}
	s.places[where] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.places, where)
	}, nil
}

// What is read of the journal of a failed mount, and what an error quotes of it, in bytes. Each
// line of the journal names the unit once or twice, so its name may be most of the text.
const (
	journalBytes = 16 << 10
	saidBytes    = 512
)

// New returns a service that mounts on the host at root.
func New(root string, units Units, tools run.Runner) *Service {
	return &Service{
		Root: root, Units: units,
		Detach: func(where string) error { return unix.Unmount(where, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) },
		Said: func(ctx context.Context, unit string, since time.Time) string {
			text, err := systemd.JournalTail(ctx, tools, []string{unit}, since, journalBytes)
			if err != nil { // the error is complete without it
				return ""
			}
			return said(string(text))
		},
	}
}

// said returns the beginning of what the program mount said in lines of the journal, without
// their prefixes.
func said(journal string) string {
	var out []string
	for line := range strings.Lines(journal) {
		if _, text, ok := strings.Cut(line, " mount["); ok {
			_, text, _ = strings.Cut(text, "]: ")
			out = append(out, strings.TrimSpace(text))
		}
	}
	all := strings.Join(out, " ")
	if len(all) > saidBytes {
		return strings.ToValidUTF8(all[:saidBytes], "") + "…"
	}
	return all
}

func (s *Service) path(name string) string { return filepath.Join(s.Root, name) }

// table returns the kernel's table of mounts, in the order in which they were made.
func (s *Service) table() ([]*mountinfo.Info, error) {
	f, err := os.Open(s.path("/proc/self/mountinfo"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errkind.Errorf(errkind.Unsupported, "read the table of mounts: %s is not a running system", s.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	out, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	return out, nil
}

// mounted returns what is mounted at a place; the topmost if there are several.
func (s *Service) mounted(where string) (*mountinfo.Info, error) {
	all, err := s.table()
	if err != nil {
		return nil, err
	}
	return at(all, where), nil
}

func at(all []*mountinfo.Info, where string) *mountinfo.Info {
	var out *mountinfo.Info
	for _, m := range all {
		if m.Mountpoint == where {
			out = m
		}
	}
	return out
}

// unitOf returns the name of the mount unit of a place.
func unitOf(where string) string { return systemd.EscapePath(where) + ".mount" }

// below reports whether a path is a folder or lies in it.
func below(path, folder string) bool {
	return path == folder || folder == "/" || strings.HasPrefix(path, folder+"/")
}
