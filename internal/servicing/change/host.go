// Package change has what changes of the running system and of the other slot share: the
// host and its folders, steps that describe their effects, plans, the recorded status, and
// the files, networks and extensions that a Host Configuration names.
package change

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/systemd"
)

// Host is the host that is serviced, and what servicing keeps on it. Make one with New.
type Host struct {
	Root    string // the root folder of the host, "/"
	Version string // of this process; it is recorded with every status
	// HostID returns the public name of the host, or "" if it has none; nil: it has none.
	HostID  func() string
	Runner  *operation.Runner
	Store   *hoststate.Store
	Systemd systemd.Manager
	// Tools runs netplan and journalctl.
	Tools      run.Runner
	Extensions *extension.Store // nil makes the one of Root

	// CarriedBySlots returns the extensions that the images of both slots carry. The slots may
	// share the store, and the links of one slot are not visible in the other. nil: none.
	CarriedBySlots func(context.Context) (extension.Generation, error)
	Logger         *slog.Logger
	// Soak is how long a unit of a health check has to stay active after it became active;
	// 0 means 10 s.
	Soak time.Duration
	// Places are files and folders, as the host sees them, that Trident needs and that no
	// configuration may overwrite, besides those of this package.
	Places []string
	// Touch changes the host: it calls change, which has this name. Nil calls change and
	// does nothing else. For the power-cut test.
	Touch func(name string, change func() error) error
	// EtcIsReadOnly reports whether merged confexts make /etc of the OS below root
	// read-only. Nil asks the OS. For tests.
	EtcIsReadOnly func(root string) (bool, error)

	// scratch is the folder of a rehearsal, which has its own copies of everything. It is
	// "" outside of a rehearsal.
	scratch string
}

// New returns a Host like h, with defaults for the functions of h that are nil.
func New(h Host) *Host {
	if h.Touch == nil {
		h.Touch = func(_ string, change func() error) error { return change() }
	}
	if h.EtcIsReadOnly == nil {
		h.EtcIsReadOnly = etcIsReadOnly
	}
	if h.HostID == nil {
		h.HostID = func() string { return "" }
	}
	if h.Extensions == nil {
		h.Extensions = &extension.Store{Root: h.Root, Systemd: h.Systemd, Tools: h.Tools, Touch: h.Touch}
	}
	return &h
}

// Logger logs for the watchers of an operation. An operation.Run is a Logger.
type Logger interface {
	Logf(level slog.Level, format string, args ...any)
}

// Rehearse calls use with a copy of h for the checks that a step makes before it changes
// the host. Files that these checks write go into a folder below /run, which Rehearse
// deletes at the end.
func (h *Host) Rehearse(use func(dry *Host) error) (err error) {
	const dir = "run/trident"
	if err := os.MkdirAll(filepath.Join(h.Root, dir), 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Join(h.Root, dir), "plan-")
	if err != nil {
		return errkind.WithHint(err, "The folder /%s has to be writable.", dir)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	dry := *h
	dry.Touch, dry.scratch = nil, scratch
	return use(New(dry))
}

// IsRehearsal reports whether Rehearse made h, so that checks change nothing.
func (h *Host) IsRehearsal() bool { return h.scratch != "" }

// Dir, below the root folder, has the folders that WorkDir and StagedDir return.
const Dir = "var/lib/trident/servicing"

// UnsettledMark, below the root folder, exists while an operation is unsettled:
// tridentd-resume.path starts the daemon at boot if it exists.
const UnsettledMark = "var/lib/trident/unsettled"

// WorkDir returns the folder for copies of what an operation changes, and its scripts.
func (h *Host) WorkDir(id string) string { return filepath.Join(h.folders(), id) }

// StagedDir returns the folder for copies of the source files of the staged configuration.
func (h *Host) StagedDir() string { return filepath.Join(h.folders(), "staged") }

func (h *Host) folders() string {
	if h.scratch != "" {
		return h.scratch
	}
	return filepath.Join(h.Root, Dir)
}

// OnHost returns the path at which processes of the host see a path below the root folder.
func (h *Host) OnHost(path string) string {
	rel, err := filepath.Rel(h.Root, path)
	if err != nil {
		return path
	}
	return "/" + rel
}

// Tidy deletes the folders of operations, and every extension that no configuration needs:
// neither runs, that of the host, nor one to which the host can roll back, and that no image of
// a slot carries. It only logs an
// error; extensions and folders that it cannot delete stay.
func (h *Host) Tidy(ctx context.Context, r Logger, runs *hostconfig.Config) {
	needed := generation(runs)
	chain, err := h.Store.Chain(ctx)
	for _, l := range chain {
		c, perr := hostconfig.ParseRecorded([]byte(l.Spec))
		if err = errors.Join(err, perr); perr == nil {
			needed = append(needed, generation(c)...)
		}
	}
	if h.CarriedBySlots != nil {
		carried, cerr := h.CarriedBySlots(ctx)
		needed, err = append(needed, carried...), errors.Join(err, cerr)
	}
	if err == nil {
		err = h.Extensions.Prune(needed)
	}
	if err = errors.Join(err, h.Touch("remove work folders", h.sweep)); err != nil {
		r.Logf(slog.LevelWarn, "extensions or folders that are not needed any more stay: %v", err)
	}
}

// sweep deletes all folders in Dir, at the end of an operation.
func (h *Host) sweep() error {
	entries, err := os.ReadDir(filepath.Join(h.Root, Dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(h.Root, Dir, e.Name())))
	}
	return errors.Join(errs...)
}

// rebootTime limits the request of a reboot: systemd may stop this process before it
// answers.
const rebootTime = 10 * time.Second

// Reboot requests the reboot of the host, even if ctx has ended.
func (h *Host) Reboot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebootTime)
	defer cancel()
	return errkind.WithName(h.Touch("reboot", func() error { return h.Systemd.Reboot(ctx) }), errkind.NameReboot)
}

// Sleep returns after d, or when ctx ends, and then an error of kind Cancelled.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errkind.With(errkind.Cancelled, context.Cause(ctx))
	}
}
