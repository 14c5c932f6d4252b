package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosts"
	"github.com/trident-project/trident/proto/client"
)

const (
	// defaultParallel and maxParallel are the numbers of hosts that a command works on at the
	// same time.
	defaultParallel = 16
	maxParallel     = 1000
)

// hostOptions are the global flags that name hosts.
type hostOptions struct {
	hosts, labels []string
	parallel      int

	// target is the host that the command works on; nil: that of the socket.
	target *hosts.Target
	// targets are the hosts of a command on several; empty for one.
	targets []hosts.Target
	// isOneOfSeveral: the flags are those of a command on several hosts, and target is set.
	isOneOfSeveral bool
}

// addHostFlags adds the flags that name hosts.
func (a *App) addHostFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringArrayVar(&a.on.hosts, "host", nil, "the `HOSTS`, separated by commas: names, unix:PATH, ssh://…, tls://…; without this flag $TRIDENT_HOST")
	flags.StringArrayVar(&a.on.labels, "label", nil, "all hosts of hosts.yaml with this label `NAME=VALUE`; several have to match")
	flags.IntVar(&a.on.parallel, "parallel", defaultParallel, "the most hosts to work on at the same time, `N`")
	must(cmd.RegisterFlagCompletionFunc("host", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return HostNames(), cobra.ShellCompDirectiveNoFileComp
	}))
	must(cmd.RegisterFlagCompletionFunc("label", cobra.NoFileCompletions))
}

// HostNames returns the names in hosts.yaml for completions; none if it cannot be read.
func HostNames() []string {
	f, err := loadHosts()
	if err != nil {
		return nil
	}
	return f.Names()
}

func loadHosts() (*hosts.File, error) {
	path, err := hosts.DefaultPath()
	if err != nil {
		return nil, err
	}
	return hosts.Load(path)
}

// onThisHost is the annotation of commands that do not call the daemon of a host.
const onThisHost = "on-this-host"

// OnThisHost marks commands, and those below them, that work on this machine alone: they
// refuse --host and --label, and ignore TRIDENT_HOST.
func OnThisHost(commands ...*cobra.Command) []*cobra.Command {
	for _, cmd := range commands {
		if cmd.Annotations == nil {
			cmd.Annotations = map[string]string{}
		}
		cmd.Annotations[onThisHost] = "true"
	}
	return commands
}

// isOnThisHost reports whether a command works on this machine alone. Those of cobra do, and
// groups, which only print their help.
func isOnThisHost(cmd *cobra.Command) bool {
	if cmd.HasSubCommands() {
		return true
	}
	for c := cmd; c != nil; c = c.Parent() {
		switch c.Name() {
		case "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
			return true
		}
		if c.Annotations[onThisHost] != "" {
			return true
		}
	}
	return false
}

// isGlobal reports whether a global flag was given, and not one of the command with its name.
func isGlobal(cmd *cobra.Command, name string) bool {
	f := cmd.Flags().Lookup(name)
	return f != nil && f.Changed && f == cmd.Root().PersistentFlags().Lookup(name)
}

// beginHosts evaluates the flags that name hosts, and TRIDENT_HOST.
func (a *App) beginHosts(cmd *cobra.Command) error {
	if a.on.isOneOfSeveral {
		return nil
	}
	if a.on.parallel < 1 || a.on.parallel > maxParallel {
		return UsageError(cmd, fmt.Errorf("--parallel is %d, and must be from 1 to %d", a.on.parallel, maxParallel))
	}
	byFlag := ""
	for _, name := range []string{"label", "host"} {
		if isGlobal(cmd, name) {
			byFlag = "--" + name
		}
	}
	if isOnThisHost(cmd) {
		if byFlag != "" && !cmd.HasSubCommands() {
			return UsageError(cmd, fmt.Errorf("%s works on this machine alone: omit %s", cmd.CommandPath(), byFlag))
		}
		return nil
	}
	names := a.on.hosts
	if byFlag == "" && os.Getenv("TRIDENT_HOST") != "" && !givesSocket(cmd) {
		names = []string{os.Getenv("TRIDENT_HOST")}
		if os.Getenv("TRIDENT_SOCKET") != "" {
			return UsageError(cmd, errors.New("TRIDENT_HOST and TRIDENT_SOCKET exclude each other: unset one"))
		}
		return a.selectHosts(cmd, "TRIDENT_HOST", names, nil)
	}
	if byFlag == "" {
		return nil
	}
	if givesSocket(cmd) {
		return UsageError(cmd, fmt.Errorf("%s and the flags for a socket exclude each other", byFlag))
	}
	return a.selectHosts(cmd, byFlag, names, a.on.labels)
}

// givesSocket reports whether a flag names the socket.
func givesSocket(cmd *cobra.Command) bool {
	group := cmd.Parent()
	return isGlobal(cmd, "socket") || group != nil && group.Flags().Changed("server")
}

// selectHosts stores the targets: one for a single name, several for anything else.
func (a *App) selectHosts(cmd *cobra.Command, source string, given, texts []string) error {
	var names []string
	for _, list := range given {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name == "" {
				return UsageError(cmd, fmt.Errorf("%s has an empty name", source))
			}
			names = append(names, name)
		}
	}
	var labels []hosts.Label
	for _, text := range texts {
		l, err := hosts.ParseLabel(text)
		if err != nil {
			return UsageError(cmd, fmt.Errorf("--label: %w", err))
		}
		labels = append(labels, l)
	}
	f := &hosts.File{}
	if len(labels) > 0 || !slices.ContainsFunc(names, hosts.IsEndpoint) || len(names) > 1 {
		var err error
		if f, err = loadHosts(); err != nil {
			return err
		}
	}
	targets, err := f.Select(names, labels)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	if len(names) == 1 && len(labels) == 0 {
		a.on.target = &targets[0]
		return nil
	}
	for _, flag := range []string{"status", "error", "outfile"} {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed && f.Value.String() != "-" {
			return UsageError(cmd, fmt.Errorf("--%s names one file, and the command works on several hosts: omit it, and use --output json", flag))
		}
	}
	a.on.targets = targets
	return nil
}

// Target returns the host that the command works on; nil for that of the socket.
func (a *App) Target() *hosts.Target { return a.on.target }

// HasSeveralHosts reports whether the command works on several hosts, that is: by a list of
// names or by labels, also if these are one host.
func (a *App) HasSeveralHosts() bool { return len(a.on.targets) > 0 }

// IsOneOfSeveral reports whether the command runs for one of several hosts, whose results are
// printed together at the end.
func (a *App) IsOneOfSeveral() bool { return a.on.isOneOfSeveral }

// Parallel returns the most hosts to work on at the same time.
func (a *App) Parallel() int { return a.on.parallel }

// OnEach calls run for each host, for at most --parallel at the same time, with an App for
// that host, and prints the results together. It returns one error for each host: nil or a
// *client.HostError. describe returns the form of an error for programs, and how the line of
// its host ends.
func (a *App) OnEach(ctx context.Context, run func(context.Context, *App) error, describe func(error) (*terminal.HostFailure, string)) ([]error, error) {
	names := make([]string, len(a.on.targets))
	for i, t := range a.on.targets {
		names[i] = t.Name
	}
	board := a.NewBoard(names)
	ctx = context.WithValue(ctx, stdinKey{}, &sharedInput{source: os.Stdin})
	errs := make([]error, len(names))
	failures := make([]*terminal.HostFailure, len(names))
	turns := make(chan struct{}, a.on.parallel)
	var all sync.WaitGroup
	for i := range names {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			err := context.Cause(ctx) // of a host that has not begun
			if ctx.Err() == nil {
				one := a.one(a.on.targets[i], board.Streams(i))
				err = run(ctx, one)
				one.End()
			}
			how := "done"
			if err != nil {
				errs[i] = &client.HostError{Host: names[i], Err: err}
				failures[i], how = describe(err)
			}
			board.Ended(i, how)
		})
	}
	all.Wait()
	board.Close()
	return errs, board.Print(failures)
}

// one returns the App of the command on one of several hosts.
func (a *App) one(t hosts.Target, s terminal.Streams) *App {
	return &App{Streams: s, Reboot: a.Reboot, RebootTime: a.RebootTime, Silence: a.Silence, on: hostOptions{target: &t, isOneOfSeveral: true}}
}

// errUsage marks an error of the command line.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

// IsUsage reports whether err is an error of the command line, which is that of each host.
func IsUsage(err error) bool {
	_, ok := errors.AsType[errUsage](err)
	return ok
}

// hintSSH is the hint for a socket that is on another host.
func hintSSH(err error) error {
	return errkind.WithHint(err, "Name the host instead of a socket: --host ssh://root@HOST, or --host tls://HOST:PORT")
}
