// Command tridentd services this host, and itself, on behalf of those who call
// its API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/container"
	"github.com/trident-project/trident/internal/daemon"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/observe"
	"github.com/trident-project/trident/internal/version"
)

func main() { os.Exit(run(os.Args[1:])) }

// options are the command line; tridentd(8) describes each of them.
type options struct {
	config    daemon.Config
	level     slog.Level
	show      bool
	probe     bool
	datastore string
}

func (o *options) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("tridentd", flag.ContinueOnError)
	o.config.Version = version.String()
	flags.StringVar(&o.config.Socket, "socket", "", "listen on this `path` instead of the socket that systemd passes or /run/trident/trident.sock")
	flags.StringVar(&o.config.Root, "root", "/", "service the host below this `folder`; in a container, the folder at which it sees the host instead of /host")
	flags.DurationVar(&o.config.IdleTimeout, "idle-timeout", daemon.DefaultIdleTimeout, "exit after this `time` without calls and work; 0 stays")
	flags.TextVar(&o.level, "log-level", slog.LevelInfo, "log from this `level` on: debug, info, warn or error")
	flags.BoolVar(&o.show, "version", false, "print the version and exit")
	flags.BoolVar(&o.probe, "probe", false, "check that this tridentd can run here, print the result as JSON and exit")
	flags.StringVar(&o.datastore, "datastore", "", "with --probe: a copy of the datastore, to be opened (`path`)")
	return flags
}

// run returns 0 when the daemon ended as asked, 1 when it could not do its work,
// 2 when it was called wrongly.
func run(args []string) int {
	var o options
	flags := o.flags()
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "tridentd: %q is not an option; see tridentd --help\n", flags.Arg(0))
		return 2
	}
	c := o.config
	c.Logger = observe.NewLogger(os.Stderr, o.level, version.String())
	slog.SetDefault(c.Logger) // hoststate logs what it mends before there is anything to give it a logger
	// The second signal finds the default action: the process ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	switch {
	case o.show:
		fmt.Println("tridentd " + version.String())
		return 0
	case o.probe:
		return status(daemon.Probe(ctx, c, o.datastore, os.Stdout))
	}
	if err := toHost(&c); err != nil {
		return status(err)
	}
	return status(daemon.Run(ctx, c))
}

// toHost moves a tridentd that runs in a container to the host below it. The option --root
// names the folder at which the container sees the host.
func toHost(c *daemon.Config) error {
	if _, ok := os.LookupEnv(container.Variable); c.Root != "/" && !ok {
		return nil
	}
	isContainer, err := container.Detect()
	if err != nil || !isContainer {
		return err
	}
	root := c.Root
	if root == "/" {
		root = container.HostRoot
	}
	c.Root, c.Fixed = "/", container.Fixed()
	return container.Enter(root)
}

func status(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "tridentd: %s\n", strings.Join(strings.FieldsFunc(err.Error(), unicode.IsControl), "; ")) // the journal has a line per error
	if hint := errkind.Hint(err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	return 1
}
