package systemd

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
)

// PrivateSocket is the socket on which PID 1 serves root. It works without the message
// bus, which may be restarting, or not have started yet.
const PrivateSocket = "/run/systemd/private"

// Bus is the systemd of a host, over D-Bus. Its methods may be called from many
// goroutines.
type Bus struct {
	ctx    context.Context // the life of the connection, not of a call
	socket string

	turn chan struct{} // holds one token: the goroutine that takes it may use conn
	conn *connection
}

var _ Host = (*Bus)(nil)

// Connect returns the Bus whose PID 1 listens on socket, usually PrivateSocket. The first
// call of a method connects; if PrivateSocket fails, it connects to the system bus. After
// a lost connection the next call connects again. The connection closes when ctx ends.
func Connect(ctx context.Context, socket string) *Bus {
	b := &Bus{ctx: ctx, socket: socket, turn: make(chan struct{}, 1)}
	b.turn <- struct{}{}
	return b
}

// connection is two D-Bus connections, one for calls and one for signals. gone ends when
// either of them is lost, because an awaited signal would then never come.
type connection struct {
	*sd.Conn
	both []*dbus.Conn
	gone context.Context
}

// answers reports whether PID 1 answers a ping on both connections: PID 1 closes its
// connections when it reexecutes itself, which this process may not have noticed yet.
func (c *connection) answers(ctx context.Context) bool {
	for _, conn := range c.both {
		if conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0).Err != nil {
			return false
		}
	}
	return c.gone.Err() == nil
}

func (b *Bus) connect(ctx context.Context, verb, unit string) (*connection, error) {
	select {
	case <-b.turn:
		defer func() { b.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, contextError(ctx, verb, unit)
	}
	if b.conn != nil && b.conn.answers(ctx) {
		return b.conn, nil
	}
	if ctx.Err() != nil { // the ping failed because of ctx; other calls may be using the connection
		return nil, contextError(ctx, verb, unit)
	}
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
	conn, err := b.dialAny(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, contextError(ctx, verb, unit)
	case err != nil:
		return nil, errkind.Errorf(errkind.Unavailable, "%s %s: connect to systemd: %w", verb, unit, err)
	}
	b.conn = conn
	return conn, nil
}

// dialAny makes a connection to the socket or, if PrivateSocket fails, to the system bus.
func (b *Bus) dialAny(ctx context.Context) (*connection, error) {
	conn, err := b.dial(ctx, false)
	if err == nil || b.socket != PrivateSocket {
		return conn, err
	}
	conn, busErr := b.dial(ctx, true)
	if busErr != nil {
		return nil, errors.Join(err, busErr)
	}
	return conn, nil
}

// dial makes a connection. ctx bounds the dialling; the connection lives until b.ctx ends.
func (b *Bus) dial(ctx context.Context, system bool) (*connection, error) {
	life, lost := context.WithCancel(b.ctx)
	stop := context.AfterFunc(ctx, lost)
	made := &connection{gone: life}
	conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
		one, err := b.dialOne(life, lost, system)
		made.both = append(made.both, one)
		return one, err
	})
	if err == nil && system {
		// The private socket sends all signals without a subscription, the bus does not.
		err = conn.Subscribe()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		lost()
		return nil, err
	}
	made.Conn = conn
	return made, nil
}

func (b *Bus) dialOne(life context.Context, lost context.CancelFunc, system bool) (*dbus.Conn, error) {
	connect := dbus.SystemBusPrivate
	if !system {
		connect = func(opts ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Dial("unix:path="+b.socket, opts...) }
	}
	conn, err := connect(dbus.WithContext(life))
	if err != nil {
		return nil, err
	}
	// Authenticate by number: a name would need a lookup of the user.
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil && system {
		err = conn.Hello()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	context.AfterFunc(conn.Context(), lost)
	return conn, nil
}

// runJob calls start, which queues a job for unit, and waits until the job has ended.
func (b *Bus) runJob(ctx context.Context, verb, unit string, start func(*connection, chan<- string) (int, error)) error {
	conn, err := b.connect(ctx, verb, unit)
	if err != nil {
		return err
	}
	removed := make(chan string, 1)
	if _, err := start(conn, removed); err != nil {
		return callError(ctx, verb, unit, err)
	}
	select {
	case result := <-removed:
		if result == "done" {
			return nil
		}
		return (&JobError{verb, unit, result, b.unitResult(ctx, unit)}).WithKind()
	case <-conn.gone.Done():
		return errkind.Errorf(errkind.Unavailable, "%s %s: the connection to systemd was lost before the job ended", verb, unit)
	case <-ctx.Done():
		return contextError(ctx, verb, unit)
	}
}

// unitResult returns the Result of unit for the text of an error, or "" if it cannot be
// read.
func (b *Bus) unitResult(ctx context.Context, unit string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	u, err := b.Unit(ctx, unit)
	if err != nil {
		return ""
	}
	return u.Result
}

// Restart implements [Manager].
func (b *Bus) Restart(ctx context.Context, unit string) error {
	conn, err := b.connect(ctx, "restart", unit)
	if err != nil {
		return err
	}
	_, err = conn.RestartUnitContext(ctx, unit, "replace", nil)
	return callError(ctx, "restart", unit, err)
}

// ReloadOrRestart implements [Manager].
func (b *Bus) ReloadOrRestart(ctx context.Context, unit string) error {
	return b.runJob(ctx, "reload or restart", unit, func(conn *connection, removed chan<- string) (int, error) {
		return conn.ReloadOrRestartUnitContext(ctx, unit, "replace", removed)
	})
}

// command is an item of ExecStartEx. Without the flag no-env-expand systemd would replace
// arguments such as $HOME.
type command struct {
	Path  string
	Args  []string
	Flags []string
}

// StartTransient implements [Manager].
func (b *Bus) StartTransient(ctx context.Context, name string, t Transient) error {
	if err := t.check(name); err != nil {
		return err
	}
	properties := []sd.Property{
		sd.PropDescription(t.Description),
		// exec, not simple: a program that cannot be executed fails the job.
		sd.PropType("exec"),
		{Name: "ExecStartEx", Value: dbus.MakeVariant([]command{{t.Exec[0], t.Exec, []string{"no-env-expand"}}})},
		{Name: "Environment", Value: dbus.MakeVariant(t.Env)},
		{Name: "CollectMode", Value: dbus.MakeVariant("inactive-or-failed")},
	}
	if t.Sandbox {
		properties = append(properties, sandboxProperties()...)
	}
	if t.Timeout > 0 {
		properties = append(properties, sd.Property{Name: "RuntimeMaxUSec", Value: dbus.MakeVariant(uint64(t.Timeout.Microseconds()))})
	}
	if t.Restart > 0 {
		properties = append(properties,
			sd.Property{Name: "Restart", Value: dbus.MakeVariant("on-failure")},
			sd.Property{Name: "RestartUSec", Value: dbus.MakeVariant(uint64(t.Restart.Microseconds()))},
			sd.Property{Name: "StartLimitIntervalUSec", Value: dbus.MakeVariant(uint64(0))})
	}
	return b.runJob(ctx, "start", name, func(conn *connection, removed chan<- string) (int, error) {
		return conn.StartTransientUnitContext(ctx, name, "fail", properties, removed)
	})
}

// Stop implements [Manager].
func (b *Bus) Stop(ctx context.Context, unit string) error {
	err := b.runJob(ctx, "stop", unit, func(conn *connection, removed chan<- string) (int, error) {
		return conn.StopUnitContext(ctx, unit, "replace", removed)
	})
	if errkind.Of(err) == errkind.NotFound {
		return nil
	}
	return err
}

// Reload implements [Manager].
func (b *Bus) Reload(ctx context.Context) error {
	conn, err := b.connect(ctx, "reload", "unit files")
	if err != nil {
		return err
	}
	return callError(ctx, "reload", "unit files", conn.ReloadContext(ctx))
}

// Enable implements [Manager].
func (b *Bus) Enable(ctx context.Context, unit string) error {
	conn, err := b.connect(ctx, "enable", unit)
	if err != nil {
		return err
	}
	_, _, err = conn.EnableUnitFilesContext(ctx, []string{unit}, false, false)
	return callError(ctx, "enable", unit, err)
}

// Reboot implements [Manager].
func (b *Bus) Reboot(ctx context.Context) error {
	const unit = "reboot.target"
	conn, err := b.connect(ctx, "start", unit)
	if err != nil {
		return err
	}
	_, err = conn.StartUnitContext(ctx, unit, "replace-irreversibly", nil)
	return callError(ctx, "start", unit, err)
}

// Unit implements [Manager].
func (b *Bus) Unit(ctx context.Context, unit string) (Unit, error) {
	p, err := b.properties(ctx, unit)
	if err != nil {
		return Unit{}, err
	}
	return unitOf(p), nil
}

// properties returns the properties of a unit. It fails with errkind.NotFound if systemd does
// not know the unit.
func (b *Bus) properties(ctx context.Context, unit string) (map[string]any, error) {
	conn, err := b.connect(ctx, "ask for", unit)
	if err != nil {
		return nil, err
	}
	p, err := conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return nil, callError(ctx, "ask for", unit, err)
	}
	if p["LoadState"] == "not-found" && p["ActiveState"] == "inactive" {
		return nil, errkind.Errorf(errkind.NotFound, "ask for %s: unit %s not found", unit, unit)
	}
	return p, nil
}

// unitOf returns the state that properties have. A property that the type of unit does not
// have stays zero.
func unitOf(p map[string]any) Unit {
	var u Unit
	u.Active, _ = p["ActiveState"].(string)
	u.Sub, _ = p["SubState"].(string)
	u.Result, _ = p["Result"].(string)
	u.Restarts, _ = p["NRestarts"].(uint32)
	u.MainPID, _ = p["MainPID"].(uint32)
	if id, _ := p["InvocationID"].([]byte); len(id) > 0 {
		u.Invocation = hex.EncodeToString(id)
	}
	return u
}
