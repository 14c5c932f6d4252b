package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

// completeTime bounds the call of a completion to the daemon, because the user waits.
const completeTime = 2 * time.Second

// completion returns the words that may come next; cobra calls it.
type completion = func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective)

// completeWith completes the only argument of a command with words from the daemon, or with
// none if the daemon does not answer.
func (a *app) completeWith(words func(context.Context, *client.Client) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) (found []string, _ cobra.ShellCompDirective) {
		if len(args) > 0 || a.begin(cmd) != nil {
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

// completeArch completes an architecture by any of its names.
func completeArch(cmd *cobra.Command) {
	must(cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions(arch.Names(), cobra.ShellCompDirectiveNoFileComp)))
}

// withoutFiles turns the completion of file names off for commands without an argument and
// for the values of flags that are not paths.
func withoutFiles(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		withoutFiles(c)
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

func operationIDs(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Operations(ctx, 20, false)
	var words []string
	for _, op := range all {
		words = append(words, terminal.Line(op.GetId())+"\t"+terminal.Line(op.GetSummary()))
	}
	return words, err
}

func stagedVersions(ctx context.Context, c *client.Client) ([]string, error) {
	status, err := c.Status(ctx)
	var words []string
	for _, i := range status.GetImages() {
		words = append(words, terminal.Line(i.GetVersion()))
	}
	return words, err
}

func blockedVersions(ctx context.Context, c *client.Client) ([]string, error) {
	status, err := c.Status(ctx)
	var words []string
	for _, b := range status.GetBlocked() {
		words = append(words, terminal.Line(b.GetVersion())+"\t"+terminal.Line(b.GetReason()))
	}
	return words, err
}
