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

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/daemon"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/version"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns 0 when the daemon ended as asked, 1 when it could not do its work,
// 2 when it was called wrongly.
func run(args []string) int {
	flags := flag.NewFlagSet("tridentd", flag.ContinueOnError)
	c := daemon.Config{Version: version.String()}
	flags.StringVar(&c.Socket, "socket", "", "listen on this `path` instead of the socket that systemd passes or /run/trident/trident.sock")
	flags.StringVar(&c.Root, "root", "/", "service the host below this `folder`")
	flags.DurationVar(&c.IdleTimeout, "idle-timeout", daemon.DefaultIdleTimeout, "exit after this `time` without calls and work; 0 stays")
	var level slog.Level
	flags.TextVar(&level, "log-level", slog.LevelInfo, "log from this `level` on: debug, info, warn or error")
	show := flags.Bool("version", false, "print the version and exit")
	probe := flags.Bool("probe", false, "check that this tridentd can run here, print the result as JSON and exit")
	datastore := flags.String("datastore", "", "with --probe: a copy of the datastore, to be opened (`path`)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "tridentd: %q is no option; see tridentd --help\n", flags.Arg(0))
		return 2
	}
	c.Logger = daemon.NewLogger(os.Stderr, level)
	// The second signal finds the default action: the process ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	switch {
	case *show:
		fmt.Println("tridentd " + version.String())
		return 0
	case *probe:
		return status(daemon.Probe(ctx, c, *datastore, os.Stdout))
	}
	return status(daemon.Run(ctx, c))
}

func status(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "tridentd: %v\n", err)
	if hint := errkind.Hint(err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	return 1
}
