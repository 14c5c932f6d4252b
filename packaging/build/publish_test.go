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
