package command

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/proto/client"
)

// completeTime bounds the call of a completion to the daemon, because the user waits.
const completeTime = 2 * time.Second

// completion returns the words that may come next; cobra calls it.
type completion = func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective)

// CompleteWith completes the only argument of a command with words from the daemon, or with
// none if the daemon does not answer.
func (a *App) CompleteWith(words func(context.Context, *client.Client) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) (found []string, _ cobra.ShellCompDirective) {
		if len(args) > 0 || a.Begin(cmd) != nil || a.HasSeveralHosts() {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeTime)
		defer cancel()
		c, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer func() { _ = c.Close() }()
		found, _ = words(ctx, c)
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// CompleteFlag completes the value of a flag with these words.
func CompleteFlag(cmd *cobra.Command, flag string, words ...string) {
	must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
}

// WithoutFiles turns the completion of file names off for commands without an argument and
// for the values of flags that are not paths.
func WithoutFiles(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		WithoutFiles(c)
	}
	if cmd.HasSubCommands() || cmd.ValidArgs == nil && cmd.ValidArgsFunction == nil && !strings.Contains(cmd.Use, " ") {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, has := cmd.GetFlagCompletionFunc(f.Name); !has && !isPath(f) {
			must(cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions))
		}
	})
}

// isPath reports whether the value of a flag is the path of a file or a folder.
func isPath(f *pflag.Flag) bool {
	switch f.Name {
	case "sha256", "sha384", "hash", "id", "lazy-partitions":
		return false
	}
	return strings.HasPrefix(f.Value.Type(), "string")
}
