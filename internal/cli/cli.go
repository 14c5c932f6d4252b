// Package cli is the command trident: it puts the groups of commands together, reads the
// command line, and turns errors into exit codes.
//
// Each group of commands is a package below this one, and each command is one file with
// three parts: its options, the cobra command that fills the options from flags, and the
// function that runs the command. The cobra command takes that function as a parameter, so
// that a test of the flags runs nothing. Results go to standard output; progress, logs and
// errors go to standard error. The commands call the daemon through proto/client only, so
// that trident can do no more than any other client. Commands that need no daemon use
// package local.
package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/call"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/feed"
	"github.com/trident-project/trident/internal/cli/host"
	"github.com/trident-project/trident/internal/cli/hosts"
	"github.com/trident-project/trident/internal/cli/image"
	"github.com/trident-project/trident/internal/cli/operation"
	"github.com/trident-project/trident/internal/cli/self"
	"github.com/trident-project/trident/internal/cli/sysext"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/version"
)

// Main runs the command line of this process and returns its exit code. The first
// interrupt cancels the command's context, the second ends the process.
func Main() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	a := &command.App{Streams: terminal.NewStreams()}
	a.KeepStdoutInterruptible(ctx)
	go func() {
		cause := command.ErrInterrupted
		if <-signals == syscall.SIGTERM {
			cause = command.ErrTerminated
		}
		cancel(cause)
		<-signals
		a.Abandon()
		os.Exit(exitInterrupted)
	}()
	return execute(ctx, a, os.Args[1:])
}

// Command returns the root command, for the generators of manual pages and completions.
func Command() *cobra.Command { return newRootCommand(&command.App{Streams: terminal.NewStreams()}) }

func execute(ctx context.Context, a *command.App, args []string) int {
	cmd, err := run(ctx, a, args)
	a.End()
	if a.Output == "" {
		a.Output = wantedFormat(cmd, args)
	}
	printError(a, err)
	return exitCode(err)
}

// run runs a command line, and returns the command that it was for.
func run(ctx context.Context, a *command.App, args []string) (*cobra.Command, error) {
	root := newRootCommand(a)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := a.Begin(cmd)
		if err == nil {
			onSeveralHosts(a, cmd, args)
		}
		return err
	}
	root.SetArgs(withValues(args))
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return cmd, command.AsUsage(cmd, err)
}

// runFor returns a function that runs a command line of a with other streams.
func runFor(a *command.App) hosts.Runner {
	return func(ctx context.Context, streams terminal.Streams, args []string) int {
		streams.Output, streams.Quiet, streams.Verbosity = a.Output, a.Quiet, a.Verbosity
		return execute(ctx, &command.App{Streams: streams}, args)
	}
}

const rootLong = `trident services image-based Linux hosts, and itself, through the API of the
daemon tridentd: that of this host, or with --host those of other hosts. validate,
offline-initialize and the commands below sysext, image and feed need no daemon.

Results go to standard output; progress, logs and errors go to standard error.
Exit codes: 0 success, 1 no connection to the daemon (or, of provision, to the
machine), 2 the command failed or was
used wrongly, 3 the host did not reboot, 5 Trident refused an image, 6 the host is
busy, 7 Trident tried a new version and rolled it back, 124 the command took longer
than --timeout, 130 the command was interrupted. install, update, commit, rollback,
rebuild-raid, get, validate, offline-initialize and diagnose never exit with 5 to 7.
On several hosts the exit code is the worst of them.`

func newRootCommand(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:              "trident",
		Short:            "Service image-based Linux hosts",
		Long:             rootLong,
		Version:          version.String(),
		SilenceUsage:     true,
		SilenceErrors:    true,
		RunE:             command.NeedsSubcommand,
		Args:             cobra.ArbitraryArgs,
		TraverseChildren: true, // grpc-client has a flag that its commands do not have
	}
	cmd.SetVersionTemplate("trident {{.Version}}\n")
	cmd.SetFlagErrorFunc(command.FlagError)
	a.AddFlags(cmd)
	cmd.Flags().BoolP("version", "V", false, "print the version of this command")
	cmd.AddCommand(host.Commands(a)...)
	cmd.AddCommand(self.Command(a), operation.Command(a), call.Command(a))
	cmd.AddCommand(command.OnThisHost(sysext.Command(a), image.Command(a), feed.Command(a))...)
	cmd.AddCommand(hosts.Commands(a, runFor(a))...)
	cmd.SetHelpCommand(newHelpCommand())
	helpOnTerminal(a, cmd)
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultCompletionCmd()
	command.WithoutFiles(cmd)
	return cmd
}
