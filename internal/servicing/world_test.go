package servicing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/oplog"
	"github.com/trident-project/trident/internal/servicing/runtime"
	"github.com/trident-project/trident/internal/servicing/slots"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/rebuild"
	"github.com/trident-project/trident/internal/servicing/slots/wholedisk"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
	"github.com/trident-project/trident/internal/updates"
)

// world is a host: a disk, a systemd that merges what it finds and runs scripts, a
// netplan, a daemon, and a power switch.
type world struct {
	t       testing.TB
	gallery *gallery

	hosttest.Power
	root string // the disk
	on   bool
	boot int
	left string // the disk that the cut left

	systemd *systemdtest.Fake
	daemon  *process
	ran     []string // scripts
	ends    *endings
	lives   int  // counts processes
	lies    bool // the new daemon says that it is another version
	logs    bool // servicings leave their logs
	changes sync.WaitGroup
}

// process is one run of the daemon. It has the power of its boot.
type process struct {
	w       *world
	dead    bool
	store   *hoststate.Store
	runner  *operation.Runner
	service *Service
}

func tempDir(t testing.TB) string { return hosttest.TempDir(t) }

// tellsOf reports whether the last error of a host is the failure of an operation,
// without the step.
func tellsOf(last *hoststate.LastError, op operation.Operation) bool {
	return op.Failure.Message == op.Reached+": "+last.Message
}

const datastore = "var/lib/trident/datastore.sqlite"

func newWorld(t testing.TB, g *gallery) *world {
	w := &world{t: t, gallery: g, root: tempDir(t)}
	w.write("usr/lib/os-release", "ID=debian\nVERSION_ID=13\nCONFEXT_LEVEL=2\n")
	w.write("etc/netplan/50-vendor.yaml", "network: {version: 2}\n")
	w.write("etc/cloud/cloud.cfg.d/10-vendor.cfg", "vendor\n")
	w.write("srv/source", "from a source\n")
	w.write(extension.OwnDaemon, daemonText(baseVersion))
	w.write(extension.OwnRescuer, "rescuer")
	w.write(rescue.Base, `{"version":"`+baseVersion+`"}`)
	w.write("usr/lib/trident/trust.d/maker.crt", g.cert)
	for _, p := range g.all {
		w.write("srv/"+p.sha, string(p.data))
	}
	hosttest.MakeReadable(t, w.root)
	return w
}

func (w *world) write(name, text string) { write(w.t, filepath.Join(w.root, name), text) }

func (w *world) text(name string) string { return hosttest.Text(w.t, filepath.Join(w.root, name)) }

// newService makes a service from its parts, as package daemon does.
func newService(h change.Host, m machine.Machine, self *selfservice.Service) *Service {
	h.Places = slices.Concat(slots.Places(), selfservice.Places(), updates.Places())
	host := change.New(h)
	logs := &oplog.Log{Host: host}
	d := &disks.Disks{Host: host, Machine: m}
	a := rebuild.New(&loader.Loader{Host: host, Machine: m, Disks: d})
	return New(&runtime.Service{Host: host, Self: self}, slots.New(d, self.LinkInTree, logs.HandOver), &wholedisk.Service{Host: host, Disks: d}, a, logs)
}

// touch is a change of the host by p, at which the power may be cut.
func (w *world) touch(p *process, name string, change func() error) error {
	by := hosttest.Toucher{IsDead: func() bool { return p.dead }, Cut: func() { w.cut(p) }, Datastore: filepath.Join(w.root, datastore)}
	return w.Touch(by, name, func() error {
		switch name {
		case "write file", "remove file", "write network", "restore file":
			if closed, err := w.etcClosed(w.root); err != nil || closed {
				w.t.Errorf("%s while /etc is read-only, %v", name, err)
			}
		}
		return change()
	})
}

// cut switches the power off and sets aside what is on disk at this moment. The
// caller holds w.Mu.
func (w *world) cut(p *process) {
	w.on, p.dead = false, true
	root := tempDir(w.t)
	copyDisk(w.t, w.root, root, func(name string) bool { return strings.HasPrefix(name, datastore) })
	if err := p.store.Snapshot(context.Background(), filepath.Join(root, datastore)); err != nil {
		w.t.Error(err)
	}
	w.left = root
}

// copyDisk copies all but what is to be left out. Images in a store, which nobody
// changes, are shared; what is fetched is not: a link more is a change of a file to
// who reads it.
func copyDisk(t testing.TB, from, to string, leave func(name string) bool) {
	err := filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, file)
		if err != nil || name == "." || leave != nil && leave(name) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		copied := filepath.Join(to, name)
		switch {
		case d.IsDir():
			return errors.Join(os.Mkdir(copied, 0o755), os.Chmod(copied, 0o755)) // whatever the umask
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(file)
			return errors.Join(err, os.Symlink(target, copied))
		case strings.HasSuffix(name, ".raw") && !strings.HasPrefix(name, "srv/"):
			return os.Link(file, copied)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(copied, data, 0o600), os.Chmod(copied, info.Mode().Perm()))
	})
	if err != nil {
		t.Error(err)
	}
}

// powerOn boots what is on the disk, and starts the daemon.
func (w *world) powerOn() {
	w.Mu.Lock()
	if w.left != "" {
		w.root, w.left = w.left, ""
	}
	w.on = true
	w.boot++
	w.systemd = &systemdtest.Fake{}
	fake := w.systemd
	w.Mu.Unlock()
	for _, unit := range []string{"systemd-sysext.service", "systemd-confext.service", "tridentd.service"} {
		fake.Define(systemdtest.Definition{Name: unit, Oneshot: true, Reloads: true})
	}
	fake.Hook = func(ctx context.Context, c systemdtest.Call) error { return w.called(fake, c) }
	for _, class := range []extension.Class{extension.Sysext, extension.Confext} {
		_ = w.merge(class) // one that fails leaves the host without extensions until somebody mends it
	}
	w.applyNetwork()
	w.startDaemon()
}

func (w *world) startDaemon() {
	w.lives++
	p := &process{w: w}
	version := w.version()
	p.store, p.runner = openJournal(w.t, w.root, operation.Life{Boot: fmt.Sprint(w.boot), Process: fmt.Sprint(w.lives)})
	touch := func(name string, change func() error) error { return w.touch(p, name, change) }
	tools := run.Func(func(ctx context.Context, name string, args ...string) ([]byte, error) { return w.tool(name, args) })
	logger := slog.New(slog.DiscardHandler)
	self := selfservice.New(selfservice.Config{
		Root: w.root, Version: version, Runner: p.runner, Store: p.store, Systemd: w.systemd, Tools: tools, Logger: logger, Touch: touch,
		SelfCheck: func(context.Context) (string, error) {
			if w.lies && version != baseVersion {
				return "9.9.9", nil
			}
			return version, nil
		},
	})
	p.service = newService(change.Host{
		Root: w.root, Version: version, HostID: func() string { return w.text("etc/machine-id") }, Runner: p.runner, Store: p.store, Systemd: w.systemd, Tools: tools, Logger: logger, Touch: touch,
		EtcIsReadOnly: w.etcClosed,
	}, machine.Machine{}, self)
	if w.logs {
		p.runner.Observe = p.service.Logs.Observe
	}
	w.Mu.Lock()
	w.daemon = p
	w.Mu.Unlock()
	if err := p.runner.Resume(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// openJournal opens what a daemon has of its host from the start: the datastore, and the
// runner of the operations in it.
func openJournal(t testing.TB, root string, life operation.Life) (*hoststate.Store, *operation.Runner) {
	t.Helper()
	store, err := hoststate.Open(context.Background(), filepath.Join(root, datastore))
	if err != nil {
		t.Fatal(err)
	}
	return store, operation.New(context.Background(), operation.Config{Journal: store, Life: life, Logger: slog.New(slog.DiscardHandler)})
}

// closeJournal ends a daemon, whose power may be off.
func closeJournal(t testing.TB, store *hoststate.Store, runner *operation.Runner) {
	t.Helper()
	if err := errors.Join(runner.Shutdown(context.Background()), store.Close()); err != nil {
		t.Error(err)
	}
}

// etcClosed is true while confexts are merged.
func (w *world) etcClosed(root string) (bool, error) {
	names, err := extension.Confext.Merged(root)
	return len(names) > 0, err
}

// stopDaemon ends the process, whose power may be off.
func (w *world) stopDaemon() {
	closeJournal(w.t, w.daemon.store, w.daemon.runner)
}

// state is all that a configuration has to do with, by place.
func (w *world) state() map[string]string {
	out := map[string]string{}
	note := func(name string) {
		file := filepath.Join(w.root, name)
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			w.t.Error(err)
			return
		}
		if target, err := os.Readlink(file); err == nil {
			if _, err := os.Stat(file); err != nil {
				target += " dangling"
			}
			out[name] = "-> " + target
			return
		}
		if info.IsDir() {
			out[name] = "folder"
			return
		}
		out[name] = info.Mode().String() + " " + w.text(name)
	}
	for _, glob := range []string{"etc/*", "etc/*/*", "etc/*/*/*", "var/lib/extensions/*", "var/lib/confexts/*", "usr/.systemd-sysext/*", "usr/lib/extension-release.d/*", "run/network"} {
		names, err := filepath.Glob(filepath.Join(w.root, glob))
		if err != nil {
			w.t.Error(err)
		}
		for _, name := range names {
			rel, _ := filepath.Rel(w.root, name)
			note(rel)
		}
	}
	return out
}

func (w *world) parse(text string) *hostconfig.Config {
	w.t.Helper()
	c, report := hostconfig.Parse([]byte(text), rules.Check)
	if err := report.Err(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// set brings a configuration into effect with nothing in the way, and returns what
// the host is then.
func (w *world) set(text string) map[string]string {
	w.t.Helper()
	id, err := w.daemon.service.Update(context.Background(), UpdateRequest{Config: w.parse(text), Stage: true, Finalize: true})
	if err != nil {
		w.t.Fatal(err)
	}
	if op := w.finish(id); op.Phase != operation.Done {
		w.t.Fatalf("%s: %+v\n%v", op.Phase, op.Failure, w.Trace)
	}
	return w.state()
}

// finish waits for the end of an operation of a daemon that lives.
func (w *world) finish(id string) operation.Operation {
	w.t.Helper()
	for _, err := range w.daemon.runner.Watch(context.Background(), id, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	op, err := w.daemon.runner.Get(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return op
}

func diffStates(got, want map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			out = append(out, fmt.Sprintf("%s is %q, want %q", name, got[name], want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			out = append(out, fmt.Sprintf("%s is there: %q", name, got[name]))
		}
	}
	return strings.Join(out, "\n")
}
