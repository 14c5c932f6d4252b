package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// tree makes files below a new folder. Content that starts with "->" makes a
// link.
func tree(t *testing.T, files map[string]string) FS {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(content, "->")
		var err error
		if isLink {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return FS(root)
}

func TestLinksAreFollowedAsTheSystemInTheTreeWould(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := tree(t, map[string]string{
		"usr/lib/os-release": "inside",
		"etc/absolute":       "->/usr/lib/os-release",
		"etc/relative":       "->../usr/lib/os-release",
		"etc/above":          "->../../../../../../usr/lib/os-release",
		"etc/outside":        "->" + outside,
		"etc/loop":           "->loop",
	})
	for name, want := range map[string]error{
		"etc/absolute": nil, "etc/relative": nil, "etc/above": nil,
		"etc/outside": fs.ErrNotExist, "etc/none": fs.ErrNotExist, "etc/loop": unix.ELOOP, "../x": fs.ErrInvalid, "/etc": fs.ErrInvalid,
	} {
		data, err := r.ReadFile(name, 10)
		if !errors.Is(err, want) || (want == nil && string(data) != "inside") {
			t.Errorf("ReadFile(%s) = %q, %v; want %v", name, data, err, want)
		}
		if _, err := r.Stat(name); !errors.Is(err, want) {
			t.Errorf("Stat(%s) = %v, want %v", name, err, want)
		}
	}
}

func TestReadingIsBounded(t *testing.T) {
	r := tree(t, map[string]string{"ten": "0123456789", "dir/x": ""})
	if _, err := r.ReadFile("ten", 10); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadFile("ten", 9); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a file above the limit: %v", err)
	}
	if _, err := r.ReadFile("dir", 10); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if err := unix.Mkfifo(filepath.Join(string(r), "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("fifo", 10); err == nil {
		t.Error("a FIFO was read")
	}
	for i := range maxEntries + 1 {
		if err := os.WriteFile(filepath.Join(string(r), "dir", strings.Repeat("x", i/100+1)+string(rune('0'+i%100))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.List("dir"); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a folder above the limit: %v", err)
	}
}

func TestAFolderThatIsNotThereHasNoEntries(t *testing.T) {
	r := tree(t, map[string]string{"dir/b": "", "dir/a": "", "file": ""})
	if names, err := r.List("dir"); err != nil || !cmp.Equal(names, []string{"a", "b"}) {
		t.Errorf("List(dir) = %v, %v", names, err)
	}
	if names, err := r.List("none"); err != nil || names != nil {
		t.Errorf("List(none) = %v, %v", names, err)
	}
	if _, err := r.List("file"); err == nil {
		t.Error("a file was listed")
	}
}

func TestADropInHidesThoseOfItsName(t *testing.T) {
	r := tree(t, map[string]string{
		"etc/d/override.crt": "etc", "usr/d/override.crt": "usr",
		"etc/d/empty.crt": "", "usr/d/empty.crt": "usr",
		"etc/d/null.crt": "->/dev/null", "usr/d/null.crt": "usr",
		"etc/d/dangling.crt": "->/nowhere", "usr/d/dangling.crt": "usr",
		"etc/d/linked.crt": "->../../usr/share/x", "usr/share/x": "x",
		"usr/d/vendor.crt": "usr", "usr/d/readme.txt": "no",
	})
	files, err := r.DropIns(".crt", "etc/d", "run/d", "usr/d")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"usr/d/dangling.crt", "etc/d/linked.crt", "etc/d/override.crt", "usr/d/vendor.crt"}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Error(diff)
	}
}

func TestATreeThatIsNotThereIsAnError(t *testing.T) {
	r := FS(filepath.Join(t.TempDir(), "none"))
	if _, err := r.Open("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
}
