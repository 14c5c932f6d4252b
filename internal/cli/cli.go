// Package cli is the command trident: a client of the daemon's API, and the front end of
// the local tools for images.
//
// Each command is one file with three parts: its options, the cobra command that fills the
// options from flags, and the function that runs the command. The cobra command takes that
// function as a parameter, so that a test of the flags runs nothing. Results go to standard
// output; progress, logs and errors go to standard error. The package calls the daemon
// through proto/client and the stubs of proto/trident only, so that trident can do no more
// than any other client. Commands that need no daemon use package local.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/linux/outfile"
	"github.com/trident-project/trident/internal/version"
)

// app has the global flags, and the streams, the clock and the reboot that tests replace.
type app struct {
	stdout, stderr io.Writer
	out, err       screen // of stdout and of stderr
	now            func() time.Time
	// reboot reboots this host; rebootTime bounds the time until the host ends this process.
	reboot     func(context.Context) error
	rebootTime time.Duration

	verbosity verbosity
	socket    string
	server    string // the socket as grpc-client is told it
	output    format
	quiet     bool // neither progress nor success messages are printed
	timeout   time.Duration

	stop context.CancelFunc // of timeout
}

// Main runs the command line of this process and returns its exit code. The first
// interrupt cancels the command's context, the second ends the process.
func Main() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	a := newApp()
	a.stdout = outfile.Interruptible(ctx, os.Stdout)
	go func() {
		cause := errInterrupted
		if <-signals == syscall.SIGTERM {
			cause = errTerminated
		}
		cancel(cause)
		<-signals
		if l, ok := a.stderr.(*live); ok {
			l.abandon()
		}
		os.Exit(exitInterrupted)
	}()
	return a.run(ctx, os.Args[1:])
}

// Command returns the root command, for the generators of manual pages and completions.
func Command() *cobra.Command { return newRootCommand(newApp()) }

func newApp() *app {
	a := &app{stdout: os.Stdout, stderr: os.Stderr, out: screenOf(os.Stdout), err: screenOf(os.Stderr), now: time.Now, rebootTime: rebootTime, stop: func() {}}
	a.reboot = a.rebootHost
	if a.err.terminal {
		liveOn(a)
	}
	return a
}

func (a *app) run(ctx context.Context, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(withValues(args))
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	a.stop()
	err = asUsage(cmd, err)
	if a.output.word == "" {
		a.output.word = wantedFormat(cmd, args)
	}
	a.printError(err)
	return exitCode(err)
}

const rootLong = `trident services image-based Linux hosts, and itself, through the API of the
daemon tridentd. validate, offline-initialize and the commands below sysext and
image need no daemon.

Results go to standard output; progress, logs and errors go to standard error.
Exit codes: 0 success, 1 no connection to the daemon, 2 the command failed or was
used wrongly, 3 the host did not reboot, 5 Trident refused an image, 6 the host is
busy, 7 Trident tried a new version and rolled it back, 124 the command took longer
than --timeout, 130 the command was interrupted. install, update, commit, rollback,
rebuild-raid, get, validate, offline-initialize and diagnose never exit with 5 to 7.`

func newRootCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "trident",
		Short:             "Service image-based Linux hosts",
		Long:              rootLong,
		Version:           version.String(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) },
		RunE:              needsSubcommand,
		Args:              cobra.ArbitraryArgs,
		TraverseChildren:  true, // grpc-client has a flag that its commands do not have
	}
	cmd.SetVersionTemplate("trident {{.Version}}\n")
	cmd.SetFlagErrorFunc(flagError)
	flags := cmd.PersistentFlags()
	flags.VarP(&a.verbosity, "verbosity", "v", "which logs to show: OFF, ERROR, WARN, INFO, DEBUG or TRACE")
	flags.StringVar(&a.socket, "socket", defaultSocket, "the daemon's socket; without this flag $TRIDENT_SOCKET")
	flags.VarP(&a.output, "output", "o", "how to print results: text, json or yaml")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print only results, warnings and errors, without progress and success messages")
	flags.DurationVar(&a.timeout, "timeout", 0, "end the command after this time; 0 means no limit")
	cmd.Flags().BoolP("version", "V", false, "print the version of this command")
	cmd.AddCommand(
		newInstallCommand(a, install), newUpdateCommand(a, updateHost), newCommitCommand(a, commit), newRollbackCommand(a, rollback),
		newRebuildRaidCommand(a, rebuildRaid), newGetCommand(a, get), newDiagnoseCommand(a, collectDiagnostics), newValidateCommand(a, false, validate),
		newOfflineInitializeCommand(a, offlineInitialize), newStartNetworkCommand(a, startNetwork), newDaemonCommand(a, becomeDaemon),
		newGRPCClientCommand(a),
		newVersionCommand(a, printVersions), newSelfCommand(a), newOperationCommand(a), newSysextCommand(a), newImageCommand(a))
	cmd.SetHelpCommand(newHelpCommand())
	a.helpOnTerminal(cmd)
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultCompletionCmd()
	completeValues(cmd)
	withoutFiles(cmd)
	return cmd
}

// defaultSocket is the socket of the daemon.
const defaultSocket = "/run/trident/trident.sock"

func completeValues(cmd *cobra.Command) {
	values := map[string][]string{"verbosity": verbosityWords(), "output": {"text", "json", "yaml"}}
	for flag, words := range values {
		complete := cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		must(cmd.RegisterFlagCompletionFunc(flag, complete))
	}
}

// must panics at an error that only a wrong name of a flag in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// required marks flags that a user has to give.
func required(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		must(cmd.MarkFlagRequired(flag))
	}
}

// begin evaluates the global flags, before every command.
func (a *app) begin(cmd *cobra.Command) error {
	if group := cmd.Parent(); group != nil && group.Flags().Changed("server") {
		path, ok := strings.CutPrefix(a.server, "unix://")
		if !ok {
			return usage(cmd, fmt.Errorf("--server is %s, and must begin with unix://", a.server))
		}
		a.socket = path
	} else if env := os.Getenv("TRIDENT_SOCKET"); env != "" && !cmd.Flags().Changed("socket") {
		a.socket = env
	}
	a.socket = socketPath(a.socket)
	if a.quiet && !cmd.Flags().Changed("verbosity") {
		a.verbosity = verbosity{"WARN"}
	}
	if a.timeout < 0 {
		return usage(cmd, fmt.Errorf("--timeout is %s, it must not be negative", a.timeout))
	}
	if a.timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, errTimedOut)
		a.stop = cancel
		cmd.SetContext(ctx)
	}
	return nil
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

// needsSubcommand runs a group of commands without a subcommand: it prints the help.
func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

// newGroup returns a command that only groups others.
func newGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: needsSubcommand, Args: cobra.ArbitraryArgs}
	cmd.AddCommand(commands...)
	return cmd
}

// exactly refuses more or fewer arguments than names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, fmt.Errorf("%s is missing", strings.Join(names[len(args):], " ")))
		case len(args) > len(names):
			return usage(cmd, fmt.Errorf("there is no place for %q", args[len(names)]))
		}
		return nil
	}
}

// verbosity is the least severity that the command prints, by upstream's names. The default
// is INFO, and not upstream's DEBUG, which would hide the progress.
type verbosity struct{ word string }

func verbosityWords() []string { return []string{"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"} }

const (
	levelTrace = slog.LevelDebug - 4
	levelOff   = slog.LevelError + 4
)

func (v verbosity) String() string {
	if v.word == "" {
		return "INFO"
	}
	return v.word
}

func (verbosity) Type() string { return "LEVEL" }

func (v *verbosity) Set(s string) error {
	for _, word := range verbosityWords() {
		if strings.EqualFold(s, word) {
			v.word = word
			return nil
		}
	}
	return errors.New("it must be one of " + strings.Join(verbosityWords(), ", "))
}

// Level makes a verbosity a slog.Leveler.
func (v verbosity) Level() slog.Level {
	switch v.String() {
	case "OFF":
		return levelOff
	case "ERROR":
		return slog.LevelError
	case "WARN":
		return slog.LevelWarn
	case "DEBUG":
		return slog.LevelDebug
	case "TRACE":
		return levelTrace
	}
	return slog.LevelInfo
}
