package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

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

// atMostOne takes one argument or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, fmt.Errorf("there is no place for %q", args[1]))
	}
	return nil
}

// argument returns the only argument, or otherwise without one.
func argument(args []string, otherwise string) string {
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

// required marks flags that a user has to give.
func required(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		must(cmd.MarkFlagRequired(flag))
	}
}
