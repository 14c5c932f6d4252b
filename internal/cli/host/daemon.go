package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
)

// daemonPath is the program of the daemon.
const daemonPath = "/usr/bin/tridentd"

type daemonOptions struct {
	app *command.App
	// args are for tridentd.
	args []string
}

func newDaemonCommand(a *command.App, run func(context.Context, *daemonOptions) error) *cobra.Command {
	o := &daemonOptions{app: a}
	timeout := humantime(300 * time.Second)
	var socket string
	cmd := &cobra.Command{
		Use:     "daemon",
		Short:   "Become the daemon, as upstream's units want",
		Example: "  trident daemon --inactivity-timeout 10min",
		Long:    "Daemon replaces this process with " + daemonPath + ". Upstream's units run it.",
		Hidden:  true,
		Args:    command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.args = []string{"--idle-timeout", time.Duration(timeout).String(), "--log-level", daemonLevel(a.Verbosity)}
			if cmd.Flags().Changed("socket-path") { // else a socket that systemd passes comes first
				o.args = append(o.args, "--socket", socket)
			}
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().Var(&timeout, "inactivity-timeout", "exit after this time without calls and operations, as in 5m or 1h 30m; 0s: never")
	cmd.Flags().StringVar(&socket, "socket-path", command.DefaultSocket, "listen on this socket")
	return cmd
}

// daemonLevel returns the daemon's name of a verbosity; the daemon has neither OFF nor TRACE.
func daemonLevel(v terminal.Verbosity) string {
	switch word := strings.ToLower(v.String()); word {
	case "off":
		return "error"
	case "trace":
		return "debug"
	default:
		return word
	}
}

func becomeDaemon(_ context.Context, o *daemonOptions) error {
	err := syscall.Exec(daemonPath, append([]string{daemonPath}, o.args...), os.Environ())
	return command.AsUpstream(fmt.Errorf("become the daemon: run %s: %w", daemonPath, err))
}

// humantime is a duration in upstream's form: a sum of numbers with units, as in 1h 30m.
type humantime time.Duration

func (h humantime) String() string { return time.Duration(h).String() }

func (humantime) Type() string { return "TIME" }

var humantimePart = regexp.MustCompile(`^\s*([0-9]+)\s*([a-z]+)`)

func (h *humantime) Set(s string) error {
	var sum float64
	rest := s
	for strings.TrimSpace(rest) != "" {
		part := humantimePart.FindStringSubmatch(rest)
		if part == nil || humanUnit(part[2]) == 0 {
			return errors.New("it must be made of numbers with units, as in 5m or 1h 30m")
		}
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return err
		}
		sum += n * float64(humanUnit(part[2]))
		rest = rest[len(part[0]):]
	}
	if strings.TrimSpace(s) == "" || sum >= math.MaxInt64 {
		return errors.New("the time is empty or too long")
	}
	*h = humantime(sum)
	return nil
}

func humanUnit(word string) time.Duration {
	switch word {
	case "ns", "nsec":
		return time.Nanosecond
	case "us", "usec":
		return time.Microsecond
	case "ms", "msec":
		return time.Millisecond
	case "s", "sec", "secs", "second", "seconds":
		return time.Second
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute
	case "h", "hr", "hrs", "hour", "hours":
		return time.Hour
	case "d", "day", "days":
		return 24 * time.Hour
	case "w", "week", "weeks":
		return 7 * 24 * time.Hour
	}
	return 0
}
