package systemd_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

const manager = "org.freedesktop.systemd1.Manager"

// peer serves a systemdtest.Fake on a socket as PID 1 does on its private one.
type peer struct {
	*systemdtest.Fake
	socket string
	ctx    context.Context

	mu    sync.Mutex
	conns []*dbus.Conn
	jobs  int
	mute  bool // jobs are never removed
}

// life ends after the clean-ups of a test that come later, unlike t.Context.
func life(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx
}

func newPeer(t *testing.T, fake *systemdtest.Fake) *peer {
	t.Helper()
	p := &peer{Fake: fake, socket: filepath.Join(t.TempDir(), "private"), ctx: life(t)}
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := p.serve(conn); err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait(); p.drop() })
	return p
}

// drop closes all connections, as PID 1 does when it executes itself anew.
func (p *peer) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

func (p *peer) dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// serve does the server's side of the SASL handshake, for which the library has
// none, then hands over to the library, whose own (client's) handshake is
// answered by scripted.
func (p *peer) serve(c net.Conn) error {
	for _, answer := range []string{"REJECTED EXTERNAL", "DATA", "OK 0123456789abcdef0123456789abcdef", "AGREE_UNIX_FD", ""} {
		line, err := readLine(c)
		if err != nil {
			return nil // the client gave up
		}
		if answer == "DATA" && len(line) > len("AUTH EXTERNAL") {
			answer = "OK 0123456789abcdef0123456789abcdef"
		}
		if strings.HasPrefix(line, "BEGIN") {
			break
		}
		if strings.HasPrefix(line, "NEGOTIATE") {
			answer = "ERROR"
		}
		if _, err := io.WriteString(c, answer+"\r\n"); err != nil {
			return nil
		}
	}
	conn, err := dbus.NewConn(&scripted{Conn: c})
	if err != nil {
		return err
	}
	// Exported before the first message is read.
	if err := conn.Export(&methods{p, conn}, "/org/freedesktop/systemd1", manager); err != nil {
		return err
	}
	if err := conn.Export(managerProperties{p}, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties"); err != nil {
		return err
	}
	if err := conn.ExportSubtree(&methods{p, conn}, "/org/freedesktop/systemd1/unit", "org.freedesktop.DBus.Properties"); err != nil {
		return err
	}
	p.mu.Lock()
	p.conns = append(p.conns, conn)
	p.mu.Unlock()
	return conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
}

func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		line = append(line, b[0])
	}
	return strings.Trim(string(line), "\x00\r\n"), nil
}

// scripted answers the library's handshake and is the connection from then on.
type scripted struct {
	net.Conn
	mu     sync.Mutex
	open   bool
	answer bytes.Buffer
}

func (s *scripted) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open:
		return s.Conn.Write(b)
	case bytes.HasPrefix(b, []byte("BEGIN")):
		s.open = true
	case bytes.HasPrefix(b, []byte("AUTH EXTERNAL")):
		s.answer.WriteString("OK 0123456789abcdef0123456789abcdef\r\n")
	case bytes.HasPrefix(b, []byte("AUTH")):
		s.answer.WriteString("REJECTED EXTERNAL\r\n")
	}
	return len(b), nil
}

func (s *scripted) Read(b []byte) (int, error) {
	s.mu.Lock()
	open := s.open
	if s.answer.Len() > 0 || !open {
		defer s.mu.Unlock()
		return s.answer.Read(b)
	}
	s.mu.Unlock()
	return s.Conn.Read(b)
}

// methods is what one connection is served.
type methods struct {
	peer *peer
	conn *dbus.Conn
}

func dbusError(err error) *dbus.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*dbus.Error](err); ok {
		return e
	}
	name := map[errkind.Kind]string{
		errkind.NotFound:     "org.freedesktop.systemd1.NoSuchUnit",
		errkind.Exists:       "org.freedesktop.systemd1.UnitExists",
		errkind.Precondition: "org.freedesktop.systemd1.UnitMasked",
		errkind.Unavailable:  "org.freedesktop.DBus.Error.LimitsExceeded",
	}[errkind.Of(err)]
	if name == "" {
		name = "org.freedesktop.DBus.Error.Failed"
	}
	return dbus.NewError(name, []any{err.Error()})
}

// job runs do as a job. Its error before it could be queued is the answer.
func (m *methods) job(unit string, do func(context.Context) error) (dbus.ObjectPath, *dbus.Error) {
	m.peer.mu.Lock()
	m.peer.jobs++
	job := dbus.ObjectPath("/org/freedesktop/systemd1/job/" + strconv.Itoa(m.peer.jobs))
	m.peer.mu.Unlock()
	end := make(chan error, 1)
	go func() { end <- do(m.peer.ctx) }()
	select {
	case err := <-end:
		result, isResult := jobResult(err)
		if !isResult {
			return "", dbusError(err)
		}
		m.peer.removed(job, unit, result)
	case <-time.After(20 * time.Millisecond): // it runs on
		go func() {
			if result, isResult := jobResult(<-end); isResult {
				m.peer.removed(job, unit, result)
			}
		}()
	}
	return job, nil
}

// jobResult returns the result of a job that ended with err. isResult is false if err is not
// one of a job.
func jobResult(err error) (result string, isResult bool) {
	if e, ok := errors.AsType[*systemd.JobError](err); ok {
		return e.Result, true
	}
	return "done", err == nil
}

func (p *peer) removed(job dbus.ObjectPath, unit, result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute {
		return
	}
	for _, conn := range p.conns {
		_ = conn.Emit("/org/freedesktop/systemd1", manager+".JobRemoved", uint32(1), job, unit, result)
	}
}

func (m *methods) RestartUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	return m.job(unit, func(ctx context.Context) error { return m.peer.Restart(ctx, unit) })
}

func (m *methods) ReloadOrRestartUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	return m.job(unit, func(ctx context.Context) error { return m.peer.ReloadOrRestart(ctx, unit) })
}

func (m *methods) StartUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	return m.job(unit, func(ctx context.Context) error {
		err := m.peer.Run(ctx, systemd.StartJob, unit)
		if errkind.Of(err) == errkind.Internal && err != nil {
			m.peer.changed(unit)
		}
		return err
	})
}

// changed announces the state of a unit.
func (p *peer) changed(unit string) {
	u, _ := p.Unit(p.ctx, unit)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Emit("/org/freedesktop/systemd1/unit/"+dbus.ObjectPath(sd.PathBusEscape(unit)), "org.freedesktop.DBus.Properties.PropertiesChanged",
			"org.freedesktop.systemd1.Unit", map[string]dbus.Variant{"ActiveState": dbus.MakeVariant(u.Active)}, []string{})
	}
}

type unitStatus struct {
	Name, Description, Load, Active, Sub, Followed string
	Path                                           dbus.ObjectPath
	JobID                                          uint32
	JobType                                        string
	JobPath                                        dbus.ObjectPath
}

func (m *methods) ListUnitsByPatterns(states, patterns []string) ([]unitStatus, *dbus.Error) {
	list, err := m.peer.List(m.peer.ctx, patterns, states)
	out := []unitStatus{}
	for _, u := range slices.Backward(list) { // systemd does not sort
		out = append(out, unitStatus{Name: u.Name, Description: u.Description, Load: u.Load, Active: u.Active, Sub: u.Sub, Path: "/", JobPath: "/"})
	}
	return out, dbusError(err)
}

func (m *methods) StopUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	if _, err := m.peer.Unit(m.peer.ctx, unit); err != nil {
		return "", dbusError(err)
	}
	return m.job(unit, func(ctx context.Context) error { return m.peer.Stop(ctx, unit) })
}

func (m *methods) ResetFailedUnit(unit string) *dbus.Error {
	if _, err := m.peer.Unit(m.peer.ctx, unit); err != nil {
		return dbusError(err)
	}
	return dbusError(m.peer.ResetFailed(m.peer.ctx, unit))
}

func (m *methods) Reload() *dbus.Error { return dbusError(m.peer.Reload(m.peer.ctx)) }

type property struct {
	Name  string
	Value dbus.Variant
}

type command struct {
	Path  string
	Args  []string
	Flags []string
}

func (m *methods) StartTransientUnit(unit, mode string, properties []property, _ []struct {
	Name       string
	Properties []property
}) (dbus.ObjectPath, *dbus.Error) {
	var t systemd.Transient
	var commands []command
	var micros, every, limit uint64
	limit = 1
	var restart string
	want := map[string]any{"Type": new(string), "CollectMode": new(string), "Description": &t.Description, "Environment": &t.Env, "ExecStartEx": &commands, "RuntimeMaxUSec": &micros,
		"Restart": &restart, "RestartUSec": &every, "StartLimitIntervalUSec": &limit}
	for _, p := range properties {
		if err := p.Value.Store(want[p.Name]); err != nil {
			return "", dbus.MakeFailedError(fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	t.Exec, t.Timeout, t.Restart = commands[0].Args, time.Duration(micros)*time.Microsecond, time.Duration(every)*time.Microsecond
	if every > 0 && (restart != "on-failure" || limit != 0) {
		return "", dbus.MakeFailedError(fmt.Errorf("it is restarted %q, within a limit of %d", restart, limit))
	}
	if got := *want["Type"].(*string) + *want["CollectMode"].(*string) + mode + commands[0].Path; got != "execinactive-or-failedfail"+t.Exec[0] || strings.Join(commands[0].Flags, " ") != "no-env-expand" {
		return "", dbus.MakeFailedError(errors.New("unexpected properties: " + got))
	}
	return m.job(unit, func(ctx context.Context) error { return m.peer.StartTransient(ctx, unit, t) })
}

// GetAll is of org.freedesktop.DBus.Properties. As PID 1 does, it answers for
// units that are not there too.
func (m *methods) GetAll(msg dbus.Message, _ string) (map[string]dbus.Variant, *dbus.Error) {
	at := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	u, err := m.peer.Unit(m.peer.ctx, unescape(path.Base(string(at))))
	load := "loaded"
	if errkind.Of(err) == errkind.NotFound {
		u, load = systemd.Unit{Active: "inactive", Sub: "dead", Result: "success"}, "not-found"
	} else if err != nil {
		return nil, dbusError(err)
	}
	id, _ := hex.DecodeString(u.Invocation)
	d, _ := m.peer.Details(m.peer.ctx, unescape(path.Base(string(at))))
	return map[string]dbus.Variant{
		"LoadState": dbus.MakeVariant(load), "ActiveState": dbus.MakeVariant(u.Active), "SubState": dbus.MakeVariant(u.Sub),
		"Result": dbus.MakeVariant(u.Result), "NRestarts": dbus.MakeVariant(u.Restarts), "MainPID": dbus.MakeVariant(u.MainPID),
		"InvocationID": dbus.MakeVariant(id), "Id": dbus.MakeVariant(d.Name), "Names": dbus.MakeVariant(d.Names),
		"RequiredBy": dbus.MakeVariant(d.StopsWith), "Requires": dbus.MakeVariant(d.StartsWith), "Conflicts": dbus.MakeVariant(d.Conflicts),
		"MemoryCurrent": dbus.MakeVariant(^uint64(0)), "StateChangeTimestamp": dbus.MakeVariant(uint64(1_700_000_000_000_000)),
	}, nil
}

func unescape(s string) string {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '_' {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				s = s[:i] + string(b) + s[i+3:]
			}
		}
	}
	return s
}

func (m *methods) EnableUnitFiles(files []string, runtime, force bool) (bool, []struct{ Kind, File, Target string }, *dbus.Error) {
	if len(files) != 1 || runtime || force {
		return false, nil, dbus.MakeFailedError(fmt.Errorf("unexpected: %q, %v, %v", files, runtime, force))
	}
	return true, nil, dbusError(m.peer.Enable(m.peer.ctx, files[0]))
}

type managerProperties struct{ peer *peer }

func (m managerProperties) Get(of, name string) (dbus.Variant, *dbus.Error) {
	v, err := m.peer.Version(m.peer.ctx)
	if err != nil || of != manager || name != "Version" {
		return dbus.Variant{}, dbus.MakeFailedError(errors.Join(err, errors.New("unexpected: "+of+"."+name)))
	}
	return dbus.MakeVariant(strconv.Itoa(v) + ".13-1~deb13u1"), nil
}
