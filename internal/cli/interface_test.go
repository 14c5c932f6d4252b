package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

// interfaceOf has one line for each command and each flag of it.
func interfaceOf(root *cobra.Command) []string {
	var out []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "trident ")
		_, args, _ := strings.Cut(cmd.Use, " ")
		if strings.HasPrefix(args, "--") {
			args = ""
		}
		text := strings.TrimSpace(name + " " + args)
		if len(cmd.Aliases) > 0 {
			text += ", also " + strings.Join(cmd.Aliases, " ")
		}
		if cmd.Hidden {
			text += " (hidden)"
		}
		out = append(out, text)
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { out = append(out, flagOf(name, f)) })
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { out = append(out, flagOf(name, f)) })
		for _, c := range cmd.Commands() {
			if c.Name() != "completion" {
				walk(c)
			}
		}
	}
	walk(root)
	slices.Sort(out)
	return out
}

func flagOf(command string, f *pflag.Flag) string {
	text := command + " --" + f.Name
	if f.Shorthand != "" {
		text += " -" + f.Shorthand
	}
	text += fmt.Sprintf(" %s %q", f.Value.Type(), f.DefValue)
	if len(f.Annotations[cobra.BashCompOneRequiredFlag]) > 0 {
		text += " (required)"
	}
	if f.Hidden {
		text += " (hidden)"
	}
	return text
}

func TestTheCommandLineContainsUpstreams(t *testing.T) {
	table, err := os.ReadFile("testdata/upstream.interface")
	if err != nil {
		t.Fatal(err)
	}
	ours := interfaceOf(Command())
	for want := range strings.Lines(string(table)) {
		want = strings.TrimSpace(want)
		if want == "" || strings.HasPrefix(want, "#") {
			continue
		}
		if !slices.ContainsFunc(ours, func(have string) bool {
			return have == want || strings.HasPrefix(have, want+" ") && strings.HasPrefix(want, "trident --")
		}) {
			t.Errorf("there is no %q", want)
		}
	}
}

// Whoever changes the help or the interface sees here what users see of it.
func TestTheHelpMatchesTheGoldenFile(t *testing.T) {
	var text bytes.Buffer
	for _, l := range interfaceOf(Command()) {
		fmt.Fprintln(&text, l)
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.SetOut(&text)
		fmt.Fprintf(&text, "\n== %s --help\n", cmd.CommandPath())
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for _, c := range cmd.Commands() {
			if c.Name() != "completion" && cmd.Name() != "grpc-client" {
				walk(c)
			}
		}
	}
	walk(Command())
	const golden = "testdata/help.golden"
	if *update {
		if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("help (-want +got); -update takes it over:\n%s", diff)
	}
}

func TestTheSocketOfGRPCClientIsThatOfItsCommands(t *testing.T) {
	for _, server := range []string{"unix:///no/such.sock", "tcp://x"} {
		a, _, stderr := commandtest.New()
		code := execute(context.Background(), a, []string{"grpc-client", "-s", server, "update", "x.yaml", "-s", "status"})
		switch {
		case server == "tcp://x" && code != exitFailed:
			t.Errorf("exit code %d", code)
		case server != "tcp://x" && (code != exitSetup || !strings.Contains(stderr.String(), "/no/such.sock")):
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
	}
}
