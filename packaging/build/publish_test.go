package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fill returns a function for publish that writes files of the given text and then
// returns err.
func fill(t *testing.T, err error, files map[string]string) func(string) error {
	return func(dir string) error {
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Error(err)
			}
		}
		return err
	}
}

// tree returns the files below dir by path, and the mode of each file and folder.
func tree(t *testing.T, dir string) (texts map[string]string, modes map[string]string) {
	t.Helper()
	texts, modes = map[string]string{}, map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		modes[name] = info.Mode().String()
		if info.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		texts[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, modes
}

func TestEverythingIsPublishedOrNothing(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "rpm")
	dir := filepath.Join(parent, "1.2.0")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)

	bad := errors.New("the signer failed")
	if err := publish(dir, fill(t, bad, map[string]string{"a": "half"})); !errors.Is(err, bad) {
		t.Errorf("error %v", err)
	}
	got, _ := tree(t, parent)
	if diff := cmp.Diff(map[string]string{}, got); diff != "" {
		t.Errorf("a first build that failed left (-want +got):\n%s", diff)
	}

	if err := publish(dir, fill(t, nil, map[string]string{"a": "1", "b": "1"})); err != nil {
		t.Fatal(err)
	}
	if err := publish(dir, fill(t, bad, map[string]string{"a": "2"})); !errors.Is(err, bad) {
		t.Errorf("error %v", err)
	}
	got, _ = tree(t, parent)
	if diff := cmp.Diff(map[string]string{"1.2.0/a": "1", "1.2.0/b": "1"}, got); diff != "" {
		t.Errorf("a second build that failed left (-want +got):\n%s", diff)
	}

	if err := publish(dir, fill(t, nil, map[string]string{"a": "3"})); err != nil {
		t.Fatal(err)
	}
	got, modes := tree(t, parent)
	if diff := cmp.Diff(map[string]string{"1.2.0/a": "3"}, got); diff != "" {
		t.Errorf("a build over another left (-want +got):\n%s", diff)
	}
	want := map[string]string{".": modes["."], "1.2.0": "drwxr-xr-x", "1.2.0/a": "-rw-r--r--"}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes under umask 077 (-want +got):\n%s", diff)
	}
}

func TestAFileSystemThatCannotExchangeGetsTwoRenames(t *testing.T) {
	parent := t.TempDir()
	dir, fresh := filepath.Join(parent, "dir"), filepath.Join(parent, "fresh")
	for _, name := range []string{dir, fresh} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(name, "a"), []byte(filepath.Base(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := replace(dir, fresh); err != nil {
		t.Fatal(err)
	}
	got, _ := tree(t, parent)
	if diff := cmp.Diff(map[string]string{"dir/a": "fresh"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A failure for the second architecture leaves the images of the last build, and nothing
// else: what a build needs besides lies elsewhere.
func TestExtensionImagesArePublishedTogetherOrNot(t *testing.T) {
	t.Chdir(t.TempDir())
	script := `#!/bin/sh
[ ! -e fail-$2 ] || exit 1
echo "$1 $2" > "$3/trident_$1_$2.raw"
`
	if err := os.MkdirAll("packaging", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("packaging/sysext", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("dist", "sysext", "1.2.0")
	p := project{version: "1.2.0", only: []string{"amd64", "arm64"}}
	want := map[string]string{"trident_1.2.0_amd64.raw": "1.2.0 amd64\n", "trident_1.2.0_arm64.raw": "1.2.0 arm64\n"}
	if err := p.extensions(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if texts, _ := tree(t, dir); !cmp.Equal(want, texts) {
		t.Error(cmp.Diff(want, texts))
	}
	if err := os.WriteFile(filepath.Join(dir, "trident_1.2.0_amd64.raw"), []byte("the last build"), 0o600); err != nil {
		t.Fatal(err)
	}
	want["trident_1.2.0_amd64.raw"] = "the last build"
	if err := os.WriteFile("fail-arm64", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.extensions(t.Context(), dir); err == nil {
		t.Error("no error")
	}
	if texts, _ := tree(t, filepath.Dir(dir)); len(texts) != 2 || texts["1.2.0/trident_1.2.0_amd64.raw"] != "the last build" {
		t.Errorf("after a failure: %v", texts)
	}
}
