package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli"
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
	for _, name := range []string{"man8/tridentd.8.gz", "man8/trident-rescue.8.gz"} {
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

func TestAFolderIsWanted(t *testing.T) {
	if err := run(nil); err == nil {
		t.Error("no error without a folder")
	}
}
