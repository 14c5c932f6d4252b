// Package selfservice services Trident itself: a new version arrives as a signed
// system extension, and Trident verifies it, tries it, and keeps it or rolls back.
//
// All operations are slices of one list of steps (see steps in upgrade.go): stage,
// upgrade, activate, roll back, retire. The daemon that begins an upgrade is not
// the daemon that finishes it, and a third process, the rescuer (package rescue),
// judges the new version from outside. Each of the three may die at any moment; so
// what they tell each other is on disk, in the journal and in the rescuer's
// record. The host may lose its power at any moment as well: every change of the
// host goes through Service.touch, and the power-cut test stops the world before
// and after each.
package selfservice

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
	"github.com/trident-project/trident/internal/systemd"
)

// Defaults and bounds of a trial.
const (
	defaultSoak     = 10 * time.Second
	defaultDeadline = 3 * time.Minute
	maxDeadline     = time.Hour
)

// Units that Trident restarts or reloads.
const (
	daemonUnit = "tridentd.service"
	sysextUnit = "systemd-sysext.service"
)

// Datastore stores the versions that failed on this host.
type Datastore interface {
	Block(context.Context, hoststate.Blocked) error
	Unblock(ctx context.Context, version string) error
	Blocked(context.Context) ([]hoststate.Blocked, error)
	// Snapshot writes a copy of the datastore to path, for a candidate to read.
	Snapshot(ctx context.Context, path string) error
}

// Config has all that a Service needs.
type Config struct {
	// Root is the root folder of the host, "/".
	Root string
	// Version is the version of this process.
	Version string
	Runner  *operation.Runner
	Store   Datastore
	Systemd systemd.Manager
	// Tools runs the candidate, and journalctl.
	Tools run.Runner
	// Fixed, if set, says why no other version can replace this one. Stage, Upgrade, Activate
	// and Rollback fail with it, and so do the images of Trident in a configuration.
	Fixed error
	// SelfCheck asks for the version of the daemon through the real socket.
	SelfCheck func(context.Context) (string, error)
	Logger    *slog.Logger
	// Now is the clock of the host; nil is time.Now. Built is the date of this
	// version's sources, or zero. A time before Built is wrong, so Built counts in
	// its place.
	Now   func() time.Time
	Built time.Time
	// Grace returns for how long an image stays that a rollback returned to until a new
	// version was kept. Nil means not at all. After an error the image stays.
	Grace func(context.Context) (time.Duration, error)
	// IsSocketDown reports whether SelfCheck fails because the socket is missing.
	// Nil asks the host; tests replace it.
	IsSocketDown func() bool
	// Clock is the clock of the rescuer's record; nil asks the kernel. Tests replace
	// it.
	Clock func() (boot string, up time.Duration)
	// Touch, if set, is called in place of each change of the host, with the name of
	// the change and the change itself. The power-cut test sets it.
	Touch func(name string, change func() error) error
}

// Service services Trident on one host.
type Service struct {
	Config
	dir     string // the store
	trial   rescue.File
	uploads sync.Map // of *Upload, by source.Upload
	images  *images.Store

	stage, upgrade, activate, rollback, retire operation.Starter[record]
}

// New makes the service and registers its operations with c.Runner.
func New(c Config) *Service {
	s := &Service{Config: c, dir: filepath.Join(c.Root, rescue.Dir)}
	s.images = &images.Store{Root: c.Root, Now: s.now, Touch: s.touch}
	s.trial = rescue.File{Dir: s.dir, Clock: c.Clock}
	all := s.steps()
	register := func(name string, steps []operation.Step[record]) operation.Starter[record] {
		return operation.Register(c.Runner, operation.Kind[record]{Name: name, Steps: steps})
	}
	s.stage = register("self-stage", operation.Until(all, "probe"))
	s.upgrade = register("self-upgrade", all)
	inStore := operation.From(all, "verify") // steps for an image that the store already has
	s.activate = register("self-activate", inStore)
	s.rollback = register("self-rollback", inStore)
	s.retire = register("self-retire", inStore)
	return s
}

// An Image is one version in the store.
type Image = images.Image

// A Trial says how long a version is tried, and what the caller allows. The zero
// value has the defaults.
type Trial struct {
	Soak             time.Duration `json:"soak"`     // how long the version must answer before Trident keeps it
	Deadline         time.Duration `json:"deadline"` // within which Trident must keep the version, counted from activation
	AllowDowngrade   bool          `json:"allow_downgrade"`
	AllowReadOnlyUsr bool          `json:"allow_read_only_usr"`
	// PauseBefore is a step before which the operation pauses (operation.WithPause), or "".
	PauseBefore string `json:"-"`
}

// The steps of Trial.PauseBefore. Before the first one, nothing has changed on the host.
// The rescuer's deadline includes a pause before the second one.
const (
	PauseBeforeActivate = "arm rescue"
	PauseBeforeRestart  = "restart"
)

func (t Trial) withDefaults() (Trial, error) {
	if t.Soak == 0 {
		t.Soak = defaultSoak
	}
	if t.Deadline == 0 {
		t.Deadline = max(defaultDeadline, 2*t.Soak)
	}
	switch {
	case t.Soak < 0 || t.Deadline < 0:
		return t, errkind.Errorf(errkind.Invalid, "soak %s and deadline %s must not be negative", t.Soak, t.Deadline)
	case t.Soak >= t.Deadline:
		return t, errkind.Errorf(errkind.Invalid, "the soak, %s, must be shorter than the deadline, %s", t.Soak, t.Deadline)
	case t.Deadline > maxDeadline:
		return t, errkind.Errorf(errkind.Invalid, "the deadline, %s, must be at most %s", t.Deadline, maxDeadline)
	case t.Deadline < time.Second:
		return t, errkind.Errorf(errkind.Invalid, "the deadline, %s, must be at least a second", t.Deadline)
	}
	return t, nil
}

// Stage begins an operation that fetches, verifies and probes an image, which
// stays in the store. It returns the operation's ID.
func (s *Service) Stage(ctx context.Context, src fetch.Source, allowDowngrade bool) (id string, err error) {
	r, err := s.newRecord(Trial{AllowDowngrade: allowDowngrade})
	if err != nil {
		return "", fmt.Errorf("stage trident: %w", err)
	}
	r.StageOnly = true
	return s.begin(ctx, s.stage, "stage trident from "+src.String(), src, r)
}

// Upgrade begins an operation that stages an image and activates it.
func (s *Service) Upgrade(ctx context.Context, src fetch.Source, t Trial) (id string, err error) {
	r, err := s.newRecord(t)
	if err != nil {
		return "", fmt.Errorf("upgrade trident: %w", err)
	}
	return s.begin(operation.WithPause(ctx, t.PauseBefore), s.upgrade, "upgrade trident from "+src.String(), src, r)
}

// Activate begins an operation that activates a staged version; "" is the newest
// one that is not active.
func (s *Service) Activate(ctx context.Context, version string, t Trial) (id string, err error) {
	r, err := s.newRecord(t)
	if err != nil {
		return "", fmt.Errorf("activate trident: %w", err)
	}
	if r.Version, err = s.images.StagedVersion(version); err != nil {
		return "", fmt.Errorf("activate trident: %w", err)
	}
	return idOf(s.activate(operation.WithPause(ctx, t.PauseBefore), "activate trident "+r.Version, r))
}

// Rollback begins an operation that returns to the previous version, or to the
// base. It cancels an operation that has only begun to fetch.
func (s *Service) Rollback(ctx context.Context, t Trial) (id string, err error) {
	t.AllowDowngrade, t.AllowReadOnlyUsr = true, true
	r, err := s.newRecord(t)
	if err != nil {
		return "", fmt.Errorf("roll trident back: %w", err)
	}
	target, err := s.images.RollbackTarget(ctx)
	if err == nil {
		err = s.Runner.Preempt(ctx, s.IsOnlyFetching)
	}
	if err != nil {
		return "", fmt.Errorf("roll trident back: %w", err)
	}
	r.Version, r.Base, r.Back, r.Note = target.Version, target.Base, true, target.Note
	return idOf(s.rollback(ctx, "roll trident back to "+target.String(), r))
}

// IsOnlyFetching reports whether op is an upgrade or a staging of Trident that is
// in its first step, fetch.
func (s *Service) IsOnlyFetching(op operation.Operation) bool {
	return (op.Kind == "self-upgrade" || op.Kind == "self-stage") && op.Step == "fetch"
}

// retireAttempts is how often Trident tries to retire to a base that fails.
const retireAttempts = 3

// Retire begins an operation that returns to the base if the base is at least as
// new as the active extension. The daemon calls it once at its start. Trident
// tries a base that failed again in the next boot, and after retireAttempts
// failures only once the base has another version.
func (s *Service) Retire(ctx context.Context) error {
	if _, busy := s.Runner.Active(); busy || s.Fixed != nil {
		return nil
	}
	base, newer, err := s.images.BaseIsNewer()
	if err != nil || !newer {
		return err
	}
	if tried, err := s.hasRetireFailed(ctx, base); err != nil || tried {
		return err
	}
	r, err := s.newRecord(Trial{AllowDowngrade: true, AllowReadOnlyUsr: true})
	if err != nil {
		return err
	}
	r.Version, r.Base, r.Back = base, true, true
	_, err = s.retire(ctx, "retire the extension: the base brings trident "+base, r)
	return err
}

// hasRetireFailed reports whether retiring to base has failed in this boot, or in
// the last retireAttempts attempts.
func (s *Service) hasRetireFailed(ctx context.Context, base string) (bool, error) {
	ops, err := s.Runner.List(ctx, 10*historyDepth, false)
	if err != nil {
		return false, fmt.Errorf("read history of trident: %w", err)
	}
	failed := 0
	for _, op := range ops {
		var r record
		if op.Kind != "self-retire" || json.Unmarshal(op.State, &r) != nil || r.Version != base {
			continue
		}
		if op.Phase != operation.Undone {
			break
		}
		if failed++; failed >= retireAttempts || r.BegunIn == s.Runner.Life.Boot {
			return true, nil
		}
	}
	return false, nil
}

func (s *Service) newRecord(t Trial) (record, error) {
	if s.Fixed != nil {
		return record{}, s.Fixed
	}
	t, err := t.withDefaults()
	return record{Trial: t, From: s.Version, Began: s.now(), BegunIn: s.Runner.Life.Boot}, err
}

// now returns the time of the host's clock, or the date of this version's sources
// if that is later.
func (s *Service) now() time.Time {
	now := time.Now()
	if s.Now != nil {
		now = s.Now()
	}
	if now.Before(s.Built) {
		return s.Built
	}
	return now
}

func (s *Service) begin(ctx context.Context, start operation.Starter[record], summary string, src fetch.Source, r record) (string, error) {
	r.Source = sourceOf(src)
	if err := checkSource(src); err != nil {
		return "", err
	}
	if src.Upload != nil {
		// Only this process can read the bytes: the next daemon cannot resume the upload.
		r.Source.UploadSize, r.Source.Upload = src.UploadSize, rand.Text()
		s.uploads.Store(r.Source.Upload, src.Upload)
	}
	id, err := idOf(start(ctx, summary, r))
	if err != nil {
		s.uploads.Delete(r.Source.Upload)
	}
	return id, err
}

func idOf(op operation.Operation, err error) (string, error) { return op.ID, err }

// touch makes one named change of the host.
func (s *Service) touch(name string, change func() error) error {
	if s.Touch == nil {
		return change()
	}
	return s.Touch(name, change)
}

// Places returns the absolute paths of the files and folders of a host that Trident needs
// to replace itself and to roll back.
func Places() []string {
	return []string{"/" + rescue.Dir, "/" + rescue.Link, "/" + rescue.BootUnitPath, "/" + rescue.BootWantsPath}
}
