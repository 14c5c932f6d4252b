package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestWriteReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"old", "new"} {
		if err := Write(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("content %q, %v; want %q", got, err, want)
		}
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
}

func TestAFileForAGroupBelongsToIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteForGroup(path, []byte("new"), 0o640, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Gid != uint32(os.Getegid()) {
		t.Errorf("%v, %v", info, err)
	}
	if os.Geteuid() == 0 {
		return // who may give files to any group
	}
	if err := WriteForGroup(path, []byte("newer"), 0o640, 1<<20); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a group of others: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("content %q", got)
	}
}

func TestAFailedWriteLeavesTheOldContentAndNothingBesides(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := WriteFunc(path, 0o600, func(w io.Writer) error {
		if _, err := w.Write([]byte("half")); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("err = %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("content %q", got)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestSymlinkReplacesFilesAndLinks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "l")
	for _, want := range []string{"a", "b"} {
		if err := Symlink(want, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != want {
			t.Fatalf("link to %q, %v", got, err)
		}
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestRemoveOfAMissingFileSucceeds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Remove(path); err != nil {
		t.Error(err)
	}
	if err := Write(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

// A damaged file system can have something else in the place of a folder.
func TestRemoveInAMissingFolderSucceeds(t *testing.T) {
	dir := t.TempDir()
	for name, hurt := range map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"loop": func(path string) error { return os.Symlink(path, path) },
		"link": func(path string) error { return os.Symlink("nowhere", path) },
		"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		folder := filepath.Join(dir, name)
		if err := hurt(folder); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"remove": Remove(filepath.Join(folder, "f")), "sweep": Sweep(filepath.Join(folder, "f")), "sync": SyncDir(filepath.Join(folder, "d")), "sync of it": SyncDir(folder),
		} {
			if err != nil {
				t.Errorf("%s below a %s: %v", what, name, err)
			}
		}
	}
}

func TestSweepDeletesWhatAPowerCutLeftOfThatPathOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, name := range []string{"f", ".f.12", ".f.link.12", ".f.", ".f.x1", ".other.12"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, ".f.34", "link"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(path); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{".f.", ".f.link.12", ".f.x1", ".other.12", "f"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left %v, %v; want %v", left, err, want)
	}
	if err := Sweep(filepath.Join(dir, "no", "folder")); err != nil {
		t.Error(err)
	}
}

// An interrupted write is one that did not get to its end: Sweep has to know its name.
func TestSweepKnowsTheNamesThatWritesUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	interrupted := errors.New("interrupted")
	err := FillFunc(path, 0o600, func(f *os.File) error {
		if err := Sweep(path); err != nil {
			return err
		}
		if _, err := os.Lstat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", f.Name(), err)
		}
		return interrupted
	})
	if !errors.Is(err, interrupted) {
		t.Error(err)
	}
}

func TestAPlaceThatCannotBeWrittenIsNamedAndHasNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "none", "f")
	for name, err := range map[string]error{
		full: Write(full, nil, 0o600), missing: Write(missing, nil, 0o600),
	} {
		if err == nil || !strings.Contains(err.Error(), "write "+name) {
			t.Errorf("write of %s: %v", name, err)
		}
	}
	for name, err := range map[string]error{full: Symlink("x", full), missing: Symlink("x", missing)} {
		if err == nil || !strings.Contains(err.Error(), "link "+name) {
			t.Errorf("link of %s: %v", name, err)
		}
	}
	if err := Remove(full); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("remove a folder that is not empty: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("beside the folder: %v, %v", names, err)
	}
}

func TestAPlaceBelowAFileHasNothingToSweepOrSync(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := Write(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(file, "x")
	for name, err := range map[string]error{"sweep": Sweep(below), "remove": Remove(below), "sync": SyncDir(file)} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := SyncDir(strings.Repeat("x", 1<<12)); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("sync of a name that is too long: %v", err)
	}
	if err := Sweep(filepath.Join(strings.Repeat("x", 1<<12), "f")); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("sweep beside a name that is too long: %v", err)
	}
}
