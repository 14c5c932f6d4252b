// Package daemon puts tridentd together and runs it. It is the only place that
// wires: nothing else knows how the parts find each other.
//
// A daemon may go at any time (it is idle, systemd stops it, it replaces itself)
// because nothing of value lives in it: operations are in the journal, the
// socket is systemd's, and clients watch again where they were.
package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/observe"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/version"
)

// DefaultIdleTimeout is how long a daemon stays that nobody needs.
const DefaultIdleTimeout = 5 * time.Minute

const (
	// stepTimeout is how long a running step may take to notice that the daemon
	// stops. One that does not notice is cut off: the journal still says that it
	// is to be done.
	stepTimeout = 30 * time.Second
	// callTimeout is how long calls may take to end. A client that does not read
	// what it asked for is cut off.
	callTimeout = 5 * time.Second
	// refusalTime is how long a daemon that cannot service the host tells its callers
	// why, before it ends and systemd starts the next one.
	refusalTime = 10 * time.Second
	// trimDelay is after how long without calls memory is given back.
	trimDelay = 2 * time.Second
)

// Config is what a daemon depends on from outside.
type Config struct {
	// Root is the folder of the host that is serviced; "/" outside of tests. With
	// another one the daemon need not be root, and its own user may call it.
	Root string
	// Socket is where it listens; empty means the socket that systemd passed, or
	// Root/run/trident/trident.sock.
	Socket string
	// IdleTimeout is after how long without calls and work Run returns; 0 means
	// never.
	IdleTimeout time.Duration
	// Version is what the daemon says it is.
	Version string
	// Systemd is the host's service manager; nil means the real one.
	Systemd systemd.Manager
	Logger  *slog.Logger
}

// A Daemon is built and listens. Run makes it answer; Close, for one that does
// not run, gives back what it holds.
type Daemon struct {
	idleTimeout time.Duration
	refuseTime  time.Duration
	logger      *slog.Logger
	socket      string

	runner           *operation.Runner
	self             *selfservice.Service
	server           *api.Server
	listener         *api.Listener
	systemd          systemd.Manager
	socketIsSystemds bool // systemd passed the socket
	socketMisses     int  // looks in a row at which the socket was gone
	idle             *idle
	observer         *observe.Observer
	metrics          *net.UnixListener // nil: nobody can read them

	stopBus context.CancelFunc
	store   *hoststate.Store
	// datastorePathErr is why the host does not say where its datastore is.
	datastorePathErr error
	lock             *os.File
}

// Run builds a daemon and runs it until ctx ends or nobody needs it.
func Run(ctx context.Context, c Config) error {
	d, err := New(ctx, c)
	if err != nil {
		return err
	}
	boundHeap(cmp.Or(c.Root, "/"))
	return d.Run(ctx)
}

// boundHeap has Go's garbage collector keep the memory of this process below three
// quarters of what its control groups allow; the rest is for the tools that it runs, and
// for what the kernel does for both. Without it the collector would let a window of 1 GiB
// that is not needed any more stay until there is a second one, and the kernel would end
// the process (MemoryMax=). GOMEMLIMIT in the environment counts instead.
func boundHeap(root string) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if most, known := hostinfo.MemoryLimit(root); known {
		debug.SetMemoryLimit(most / 4 * 3)
	}
}

// New builds a daemon. When it returns callers can connect; they are answered
// once Run is called. Of what it made before it failed only folders and files
// are left.
func New(ctx context.Context, c Config) (_ *Daemon, err error) {
	if c.Root == "" {
		c.Root = "/"
	}
	if err := checkUser(c.Root, os.Geteuid()); err != nil {
		return nil, err
	}
	d := &Daemon{idleTimeout: c.IdleTimeout, refuseTime: refusalTime, logger: c.Logger, idle: newIdle()}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.lock, err = lock(c.Root); err != nil {
		return nil, err
	}
	d.socketIsSystemds = c.Socket == "" && os.Getenv("LISTEN_FDS") != ""
	socket, err := listen(c.Root, c.Socket)
	if err != nil {
		return nil, err
	}
	d.listener, d.socket = api.Listen(socket, d.logger), socket.Addr().String()
	datastore, pathErr := hoststate.Path(c.Root)
	d.datastorePathErr = pathErr
	datastore = filepath.Join(c.Root, datastore)
	d.store = hoststate.NewClosed(datastore)
	d.observer, d.metrics = d.newObserver(ctx, c, datastore), d.listenMetrics(c.Root)
	life, err := currentLife()
	if err != nil {
		return nil, err
	}
	var host *servicing.Service
	d.runner = operation.New(ctx, operation.Config{
		Journal: d.store, Life: life, Logger: d.logger, Unsettled: markUnsettled(c.Root), Origin: observe.Origin,
		Observe: func(op operation.Operation, events ...operation.Event) {
			d.observer.Operation(op, events...)
			host.Logged(op, events...)
		},
	})
	busCtx, stopBus := context.WithCancel(context.WithoutCancel(ctx))
	d.stopBus = stopBus
	if c.Systemd == nil {
		c.Systemd = systemd.Connect(busCtx, systemd.PrivateSocket)
	}
	d.systemd = c.Systemd
	d.self, host = services(c, d.runner, d.store, d.socket)
	d.server = api.New(api.Config{
		Root: c.Root, Version: c.Version, Self: d.self, Servicing: host, Operations: d.runner, Store: d.store, Logger: d.logger, Begin: d.idle.begin, AlsoUID: alsoUID(c.Root),
		Stats: d.observer.Calls(),
	})
	return d, nil
}

// services makes what carries operations on; who carries on with any, or tries
// whether it could, needs all of it. The socket is where this daemon answers.
func services(c Config, runner *operation.Runner, store *hoststate.Store, socket string) (*selfservice.Service, *servicing.Service) {
	self := selfservice.New(selfservice.Config{
		Root: c.Root, Version: c.Version, Built: version.Built(), Runner: runner, Store: store, Systemd: c.Systemd, Tools: run.Host{}, Logger: c.Logger,
		SelfCheck: func(ctx context.Context) (string, error) { return api.Check(ctx, socket) },
	})
	return self, servicing.New(servicing.Config{
		Root: c.Root, Version: c.Version, Runner: runner, Store: store, Systemd: c.Systemd, Tools: run.Host{}, Machine: servicing.RealMachine(c.Root, runtime.GOARCH), Self: self, Logger: c.Logger,
	})
}

// checkUser reports whether a user may run a daemon for a root folder.
func checkUser(root string, uid int) error {
	if root != "/" || uid == 0 {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Denied, "start tridentd: only root may, and the caller is user ID %d", uid),
		"start it through systemd (systemctl start tridentd.socket), or as root")
}

// alsoUID is the user who may call besides root: nobody on a real host.
func alsoUID(root string) uint32 {
	if root == "/" {
		return 0
	}
	return uint32(os.Geteuid())
}

// currentLife names this boot and this process.
func currentLife() (operation.Life, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return operation.Life{}, fmt.Errorf("read boot ID: %w", err)
	}
	return operation.Life{Boot: strings.TrimSpace(string(boot)), Process: rand.Text()}, nil
}

// Socket is the path that the daemon listens on.
func (d *Daemon) Socket() string { return d.socket }

// Run answers calls, opens the datastore and carries on with what an earlier
// daemon left, until ctx ends or the daemon is not needed any more. What needs
// the datastore is answered once it is open. Then it stops as Config and the
// bounds above say. It must be called once at most.
func (d *Daemon) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	serveErr := make(chan error, 1)
	go func() {
		err := d.server.Serve(d.listener)
		cancel(err)
		serveErr <- err
	}()
	if err := d.resume(ctx); err != nil {
		if ctx.Err() != nil { // it is stopped meanwhile
			err = nil
		} else {
			d.refuse(ctx, err)
		}
		d.stop()
		return errors.Join(err, <-serveErr)
	}
	d.notify("READY=1")
	d.logger.Info("tridentd serves", "socket", d.socket)
	go d.serveMetrics()
	go d.showStatus(ctx)
	go d.feedWatchdog(ctx)
	go d.idle.trim(ctx, trimDelay, debug.FreeOSMemory)
	if err := d.self.Retire(ctx); err != nil {
		d.logger.Error("retire an extension that is older than the base", "error", err)
	}
	if err := d.idle.wait(ctx, d.idleTimeout, d.runner); err == nil {
		d.logger.Info("nobody needs the daemon: it goes", "idle", d.idleTimeout)
	}
	d.stop()
	return <-serveErr
}

// resume carries on where an earlier daemon has stopped.
func (d *Daemon) resume(ctx context.Context) error {
	if d.datastorePathErr != nil {
		return d.datastorePathErr
	}
	if err := d.store.Open(ctx); err != nil {
		return withReadOnlyHint(err)
	}
	if err := d.runner.Resume(ctx); err != nil {
		return withReadOnlyHint(fmt.Errorf("carry on with unsettled work: %w", err))
	}
	return nil
}

// refuse answers callers with err for a while: those who wait already, and those who
// come. A version on trial ends at once instead, because the rescuer counts its ends.
func (d *Daemon) refuse(ctx context.Context, err error) {
	if d.self.IsOnTrial() {
		return
	}
	d.logger.Error("tridentd cannot service this host", "error", err, "hint", errkind.Hint(err))
	d.notify("STATUS=Cannot service this host: " + err.Error())
	d.runner.Refuse(err)
	select {
	case <-ctx.Done():
	case <-time.After(d.refuseTime):
	}
}

// withReadOnlyHint gives a failed write to a read-only file system its kind and a hint.
func withReadOnlyHint(err error) error {
	if !errors.Is(err, unix.EROFS) || errkind.Of(err) != errkind.Internal {
		return err
	}
	return errkind.WithHint(errkind.With(errkind.Precondition, err),
		"find out why that file system is read-only (journalctl --dmesg), then make it writable: mount -o remount,rw, and its mount point")
}

// stop ends in this order: health checks hear of it, the running step stops and
// is journaled, watches end, calls end, within the bounds above.
func (d *Daemon) stop() {
	d.notify("STOPPING=1")
	d.server.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	if err := d.runner.Shutdown(ctx); err != nil {
		d.logger.Warn("stop", "error", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	d.server.Stop(ctx, d.listener)
	d.logger.Info("tridentd stopped")
}

// Close gives back what the daemon holds. Run does it itself.
func (d *Daemon) Close() error {
	var errs []error
	if d.listener != nil {
		if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, d.closeObserver())
	if d.stopBus != nil {
		d.stopBus()
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop tridentd: %w", err)
	}
	return nil
}
