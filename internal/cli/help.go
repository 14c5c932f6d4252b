package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
)

// newHelpCommand is cobra's help command, but for a topic that does not exist: that is
// an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]…",
		Short:   "Show the help of a command",
		Example: "  trident help\n  trident help self upgrade",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var words []string
			if group, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, c := range group.Commands() {
					if c.IsAvailableCommand() {
						words = append(words, c.Name()+"\t"+c.Short)
					}
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			topic := cmd.Root()
			for _, word := range args {
				at := topic
				for _, c := range topic.Commands() {
					if c.Name() == word || c.HasAlias(word) {
						at = c
					}
				}
				if at == topic {
					return command.UnknownCommand(topic, word)
				}
				topic = at
			}
			topic.InitDefaultHelpFlag()
			topic.InitDefaultVersionFlag()
			return topic.Help()
		},
	}
}

// helpOnTerminal has the help of root and of its commands broken between words where the
// terminal is narrower than the text.
func helpOnTerminal(a *command.App, root *cobra.Command) {
	whole := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		out := cmd.OutOrStdout()
		var text strings.Builder
		cmd.SetOut(&text)
		whole(cmd, args)
		cmd.SetOut(out)
		_, _ = io.WriteString(out, a.FitHelp(text.String()))
	})
}
