package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/version"
)

// manuals writes one compressed page for each command into dir. Cobra makes the pages; the
// options, which it prints with the zero values of Go for defaults, and the sections that
// it does not know are made here.
func manuals(root *cobra.Command, dir string, date time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of manual pages: %w", err)
	}
	codes, err := exitCodes("docs/cli.md")
	if err != nil {
		return err
	}
	shared, err := os.ReadFile("packaging/man/trident.1.in")
	if err != nil {
		return fmt.Errorf("read sections of trident(1): %w", err)
	}
	var write func(cmd *cobra.Command) error
	write = func(cmd *cobra.Command) error {
		for _, sub := range cmd.Commands() {
			if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
				continue
			}
			if err := write(sub); err != nil {
				return err
			}
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		header := doc.GenManHeader{
			Title: strings.ToUpper(name), Section: "1", Source: "Trident " + version.String(), Manual: "Trident", Date: &date,
		}
		var text bytes.Buffer
		if err := doc.GenMan(cmd, &header, &text); err != nil {
			return fmt.Errorf("make manual page: %w", err)
		}
		more := ".SH ENVIRONMENT\nSee\n.BR trident (1).\n.SH FILES\nSee\n.BR trident (1).\n"
		if !cmd.HasParent() {
			more = string(shared)
		}
		page := complete(text.String(), cmd, exitStatus(codes, cmd)+more)
		return writeGzip(filepath.Join(dir, name+".1.gz"), []byte(page))
	}
	return write(root)
}

// complete returns a page of cobra's with true options, and with more before the examples.
func complete(page string, cmd *cobra.Command, more string) string {
	sections := strings.Split(page, "\n.SH ")
	kept := sections[:1]
	for _, s := range sections[1:] {
		name, _, _ := strings.Cut(s, "\n")
		switch strings.Trim(name, `"`) {
		case "SYNOPSIS":
			if !cmd.HasParent() {
				s = "SYNOPSIS\n.B trident\n.I COMMAND\n.RI [ OPTIONS ]\n"
			}
		case "OPTIONS", "OPTIONS INHERITED FROM PARENT COMMANDS", "EXAMPLE", "SEE ALSO":
			continue
		}
		kept = append(kept, s)
	}
	out := strings.Join(kept, "\n.SH ")
	out = strings.TrimRight(out, "\n") + "\n.SH OPTIONS\n" + options(cmd.NonInheritedFlags())
	if cmd.HasParent() {
		out += ".SH OPTIONS OF EVERY COMMAND\n" + options(cmd.InheritedFlags())
	}
	out += more
	if cmd.Example != "" {
		out += ".SH EXAMPLES\n.EX\n" + escape(strings.TrimRight(cmd.Example, "\n")) + "\n.EE\n"
	}
	return out + ".SH SEE ALSO\n" + strings.Join(related(cmd), ",\n") + "\n"
}

// options lists flags with the values that they take, and defaults that are no zero values.
func options(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(&b, `\fB\-%s\fP, `, escape(f.Shorthand))
		}
		fmt.Fprintf(&b, `\fB%s\fP`, escape("--"+f.Name))
		if value != "" {
			fmt.Fprintf(&b, ` \fI%s\fP`, escape(strings.ToUpper(value)))
		}
		fmt.Fprintf(&b, "\n%s", escape(usage))
		if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) && !strings.Contains(usage, "(default ") {
			fmt.Fprintf(&b, " (default %s)", escape(f.DefValue))
		}
		b.WriteString("\n")
	})
	return b.String()
}

func related(cmd *cobra.Command) []string {
	var list []string
	add := func(name string, section int) {
		list = append(list, fmt.Sprintf(`\fB%s\fP(%d)`, escape(strings.ReplaceAll(name, " ", "-")), section))
	}
	if cmd.HasParent() {
		add(cmd.Parent().CommandPath(), 1)
	} else {
		add("tridentd", 8)
		add("trident-rescue", 8)
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			add(sub.CommandPath(), 1)
		}
	}
	return list
}

// An exitCode is a row of the table in docs/cli.md.
type exitCode struct{ code, meaning string }

var codeRow = regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \|$`)

// exitCodes reads the table of exit codes.
func exitCodes(page string) ([]exitCode, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, fmt.Errorf("read exit codes: %w", err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Exit codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var codes []exitCode
	for _, row := range codeRow.FindAllStringSubmatch(section, -1) {
		codes = append(codes, exitCode{row[1], row[2]})
	}
	if len(codes) < 2 {
		return nil, fmt.Errorf("read exit codes: %s has no table below \"## Exit codes\"", page)
	}
	return codes, nil
}

// upstreams are the commands that end with upstream's exit codes alone.
var upstreams = []string{"install", "update", "commit", "rollback", "rebuild-raid", "get", "validate", "offline-initialize", "diagnose"}

// exitStatus is the section on the codes that a command can end with.
func exitStatus(codes []exitCode, cmd *cobra.Command) string {
	isUpstreams := cmd.HasParent() && !cmd.Parent().HasParent() && slices.Contains(upstreams, cmd.Name())
	var b strings.Builder
	b.WriteString(".SH EXIT STATUS\n")
	for _, c := range codes {
		if isUpstreams && slices.Contains([]string{"5", "6", "7"}, c.code) {
			continue
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", c.code, escape(plain(c.meaning)))
	}
	if !cmd.HasParent() {
		fmt.Fprintf(&b, ".PP\n5, 6 and 7 are never the code of %s.\n", escape(strings.Join(upstreams, ", ")))
	}
	return b.String()
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// plain is text without the marks of Markdown.
func plain(text string) string {
	return strings.NewReplacer("`", "", "**", "", `\|`, "|").Replace(link.ReplaceAllString(text, "$1"))
}

// escape makes text of which roff takes no character for its own.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
