package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// An example is a command line that the command takes.
func TestEveryHelpPageHasExamplesThatParse(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if c.Name() != "completion" {
				walk(c)
			}
		}
		if cmd.HasSubCommands() {
			return
		}
		own := 0
		for l := range strings.Lines(cmd.Example) {
			l, _, _ = strings.Cut(strings.TrimSuffix(strings.TrimSpace(l), "\\"), " | ")
			l, _, _ = strings.Cut(l, " < ")
			args, ok := strings.CutPrefix(l, "trident ")
			if !ok {
				continue
			}
			found, rest, err := Command().Find(strings.Fields(args))
			if err != nil || found.Name() != cmd.Name() {
				continue // of another command, beside this one
			}
			own++
			found.InitDefaultHelpFlag()
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), l, err)
			} else if found.Args != nil && found.Args(found, found.Flags().Args()) != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), l, found.Args(found, found.Flags().Args()))
			}
		}
		if own == 0 {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	}
	walk(Command())
}
