package systemd_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func TestTheBusPassesTheSuiteWithAPeer(t *testing.T) {
	systemdtest.Suite(t, func(t *testing.T) systemdtest.Host {
		p := newPeer(t, &systemdtest.Fake{})
		return systemdtest.Host{
			Manager: systemd.Connect(life(t), p.socket),
			Define:  func(_ testing.TB, d systemdtest.Definition) { p.Define(d) },
		}
	})
}

func wantKind(t *testing.T, err error, kind errkind.Kind, words string) {
	t.Helper()
	if err == nil || errkind.Of(err) != kind || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v (kind %s), want kind %s and %q", err, errkind.Of(err), kind, words)
	}
}

func TestAMissingSystemdIsUnavailable(t *testing.T) {
	bus := systemd.Connect(t.Context(), filepath.Join(t.TempDir(), "none"))
	wantKind(t, bus.Restart(t.Context(), "a.service"), errkind.Unavailable, "restart a.service: connect to systemd: ")
	wantKind(t, bus.Reload(t.Context()), errkind.Unavailable, "reload unit files: connect to systemd: ")
	_, err := bus.Unit(t.Context(), "a.service")
	wantKind(t, err, errkind.Unavailable, "a.service")
}

func TestAConnectionLostDuringAJobIsUnavailableAndTheNextCallConnectsAnew(t *testing.T) {
	fake := &systemdtest.Fake{}
	fake.Define(systemdtest.Definition{Name: "hangs.service", Hang: true})
	p := newPeer(t, fake)
	queued := make(chan struct{})
	fake.Hook = func(_ context.Context, c systemdtest.Call) error {
		if c.Method == "ReloadOrRestart" {
			close(queued)
		}
		return nil
	}
	bus := systemd.Connect(t.Context(), p.socket)
	waited := make(chan error)
	go func() { waited <- bus.ReloadOrRestart(t.Context(), "hangs.service") }()
	<-queued
	p.drop()
	wantKind(t, <-waited, errkind.Unavailable, "reload or restart hangs.service: ")

	if u, err := bus.Unit(t.Context(), "hangs.service"); err != nil || u.Active != "activating" {
		t.Errorf("after the loss: %+v, %v", u, err)
	}
	if n := p.dialled(); n != 2 {
		t.Errorf("%d connections, want one for calls and one for signals", n)
	}
}

func TestAConnectionThatWasLostBetweenCallsIsNotNoticed(t *testing.T) {
	p := newPeer(t, &systemdtest.Fake{})
	p.Define(systemdtest.Definition{Name: "a.service"})
	bus := systemd.Connect(t.Context(), p.socket)
	for i := range 50 {
		if err := bus.ReloadOrRestart(t.Context(), "a.service"); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		p.drop()
	}
}

func TestACallDoesNotWaitForAnotherThatConnects(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "silent")
	l := listen(t, socket)
	bus := systemd.Connect(t.Context(), socket)
	first, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- bus.Reload(first) }()
	if _, err := l.Accept(); err != nil { // it connects, and is not answered
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantKind(t, bus.Reload(short), errkind.Timeout, "reload unit files")
	end()
	wantKind(t, <-done, errkind.Cancelled, "reload unit files")
}

func TestOneConnectionServesAllCalls(t *testing.T) {
	p := newPeer(t, &systemdtest.Fake{})
	bus := systemd.Connect(t.Context(), p.socket)
	if p.dialled() != 0 {
		t.Error("dialled before the first call")
	}
	for range 5 {
		if err := bus.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.dialled(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestTheConnectionOutlivesTheContextOfACallAndEndsWithItsOwn(t *testing.T) {
	p := newPeer(t, &systemdtest.Fake{})
	life, end := context.WithCancel(t.Context())
	defer end()
	bus := systemd.Connect(life, p.socket)
	call, cancel := context.WithCancel(t.Context())
	if err := bus.Reload(call); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := bus.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := p.dialled(); n != 2 {
		t.Errorf("%d connections: the first did not outlive its call", n)
	}
	end()
	wantKind(t, bus.Reload(t.Context()), errkind.Unavailable, "reload unit files")
}

func TestAJobThatNobodyReportsEndsWithTheContext(t *testing.T) {
	p := newPeer(t, &systemdtest.Fake{})
	p.Define(systemdtest.Definition{Name: "a.service"})
	p.mute = true
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := systemd.Connect(t.Context(), p.socket).ReloadOrRestart(ctx, "a.service")
	wantKind(t, err, errkind.Timeout, "reload or restart a.service: context deadline exceeded")
}

func TestAPeerThatNeverAnswersTheHandshakeEndsWithTheContext(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "silent")
	listen(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantKind(t, systemd.Connect(t.Context(), socket).Reload(ctx), errkind.Timeout, "reload unit files")
}

func TestErrorsOfSystemdGetTheirKind(t *testing.T) {
	for name, want := range map[string]errkind.Kind{
		"org.freedesktop.systemd1.NoSuchUnit":               errkind.NotFound,
		"org.freedesktop.systemd1.UnitExists":               errkind.Exists,
		"org.freedesktop.systemd1.UnitMasked":               errkind.Precondition,
		"org.freedesktop.systemd1.LoadFailed":               errkind.Precondition,
		"org.freedesktop.DBus.Error.AccessDenied":           errkind.Denied,
		"org.freedesktop.DBus.Error.InvalidArgs":            errkind.Invalid,
		"org.freedesktop.DBus.Error.NoReply":                errkind.Timeout,
		"org.freedesktop.DBus.Error.LimitsExceeded":         errkind.Unavailable,
		"org.freedesktop.systemd1.ShuttingDown":             errkind.Unavailable,
		"org.freedesktop.systemd1.TransactionIsDestructive": errkind.Unavailable,
		"org.example.Other":                                 errkind.Internal,
	} {
		fake := &systemdtest.Fake{}
		p := newPeer(t, fake)
		fake.Hook = func(context.Context, systemdtest.Call) error { return rawError(name) }
		err := systemd.Connect(t.Context(), p.socket).ReloadOrRestart(t.Context(), "a.service")
		if errkind.Of(err) != want || !strings.Contains(err.Error(), "reload or restart a.service: ") {
			t.Errorf("%s: got %v (kind %s), want kind %s", name, err, errkind.Of(err), want)
		}
	}
}

func rawError(name string) error { return dbus.NewError(name, []any{"because"}) }

func TestAJobThatWasReplacedMayBeTriedAgain(t *testing.T) {
	p := newPeer(t, &systemdtest.Fake{})
	p.Define(systemdtest.Definition{Name: "a.service", Start: "canceled"})
	wantKind(t, systemd.Connect(t.Context(), p.socket).ReloadOrRestart(t.Context(), "a.service"), errkind.Unavailable, "canceled")
}

func TestEnablingAUnitReachesSystemd(t *testing.T) {
	p := newPeer(t, &systemdtest.Fake{Release: 255})
	p.Define(systemdtest.Definition{Name: "a.service"})
	bus := systemd.Connect(t.Context(), p.socket)
	if err := bus.Enable(t.Context(), "a.service"); err != nil || !p.Enabled("a.service") {
		t.Errorf("enabled: %v, %v", p.Enabled("a.service"), err)
	}
	if v, err := bus.Version(t.Context()); v != 255 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
}
