package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// NeedsSubcommand runs a group of commands without a subcommand: it prints the help.
func NeedsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return UnknownCommand(cmd, args[0])
}

// Group returns a command that only groups others.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: NeedsSubcommand, Args: cobra.ArbitraryArgs}
	cmd.AddCommand(commands...)
	return cmd
}

// Exactly refuses more or fewer arguments than names.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return UsageError(cmd, fmt.Errorf("%s is missing", strings.Join(names[len(args):], " ")))
		case len(args) > len(names):
			return UsageError(cmd, fmt.Errorf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}

// AtMostOne takes one argument or none.
func AtMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return UsageError(cmd, fmt.Errorf("unexpected argument %q", args[1]))
	}
	return nil
}

// Run returns the RunE of a command: it stores the arguments in values and calls run with
// the options o. A value without an argument keeps its default.
func Run[O any](run func(context.Context, *O) error, o *O, values ...*string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		for i, arg := range args {
			*values[i] = arg
		}
		return run(cmd.Context(), o)
	}
}

// Argument returns the only argument, or otherwise without one.
func Argument(args []string, otherwise string) string {
	if len(args) == 0 {
		return otherwise
	}
	return args[0]
}

// must panics at an error that only a wrong name of a flag in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Required marks flags that a user has to give.
func Required(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		must(cmd.MarkFlagRequired(flag))
	}
}
