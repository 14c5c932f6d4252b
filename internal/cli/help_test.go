package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
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

func TestHelpIsBrokenBetweenWords(t *testing.T) {
	whole := func(columns int, path []string) string {
		a, stdout, _ := commandtest.New()
		a.Out.Size = func() int { return columns }
		if code := execute(t.Context(), a, append(path, "--help")); code != 0 {
			t.Fatalf("%v: %d", path, code)
		}
		return stdout.String()
	}
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		want := whole(0, path)
		for _, columns := range []int{60, 80, 400} {
			text := whole(columns, path)
			for l := range strings.Lines(text) { // no help page has a wide character
				if utf8.RuneCountInString(l) > columns+1 && cmd.Name() != "completion" {
					t.Errorf("%v at %d columns: a line is too long: %s", path, columns, l)
				}
			}
			plain := strings.NewReplacer("\\\n", "")
			if !cmp.Equal(strings.Fields(plain.Replace(text)), strings.Fields(plain.Replace(want))) {
				t.Errorf("%v at %d columns has other words:\n%s", path, columns, text)
			}
			if columns == 400 && text != want {
				t.Errorf("%v is broken where it fits:\n%s", path, text)
			}
		}
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && cmd.Name() != "completion" {
				walk(c, append(path[:len(path):len(path)], c.Name()))
			}
		}
	}
	walk(Command(), nil)
}
