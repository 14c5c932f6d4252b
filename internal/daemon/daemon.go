// Package daemon builds tridentd from the other packages and runs it. No other package
// connects them.
//
// A daemon may end at any time (it is idle, systemd stops it, it replaces itself), because
// nothing in its memory has to survive: operations are in the journal, systemd has the
// socket, and clients continue their watches with the next daemon.
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
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/api"
	apimachine "github.com/trident-project/trident/internal/api/machine"
	"github.com/trident-project/trident/internal/diagnose"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/interrupt"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/observe"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/oplog"
	"github.com/trident-project/trident/internal/servicing/runtime"
	"github.com/trident-project/trident/internal/servicing/slots"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/rebuild"
	"github.com/trident-project/trident/internal/servicing/slots/wholedisk"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/version"
)

// DefaultIdleTimeout is the time without calls and operations after which a daemon ends.
const DefaultIdleTimeout = 5 * time.Minute

const (
	// stepTimeout is how long a running step may take to end when the daemon stops.
	// Then the daemon ends without it, and the next one does the step again.
	stepTimeout = 30 * time.Second
	// callTimeout is how long calls may take to end when the daemon stops. Then it
	// closes their connections.
	callTimeout = 5 * time.Second
	// refusalTime is how long a daemon that cannot service the host tells its callers
	// why, before it ends and systemd starts the next one.
	refusalTime = 10 * time.Second
	// trimDelay is the time without calls after which free memory returns to the kernel.
	trimDelay = 2 * time.Second
)

// Config configures a daemon.
type Config struct {
	// Root is the root folder of the serviced host; "/" outside of tests. With
	// another one the daemon need not be root, and its own user may call it.
	Root string
	// Socket is the path on which the daemon listens; "" means the socket that
	// systemd passed, or else Root/run/trident/trident.sock.
	Socket string
	// IdleTimeout is the time without calls and operations after which Run
	// returns; 0 means never.
	IdleTimeout time.Duration
	// Version is the version that the daemon reports.
	Version string
	// Fixed, if set, says why this Trident cannot be replaced by another version.
	Fixed error
	// Systemd is the host's service manager; nil means the real one.
	Systemd systemd.Host
	// Login is the host's logind; nil means the real one, or none if Root is not "/".
	Login  systemd.Login
	Logger *slog.Logger
}

// A Daemon listens from New on, and answers in Run. Close releases the resources of a
// Daemon that is never run.
type Daemon struct {
	idleTimeout time.Duration
	refuseTime  time.Duration
	logger      *slog.Logger
	socket      string

	runner           *operation.Runner
	self             *selfservice.Service
	server           *api.Server
	listener         *api.Listener
	systemd          systemd.Units
	socketIsSystemds bool // systemd passed the socket
	socketMisses     int  // checks in a row that did not find the socket
	idle             *idle
	observer         *observe.Observer
	metrics          *net.UnixListener // nil if the socket could not be made
	gateway          *gateway

	reports *oplog.Reports
	stopBus context.CancelFunc
	store   *hoststate.Store
	// datastorePathErr is the error of hoststate.Path; Run returns it.
	datastorePathErr error
	lock             *os.File
}

// Run builds a daemon and runs it until ctx ends or it is idle.
func Run(ctx context.Context, c Config) error {
	d, err := New(ctx, c)
	if err != nil {
		return err
	}
	boundHeap(cmp.Or(c.Root, "/"))
	return d.Run(ctx)
}

// boundHeap sets the memory limit of Go's garbage collector to three quarters of what the
// control groups of this process allow; the rest is for the tools that it runs, and for
// the kernel's memory of both. Without the limit the collector could keep an unused window
// of 1 GiB until a second one is allocated, and the kernel would kill the process
// (MemoryMax=). boundHeap does nothing if GOMEMLIMIT is set.
func boundHeap(root string) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if most, known := hostinfo.MemoryLimit(root); known {
		debug.SetMemoryLimit(most / 4 * 3)
	}
}

// New builds a daemon. Callers can connect once New has returned; Run answers them. If New
// fails, it leaves only folders and files behind.
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
	busCtx, stopBus := context.WithCancel(context.WithoutCancel(ctx))
	d.stopBus = stopBus
	if c.Systemd == nil {
		c.Systemd = systemd.Connect(busCtx, systemd.PrivateSocket)
	}
	d.systemd = c.Systemd
	events := newEvents(busCtx, c, life)
	var host *servicing.Service
	d.runner = operation.New(ctx, operation.Config{
		Journal: d.store, Life: life, Logger: d.logger, Unsettled: markUnsettled(c.Root), Origin: observe.Origin,
		Observe: func(op operation.Operation, changes ...operation.Event) {
			d.observer.Operation(op, changes...)
			host.Logs.Observe(op, changes...)
			events.Operation(op.ID, strings.TrimSpace(string(op.Phase)+" "+op.Step))
		},
	})
	d.self, host = services(c, d.runner, d.store, d.socket)
	d.gateway = newGateway(c.Root)
	d.reports = host.Logs.Reports
	d.server = api.New(api.Config{
		Root: c.Root, HostID: func() string { return hostinfo.ID(c.Root) }, Version: c.Version, Fixed: c.Fixed, NoSystemd: withoutSystemd(c.Root, "/run/systemd/system"),
		Self: d.self, Servicing: host, Operations: d.runner, Store: d.store, Updates: updatesOf(c, d.store, d.self),
		Control: controlOf(c, d.runner, events), System: apimachine.NewSystem(c.Root),
		Logger: d.logger, Begin: d.idle.begin, AlsoUID: alsoUID(c.Root), Policy: d.gateway.policy,
		Stats: d.observer.Calls(),
	})
	return d, nil
}

// services returns the services that register the kinds of operations with runner. A
// daemon and a probe need all kinds, to resume any operation. socket is the path on which
// this daemon answers.
func services(c Config, runner *operation.Runner, store *hoststate.Store, socket string) (*selfservice.Service, *servicing.Service) {
	owner := settingsOf(c, store)
	self := selfservice.New(selfservice.Config{
		Root: c.Root, Version: c.Version, Built: version.Built(), Runner: runner, Store: store, Systemd: c.Systemd, Tools: run.Host{}, Logger: c.Logger,
		SelfCheck: func(ctx context.Context) (string, error) { return api.Check(ctx, socket) },
		Fixed:     c.Fixed,
		Grace: func(ctx context.Context) (time.Duration, error) {
			policy, err := owner.Policy(ctx)
			return policy.Grace, err
		},
	})
	host := change.New(change.Host{
		Root: c.Root, Version: c.Version, HostID: func() string { return hostinfo.ID(c.Root) }, Runner: runner, Store: store, Systemd: c.Systemd, Tools: run.Host{}, Logger: c.Logger,
		Places: slices.Concat(slots.Places(), selfservice.Places(), updates.Places()),
	})
	logs := &oplog.Log{Host: host, Reports: &oplog.Reports{
		Logger: c.Logger, Clean: diagnose.WithoutSecrets, CleanDocument: diagnose.DocumentWithoutSecrets,
	}}
	d := &disks.Disks{Host: host, Machine: machine.Real(c.Root, goruntime.GOARCH)}
	return self, servicing.New(&runtime.Service{Host: host, Self: self}, slots.New(d, self.LinkInTree, logs.HandOver),
		&wholedisk.Service{Host: host, Disks: d}, rebuild.New(&loader.Loader{Host: host, Machine: d.Machine, Disks: d}), logs)
}

// checkUser returns an error of kind Denied if a user may not run a daemon for root.
func checkUser(root string, uid int) error {
	if root != "/" || uid == 0 {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Denied, "start tridentd: only root may, and the caller is user ID %d", uid),
		"start it through systemd (systemctl start tridentd.socket), or as root")
}

// alsoUID returns the user who may call besides root: 0 (no other) on a real host.
func alsoUID(root string) uint32 {
	if root == "/" {
		return 0
	}
	return uint32(os.Geteuid())
}

// currentLife returns the IDs of this boot and of this process.
func currentLife() (operation.Life, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return operation.Life{}, fmt.Errorf("read boot ID: %w", err)
	}
	return operation.Life{Boot: strings.TrimSpace(string(boot)), Process: rand.Text()}, nil
}

// Run answers calls, opens the datastore and resumes the operation that an earlier daemon
// left, until ctx ends or the daemon is idle. Calls that need the datastore wait until it
// is open. Then Run stops the daemon within stepTimeout and callTimeout. Call it once.
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
		if ctx.Err() != nil { // the daemon is being stopped
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
	go d.serveGateway(ctx)
	go d.showStatus(ctx)
	go d.feedWatchdog(ctx)
	go d.restartReplaced(ctx)
	go d.idle.trim(ctx, trimDelay, debug.FreeOSMemory)
	if err := d.self.Retire(ctx); err != nil {
		d.logger.Error("retire an extension that is older than the base", "error", err)
	}
	if err := d.self.PruneImages(ctx); err != nil {
		d.logger.Warn("delete images of trident whose grace is over", "error", err)
	}
	if err := d.idle.wait(ctx, d.idleTimeout, d.runner); err == nil {
		d.logger.Info("nobody needs the daemon: it ends", "idle", d.idleTimeout)
	}
	d.stop()
	return <-serveErr
}

// resume opens the datastore and resumes the operation that an earlier daemon left.
func (d *Daemon) resume(ctx context.Context) error {
	if d.datastorePathErr != nil {
		return d.datastorePathErr
	}
	if err := d.store.Open(ctx); err != nil {
		return withReadOnlyHint(err)
	}
	if err := d.runner.Resume(ctx); err != nil {
		return withReadOnlyHint(fmt.Errorf("resume the unsettled operation: %w", err))
	}
	return nil
}

// refuse answers all calls with err for refuseTime, those that wait and new ones. During
// the trial of this version it returns at once, because the rescuer counts its ends.
func (d *Daemon) refuse(ctx context.Context, err error) {
	if d.self.IsOnTrial() {
		return
	}
	d.logger.Error("tridentd cannot service this host", "error", err, "hint", errkind.Hint(err))
	d.notify("STATUS=Cannot service this host: " + err.Error())
	d.runner.Refuse(err)
	_ = interrupt.Sleep(ctx, d.refuseTime)
}

// withReadOnlyHint adds a kind and a hint to the error of a read-only file system.
func withReadOnlyHint(err error) error {
	if !errors.Is(err, unix.EROFS) || errkind.Of(err) != errkind.Internal {
		return err
	}
	return errkind.WithHint(errkind.With(errkind.Precondition, err),
		"find out why that file system is read-only (journalctl --dmesg), then make it writable: mount -o remount,rw, and its mount point")
}

// stop stops in this order: health checks report it, the running step ends and is
// journaled, watches end, calls end, within stepTimeout and callTimeout.
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
	d.server.Stop(ctx, d.gateway.listeners(d.listener)...)
	d.reports.Close(ctx)
	d.logger.Info("tridentd stopped")
}

// Close releases the resources of the daemon. Run calls it.
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
