// Package command has what the commands of trident are built from: the global flags, the
// arguments and flags of one command and the errors about them, the connection to the
// daemon, and how a command follows an operation to its end.
package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/outfile"
	"github.com/trident-project/trident/proto/client"
)

// App has the streams and the global flags, and the reboot that tests replace.
type App struct {
	terminal.Streams
	// Reboot reboots this host; nil has systemd reboot it.
	Reboot func(context.Context) error
	// RebootTime bounds the time from the request of a reboot to the reboot.
	RebootTime time.Duration
	// Silence is the time without an answer after which a host that reboots counts as down.
	Silence time.Duration

	socket  string
	server  string // the socket as grpc-client is told it
	timeout time.Duration
	on      hostOptions

	stop context.CancelFunc // of timeout; nil without one
}

// DefaultSocket is the socket of the daemon.
const DefaultSocket = "/run/trident/trident.sock"

// AddFlags adds the global flags to the root command.
func (a *App) AddFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.VarP(&a.Verbosity, "verbosity", "v", "which logs to show: OFF, ERROR, WARN, INFO, DEBUG or TRACE")
	flags.StringVar(&a.socket, "socket", DefaultSocket, "the daemon's socket; without this flag $TRIDENT_SOCKET")
	flags.VarP(&a.Output, "output", "o", "how to print results: text, wide, json or yaml")
	flags.BoolVarP(&a.Quiet, "quiet", "q", false, "print only results, warnings and errors, without progress and success messages")
	flags.DurationVar(&a.timeout, "timeout", 0, "end the command after this time; 0 means no limit")
	a.addHostFlags(cmd)
	CompleteFlag(cmd, "verbosity", terminal.VerbosityWords()...)
	CompleteFlag(cmd, "output", "text", "wide", "json", "yaml")
}

// AddServer adds upstream's flag for the socket to its group of commands. The flag is one of
// the group alone: the commands in it have other flags of that letter.
func (a *App) AddServer(group *cobra.Command) {
	group.Flags().StringVarP(&a.server, "server", "s", "unix://"+DefaultSocket, "the daemon's socket")
}

// ErrReaderGone is the error of a command whose standard output is a pipe that its reader has
// closed.
var ErrReaderGone = outfile.ErrReaderGone

// KeepStdoutInterruptible makes a write of a result into a pipe that nobody reads end with ctx.
func (a *App) KeepStdoutInterruptible(ctx context.Context) {
	a.Stdout = outfile.Interruptible(ctx, os.Stdout)
}

// IsLocal reports whether the daemon is that of this host.
func (a *App) IsLocal() bool { return a.on.target == nil && a.socket == DefaultSocket }

// Begin evaluates the global flags, before every command.
func (a *App) Begin(cmd *cobra.Command) error {
	if err := a.beginHosts(cmd); err != nil {
		return err
	}
	if group := cmd.Parent(); group != nil && group.Flags().Changed("server") {
		path, ok := strings.CutPrefix(a.server, "unix://")
		if !ok {
			return UsageError(cmd, fmt.Errorf("--server is %s, and must begin with unix://", a.server))
		}
		a.socket = path
	} else if env := os.Getenv("TRIDENT_SOCKET"); env != "" && !cmd.Flags().Changed("socket") {
		a.socket = env
	}
	a.socket = socketPath(a.socket)
	if a.Quiet && !cmd.Flags().Changed("verbosity") {
		a.Verbosity = "WARN"
	}
	if a.timeout < 0 {
		return UsageError(cmd, fmt.Errorf("--timeout is %s, it must not be negative", a.timeout))
	}
	if a.timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, ErrTimedOut)
		a.stop = cancel
		cmd.SetContext(ctx)
	}
	return nil
}

// End releases what begin has set up.
func (a *App) End() {
	if a.stop != nil {
		a.stop()
	}
}

// socketPath returns the path of a socket that is named by its path, as unix:PATH
// or as unix://PATH. Other names stay as they are.
func socketPath(name string) string {
	path, ok := strings.CutPrefix(name, "unix:")
	if !ok {
		return name
	}
	if absolute, ok := strings.CutPrefix(path, "//"); ok {
		return absolute
	}
	return path
}

// Quick returns a context for a short call that neither an interrupt nor --timeout ends.
func Quick(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), askTime)
}

// askTime bounds the short calls to the daemon beside an operation.
const askTime = 10 * time.Second

// connect returns a client of the daemon of the host, or at the socket of the flags.
func (a *App) connect() (*client.Client, error) {
	logger := client.WithLogger(slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: a.Verbosity})))
	if a.on.target != nil {
		return a.on.target.Dial(logger)
	}
	if scheme, _, ok := strings.Cut(a.socket, "://"); ok {
		return nil, hintSSH(errkind.Errorf(errkind.Unsupported, "connect to tridentd at %s: a socket is a path, and not reached by %s", a.socket, scheme))
	}
	return client.Dial(a.socket, logger)
}

// DialSocket connects to the socket of the flags, and sends nothing. Its error is that of a
// client that cannot connect.
func (a *App) DialSocket(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.socket)
	if err != nil {
		return nil, client.NewConnectError(a.socket, err)
	}
	return conn, nil
}

// command returns the command line that shows an operation.
func (a *App) command(verb, id string) string {
	words := []string{"trident", "operation", verb, id}
	switch {
	case a.on.target != nil:
		words = append(words, "--host", a.on.target.Name)
	case a.socket != "" && a.socket != DefaultSocket:
		words = append(words, "--socket", a.socket)
	}
	return strings.Join(words, " ")
}

// Ask connects to the daemon and calls question. Its error begins with doing.
func (a *App) Ask(ctx context.Context, doing string, question func(*client.Client) error) error {
	c, err := a.connect()
	if err == nil {
		err = errors.Join(question(c), c.Close())
	}
	if err != nil {
		return failedTo(doing, Interrupted(ctx, err))
	}
	return nil
}

// Print calls the daemon as Ask does, and shows the answer.
func Print[T any](ctx context.Context, a *App, doing string, call func(*client.Client) (T, error), write func(*terminal.Table, T)) error {
	return a.Ask(ctx, doing, func(c *client.Client) error {
		answer, err := call(c)
		if err != nil {
			return err
		}
		return a.Show(answer, func(w *terminal.Table) { write(w, answer) })
	})
}
