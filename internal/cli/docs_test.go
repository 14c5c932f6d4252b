package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// pages are what users read.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/*/*.md", "../../internal/README.md", "../../sysext/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = string(text)
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d pages found", len(out))
	}
	return out
}

// A command in a page is a line of a block, after a prompt or not, or code in a
// sentence.
var commands = regexp.MustCompile("(?m)(?:^ {4}(?:[$#] )?(?:dist/)?|`)trident ((?:-|[a-z])[^`|>#\n]*)")

func TestEveryCommandInThePagesExists(t *testing.T) {
	for name, text := range pages(t) {
		for _, found := range commands.FindAllStringSubmatch(text, -1) {
			args := strings.Fields(strings.ReplaceAll(found[1], "──▶", " "))
			if args[0] == "help" {
				continue
			}
			cmd, rest, err := Command().Find(globalFirst(args))
			if err != nil {
				t.Errorf("%s: trident %s: %v", name, found[1], err)
				continue
			}
			cmd.InitDefaultHelpFlag()
			cmd.InitDefaultVersionFlag()
			if err := cmd.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
				t.Errorf("%s: trident %s: %v", name, found[1], err)
			}
			if strings.Contains(found[1], " ") && cmd.HasSubCommands() && cmd.HasParent() {
				t.Errorf("%s: trident %s: %s is not a command", name, found[1], cmd.Flags().Arg(0))
			}
		}
	}
}

// globalFirst moves global flags with a value behind the command, where Find
// does not take the value for one.
func globalFirst(args []string) []string {
	if len(args) > 2 && args[0] == "--socket" {
		return append(args[2:], args[:2]...)
	}
	return args
}

var (
	links    = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInID  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are the places in a page that a link can name, by the rule of GitHub: a
// heading in small letters, without punctuation, with hyphens for spaces.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, h := range headings.FindAllStringSubmatch(text, -1) {
		out[strings.ReplaceAll(notInID.ReplaceAllString(strings.ToLower(strings.TrimSpace(h[1])), ""), " ", "-")] = true
	}
	return out
}

// inRepository returns the file of the tree that a link to the public repository names.
func inRepository(link string) (file string, ok bool) {
	const main = "https://github.com/trident-project/trident/"
	for _, kind := range []string{"blob/main/", "tree/main/"} {
		if file, ok = strings.CutPrefix(link, main+kind); ok {
			return file, true
		}
	}
	return "", false
}

func TestEveryLinkInThePagesLeadsSomewhere(t *testing.T) {
	for name, text := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(text, -1) {
			target := name
			if file, ok := inRepository(link[1]); ok {
				target = filepath.Join("../..", file)
			} else if strings.Contains(link[1], "://") {
				continue
			} else if link[1] != "" {
				target = filepath.Join(filepath.Dir(name), link[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if link[2] == "" {
				continue
			}
			page, err := os.ReadFile(target)
			if err != nil || !anchors(string(page))[link[2]] {
				t.Errorf("%s: %s has no heading #%s: %v", name, target, link[2], err)
			}
		}
	}
}

// A file or folder of the tree is code in a sentence: a name below one of its folders, in
// which * stands for any letters.
var treeNames = regexp.MustCompile("`((?:\\.ci|cmd|docs|internal|packaging|proto|sysext|systemd)/[a-z0-9_./*-]*)`")

func TestEveryFileOfTheTreeThatAPageNamesExists(t *testing.T) {
	found := 0
	for page, text := range pages(t) {
		for _, name := range treeNames.FindAllStringSubmatch(text, -1) {
			found++
			if files, err := filepath.Glob(filepath.Join("../..", name[1])); err != nil || len(files) == 0 {
				t.Errorf("%s: there is no %s (%v)", page, name[1], err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names found", found)
	}
}

// A wide table cannot be read on a phone, or beside code.
func TestATableInThePagesHasAtMostThreeColumns(t *testing.T) {
	for name, text := range pages(t) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "|--") && strings.Count(line, "|") > 4 {
				t.Errorf("%s: a table has %d columns: %s", name, strings.Count(line, "|")-1, line)
			}
		}
	}
}

var testNames = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

// The threat model names the test that holds each line.
func TestEveryTestThatAPageNamesExists(t *testing.T) {
	have := map[string]bool{}
	for _, top := range []string{"..", "../../cmd", "../../packaging", "../../proto"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for line := range strings.Lines(string(text)) {
				if name, ok := strings.CutPrefix(line, "func Test"); ok {
					name, _, _ = strings.Cut(name, "(")
					have["Test"+name] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for page, text := range pages(t) {
		for _, found := range testNames.FindAllStringSubmatch(text, -1) {
			if !have[found[1]] {
				t.Errorf("%s: there is no %s", page, found[1])
			}
		}
	}
}
