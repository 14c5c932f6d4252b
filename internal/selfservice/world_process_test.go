package selfservice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

// startDaemon starts what lies in /usr/bin, as systemd would.
func (w *world) startDaemon() {
	w.usr.Lock()
	text, err := os.ReadFile(filepath.Join(w.disk.root, extension.OwnDaemon))
	w.usr.Unlock()
	if err != nil {
		w.t.Error(err)
		return
	}
	var version string
	var b behaviour
	if _, err := fmt.Sscanf(string(text), "version=%s behaviour=%s", &version, &b); err != nil {
		w.t.Error(err)
		return
	}
	w.Mu.Lock()
	defer w.Mu.Unlock()
	if !w.on {
		return
	}
	w.pids++
	p := &process{w: w, version: version, pid: w.pids}
	w.daemon = p
	w.unit.Active, w.unit.MainPID, w.unit.Invocation = "activating", uint32(p.pid), p.run()
	switch b {
	case exits:
		w.spawn(func() { w.failToStart(p, 250*time.Millisecond) })
	case hangs:
		w.spawn(func() { w.failToStart(p, 30*time.Second) })
	case unstartable:
		w.unit.Active = "failed"
	case lies:
		p.version = "9.9.9"
		w.spawn(func() { w.serveUntilCrash(p, 0) })
	case crashes:
		w.spawn(func() { w.serveUntilCrash(p, 4*time.Second) })
	default:
		w.spawn(func() { w.serveUntilCrash(p, 0) })
	}
}

// failToStart is a start that comes to nothing after a while.
func (w *world) failToStart(p *process, after time.Duration) {
	time.Sleep(after)
	w.restartOnFailure(p)
}

func (p *process) run() string { return fmt.Sprintf("%032x", p.pid) }

// restartOnFailure is what Restart=on-failure does.
func (w *world) restartOnFailure(p *process) {
	w.Mu.Lock()
	same := w.on && w.daemon == p
	p.dead = true
	if same && !w.killed[p] {
		w.exits = append(w.exits, rescue.Exit{Run: p.run()})
	}
	if same {
		w.unit.Active, w.unit.MainPID = "activating", 0
	}
	w.Mu.Unlock()
	time.Sleep(250 * time.Millisecond) // RestartSec=
	w.Mu.Lock()
	same = w.on && w.daemon == p
	if same {
		w.unit.Restarts++
	}
	w.Mu.Unlock()
	if same {
		w.startDaemon()
	}
}

// serveUntilCrash is a daemon that comes up, and may crash after a while.
func (w *world) serveUntilCrash(p *process, crash time.Duration) {
	w.Mu.Lock()
	w.life++
	life := operation.Life{Boot: fmt.Sprint(w.boot), Process: fmt.Sprint(w.life)}
	root := w.disk.root
	w.Mu.Unlock()
	runner := operation.New(context.Background(), operation.Config{
		Journal: journalOf{p}, Life: life, Logger: slog.New(slog.DiscardHandler),
		Unsettled: func(is bool) error {
			return w.touch(p, "mark", func() error { w.Mu.Lock(); w.marked = is; w.Mu.Unlock(); return nil })
		},
	})
	s := New(Config{
		Grace: w.grace,
		Root:  root, Version: p.version, Runner: runner, Store: storeOf{p}, Systemd: systemdOf{p}, Logger: slog.New(slog.DiscardHandler),
		Tools: run.Func(w.runTool), SelfCheck: w.version, Now: w.clockTime, Built: w.built, Clock: w.bootClock, IsSocketDown: w.isSocketDown,
		Touch: func(name string, change func() error) error { return w.touch(p, name, change) },
	})
	s.images.Whole = w.counted
	w.Mu.Lock()
	if p.dead || !w.on {
		w.Mu.Unlock()
		return
	}
	p.runner, p.service = runner, s
	w.unit.Active = "active"
	w.Mu.Unlock()
	if err := runner.Resume(context.Background()); err == nil {
		if err := s.Retire(context.Background()); err != nil && !errors.Is(err, errDead) && w.hurt == nil {
			w.t.Errorf("retire: %v", err)
		}
	}
	if crash > 0 {
		time.Sleep(crash)
		w.kill(p)
		w.restartOnFailure(p)
	}
}

// killDaemon is kill -9.
func (w *world) killDaemon() {
	w.Mu.Lock()
	p := w.daemon
	if !w.on || p == nil || p.dead {
		w.Mu.Unlock()
		return
	}
	if w.killed == nil {
		w.killed = map[*process]bool{}
	}
	w.killed[p] = true
	w.exits = append(w.exits, rescue.Exit{Run: p.run(), Killed: true})
	w.Mu.Unlock()
	w.kill(p)
	w.restartOnFailure(p)
}

var (
	errKilled  = errors.New("killed")
	errForGood = errors.New("killed, and its unit removed")
)

// killRescuer is kill -9.
func (w *world) killRescuer() {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	for _, kill := range w.watching {
		kill(errKilled)
	}
}

func (w *world) isSocketDown() bool {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	return w.noSocket
}

// kill ends a process without asking it.
func (w *world) kill(p *process) {
	w.Mu.Lock()
	p.dead = true
	w.Mu.Unlock()
	w.reap(p)
}

// reap lets the goroutines of a process end.
func (w *world) reap(p *process) {
	if p != nil && p.runner != nil {
		if err := p.runner.Shutdown(context.Background()); err != nil {
			w.t.Error(err)
		}
	}
}

// restart is what a restart job of tridentd.service does: SIGTERM, then a start.
func (w *world) restart() {
	w.Mu.Lock()
	p := w.daemon
	w.daemon, w.noSocket = nil, false
	w.unit.Restarts = 0
	w.Mu.Unlock()
	w.reap(p)
	w.Mu.Lock()
	if p != nil {
		p.dead = true
	}
	w.Mu.Unlock()
	w.startDaemon()
}

// watch runs a rescuer, and runs it again when it fails, as its unit says.
func (w *world) watch(unit string) {
	ctx, kill := context.WithCancelCause(context.Background())
	w.Mu.Lock()
	w.watching[unit] = kill
	root := w.disk.root
	boot := w.boot
	w.Mu.Unlock()
	w.spawn(func() {
		defer kill(nil)
		file := rescue.File{Dir: filepath.Join(root, rescue.Dir), Root: root, Clock: w.bootClock}
		err := rescue.Watch(ctx, file, rescuerOf{w, root, boot, ctx})
		if err != nil {
			time.Sleep(time.Second)
		}
		w.Mu.Lock()
		again := w.boot == boot && w.on && err != nil && !errors.Is(context.Cause(ctx), errForGood)
		if w.boot == boot && !errors.Is(context.Cause(ctx), errForGood) {
			delete(w.watching, unit)
		}
		w.Mu.Unlock()
		if again {
			w.watch(unit)
		}
	})
}
