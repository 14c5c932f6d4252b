package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
)

// generate runs the program in a new folder and returns what it wrote, by name.
func generate(t *testing.T) map[string]string {
	t.Helper()
	t.Chdir("../..")
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	dir := t.TempDir()
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = read(path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

// read returns the text of a file, unpacked if its name ends in .gz.
func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return "", err
		}
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

func TestEveryCommandHasAPage(t *testing.T) {
	files := generate(t)
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if c.Hidden { // and with it what is below
			return
		}
		if c.IsAvailableCommand() || !c.HasParent() {
			name := "man1/" + strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1.gz"
			if !strings.Contains(files[name], `.SH "NAME"`) && !strings.Contains(files[name], ".SH NAME") {
				t.Errorf("%s has no page %s", c.CommandPath(), name)
			}
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(cli.Command())
}

func TestPagesOfTheOtherProgramsCarryTheVersion(t *testing.T) {
	files := generate(t)
	for _, name := range []string{"man8/tridentd.8.gz", "man8/trident-rescue.8.gz", "man8/trident-gateway.8.gz"} {
		if text := files[name]; !strings.Contains(text, ".SH SYNOPSIS") || strings.Contains(text, "@VERSION@") {
			t.Errorf("%s: %.200q", name, text)
		}
	}
}

func TestCompletionsKnowTheCommands(t *testing.T) {
	files := generate(t)
	for _, name := range []string{"trident.bash", "trident.zsh", "trident.fish"} {
		if !strings.Contains(files[name], "trident") || len(files[name]) < 1000 {
			t.Errorf("%s: %.200q", name, files[name])
		}
	}
}

func TestTwoRunsWriteTheSame(t *testing.T) {
	first := generate(t)
	t.Chdir("packaging/docs")
	if diff := cmp.Diff(first, generate(t)); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
	for name, text := range first {
		if strings.HasPrefix(name, "man1/") && !strings.Contains(text, "Jan 1970") {
			t.Errorf("%s does not carry the date of the sources: %.120q", name, text)
		}
	}
}

func TestAMissingFolderArgumentIsAnError(t *testing.T) {
	if err := run(nil); err == nil {
		t.Error("no error without a folder")
	}
}

// section returns a section of a page.
func section(page, name string) string {
	_, text, _ := strings.Cut(page, "\n.SH "+name+"\n")
	text, _, _ = strings.Cut(text, "\n.SH ")
	return text
}

func TestPagesSayHowACommandEndsAndWhatItReads(t *testing.T) {
	files := generate(t)
	for name, text := range files {
		if !strings.HasPrefix(name, "man") {
			continue
		}
		for _, want := range []string{"EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"} {
			if section(text, want) == "" && !strings.Contains(text, "\n.SH "+want+"\n") {
				t.Errorf("%s has no section %s", name, want)
			}
		}
	}
	root := section(files["man1/trident.1.gz"], "EXIT STATUS")
	for _, code := range []string{"0", "1", "2", "3", "5", "6", "7", "124", "130"} {
		if !strings.Contains(root, ".B "+code+"\n") {
			t.Errorf("trident(1) does not tell the exit code %s", code)
		}
	}
	if update := section(files["man1/trident-update.1.gz"], "EXIT STATUS"); strings.Contains(update, ".B 7\n") || !strings.Contains(update, ".B 3\n") {
		t.Errorf("trident-update(1) has other exit codes than upstream's:\n%s", update)
	}
}

func TestPagesHaveTheDefaultsOfTheFlags(t *testing.T) {
	files := generate(t)
	upgrade := files["man1/trident-self-upgrade.1.gz"]
	for _, want := range []string{"(default 10s)", "(default 3m)", `\fB\-\-soak\fP \fIDURATION\fP`} {
		if !strings.Contains(upgrade, want) {
			t.Errorf("trident-self-upgrade(1) lacks %q", want)
		}
	}
	for name, text := range files {
		if !strings.HasPrefix(name, "man1/") {
			continue
		}
		// What a flag is before it is set is not what the command does without it.
		for _, zero := range []string{"=0s", `=""`, "[=false]", "=0\n", "=[]"} {
			if strings.Contains(text, zero) {
				t.Errorf("%s gives %q for a default", name, zero)
			}
		}
	}
}

func TestEveryFlagIsInItsPage(t *testing.T) {
	files := generate(t)
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		page := files["man1/"+strings.ReplaceAll(c.CommandPath(), " ", "-")+".1.gz"]
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, `\fB`+strings.ReplaceAll("--"+f.Name, "-", `\-`)+`\fP`) {
				t.Errorf("the page of %s lacks --%s", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				check(sub)
			}
		}
	}
	check(cli.Command())
}

// The programs read these variables; a page of theirs tells people.
func TestEveryVariableThatIsReadIsDescribed(t *testing.T) {
	files := generate(t)
	known := []string{"DOCKER_ENVIRONMENT"} // set by container engines, not by people
	read := regexp.MustCompile(`(?:Getenv|LookupEnv)\("([A-Z_]+)"\)`)
	for dir, page := range map[string]string{
		"internal/cli": "man1/trident.1.gz", "internal/cli/*": "man1/trident.1.gz", "internal/daemon": "man8/tridentd.8.gz", "internal/observe": "man8/tridentd.8.gz",
		"cmd/trident-rescue": "man8/trident-rescue.8.gz", "internal/gateway/command": "man8/trident-gateway.8.gz",
	} {
		names, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range read.FindAllStringSubmatch(string(text), -1) {
				if !strings.HasSuffix(name, "_test.go") && !slices.Contains(known, found[1]) && !strings.Contains(files[page], found[1]) {
					t.Errorf("%s reads $%s, which %s does not describe", name, found[1], page)
				}
			}
		}
	}
}

func TestExampleConfigurationsAreTaken(t *testing.T) {
	names, err := filepath.Glob("../../docs/examples/*.yaml")
	if err != nil || len(names) < 2 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if c, r := hostconfig.Parse(text, rules.Check); c == nil || len(r) > 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestTheIndexLeadsToEveryPage(t *testing.T) {
	index, err := os.ReadFile("../../docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 2 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}
