package selfservice

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/rescue"
)

func TestMain(m *testing.M) {
	hosttest.Main(m)
	if theWorkshop.workshop != nil {
		_ = os.RemoveAll(theWorkshop.dir)
	}
}

// A new system whose folder of extensions is a link to that of this host, as seen from
// here: what is decided for the one must not happen to the other.
func TestLinkInTreeWritesOnlyIntoTheTree(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"var/lib/extensions", "var/lib", "var", ""} {
		for _, base := range []string{"1.0.0", "9.0.0"} { // the active one goes on, or is dropped
			for _, there := range []bool{false, true} {
				host := t.TempDir()
				root := filepath.Join(host, "run/new")
				active := "../trident/self/2.0.0.raw"
				err := errors.Join(
					hosttest.MkdirAll(filepath.Join(host, "var/lib/extensions")), os.Symlink(active, filepath.Join(host, rescue.Link)),
					hosttest.MkdirAll(filepath.Join(root, "usr/lib/trident")),
					os.WriteFile(filepath.Join(root, rescue.Base), []byte(`{"version":"`+base+`"}`), 0o644),
				)
				if name != "" {
					err = errors.Join(err, hosttest.MkdirAll(filepath.Join(root, filepath.Dir(name))), os.Symlink(filepath.Join(host, name), filepath.Join(root, name)))
				}
				if there {
					err = errors.Join(err, hosttest.MkdirAll(filepath.Join(root, host, "var/lib/extensions")))
				}
				if err != nil {
					t.Fatal(err)
				}
				s := &Service{Config: Config{Root: host}}
				v, err := s.LinkInTree(root)
				if want := map[string]string{"1.0.0": "2.0.0", "9.0.0": ""}[base]; v != want || err != nil {
					t.Errorf("%s, base %s: %q, %v", name, base, v, err)
				}
				if link, err := os.Readlink(filepath.Join(host, rescue.Link)); link != active || err != nil {
					t.Errorf("%s, base %s: the link of this host is %q, %v", name, base, link, err)
				}
				at := filepath.Join(root, rescue.Link)
				if name != "" {
					at = filepath.Join(root, host, rescue.Link)
				}
				link, err := os.Readlink(at)
				if v == "" && !errors.Is(err, fs.ErrNotExist) || v != "" && (link != active || err != nil) {
					t.Errorf("%s, base %s: the link of the new system is %q, %v", name, base, link, err)
				}
				if info, err := os.Stat(filepath.Dir(at)); v != "" && !there && (err != nil || info.Mode().Perm() != 0o755) {
					t.Errorf("%s, base %s: its folder is %v, %v", name, base, info, err)
				}
			}
		}
	}
}

func TestTheBaseOfANewSystemIsItsOwn(t *testing.T) {
	t.Parallel()
	host := t.TempDir()
	root := filepath.Join(host, "new")
	err := errors.Join(
		hosttest.MkdirAll(filepath.Join(host, "usr/lib/trident")), os.WriteFile(filepath.Join(host, rescue.Base), []byte(`{"version":"9.0.0"}`), 0o644),
		hosttest.MkdirAll(filepath.Join(root, "usr")), os.Symlink(filepath.Join(host, "usr/lib"), filepath.Join(root, "usr/lib")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := baseIn(root); v != "" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := errors.Join(os.Remove(filepath.Join(root, "usr/lib")), hosttest.MkdirAll(filepath.Join(root, "usr/lib/trident")),
		os.WriteFile(filepath.Join(root, rescue.Base), []byte(`{"version":"x"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := baseIn(root); err == nil || !strings.Contains(err.Error(), rescue.Base) {
		t.Errorf("a version that is none: %v", err)
	}
}
