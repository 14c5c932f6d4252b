package content

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

func anyPath(string) bool { return true }

func TestAnImageOfPlainFilesIsFine(t *testing.T) {
	fsys := fstest.MapFS{
		"usr":             {Mode: fs.ModeDir | 0o755},
		"usr/bin/trident": {Mode: 0o755},
		"usr/lib/systemd/system/sockets.target.upholds/trident.socket": {Mode: fs.ModeSymlink | 0o777, Data: []byte("../trident.socket")},
		"usr/lib/x": {Mode: fs.ModeSymlink | 0o777, Data: []byte("..")},
	}
	var asked []string
	err := Check(fsys, func(path string) bool { asked = append(asked, path); return true })
	if err != nil {
		t.Fatal(err)
	}
	want := "usr usr/bin usr/bin/trident usr/lib usr/lib/systemd usr/lib/systemd/system usr/lib/systemd/system/sockets.target.upholds " +
		"usr/lib/systemd/system/sockets.target.upholds/trident.socket usr/lib/x"
	if got := strings.Join(asked, " "); got != want {
		t.Errorf("asked for %s", got)
	}
}

func TestTheFirstForbiddenThingIsNamed(t *testing.T) {
	link := func(to string) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte(to)}
	}
	for _, c := range []struct {
		name string
		file string
		what *fstest.MapFile
		want string
	}{
		{"a foreign path", "usr/lib/verity.d/x.crt", &fstest.MapFile{Mode: 0o644}, `"usr/lib/verity.d" is not among the paths`},
		{"set-user-ID", "usr/bin/a", &fstest.MapFile{Mode: 0o755 | fs.ModeSetuid}, `"usr/bin/a" has the set-user-ID bit`},
		{"set-group-ID", "usr/bin/a", &fstest.MapFile{Mode: 0o755 | fs.ModeSetgid}, `"usr/bin/a" has the set-group-ID bit`},
		{"a set-group-ID folder", "usr/bin", &fstest.MapFile{Mode: fs.ModeDir | 0o755 | fs.ModeSetgid}, `"usr/bin" has the set-group-ID bit`},
		{"a file for everybody", "usr/bin/a", &fstest.MapFile{Mode: 0o757}, `"usr/bin/a" may be written by everybody`},
		{"a folder for everybody", "usr/bin", &fstest.MapFile{Mode: fs.ModeDir | 0o777}, `"usr/bin" may be written by everybody`},
		{"a whiteout", "usr/bin/a", &fstest.MapFile{Mode: fs.ModeDevice | fs.ModeCharDevice}, `"usr/bin/a" is neither folder, file nor link`},
		{"a block device", "usr/bin/a", &fstest.MapFile{Mode: fs.ModeDevice | 0o600}, `is neither`},
		{"a socket", "usr/bin/a", &fstest.MapFile{Mode: fs.ModeSocket | 0o600}, `is neither`},
		{"a FIFO", "usr/bin/a", &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o600}, `is neither`},
		{"an absolute link", "usr/bin/a", link("/etc/passwd"), `"usr/bin/a" leads out of usr/, to "/etc/passwd"`},
		{"an absolute link into usr", "usr/bin/a", link("/usr/bin/b"), `leads out`},
		{"a link to etc", "usr/bin/a", link("../../etc/passwd"), `leads out`},
		{"a link above the root", "usr/bin/a", link("../../../usr/bin/b"), `leads out`},
		{"a link to a name like usr", "usr/bin/a", link("../../usrlocal"), `leads out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			allow := func(path string) bool { return !strings.Contains(path, "verity.d") }
			err := Check(fstest.MapFS{c.file: c.what}, allow)
			if err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != errkind.Forbidden {
				t.Errorf("got %v (%s), want %q", err, errkind.Of(err), c.want)
			}
		})
	}
}

func TestAnAttributeThatGivesRightsOrHidesFilesIsForbidden(t *testing.T) {
	plain := fstest.MapFS{"usr/bin/a": {Mode: 0o755}}
	for attr, bad := range map[string]bool{
		"security.capability": true, "trusted.overlay.opaque": true, "user.overlay.whiteout": true, "security.selinux": false, "user.x": false,
	} {
		err := Check(hosttest.AttrFS{FS: plain, Attrs: map[string]string{"user.a": "", attr: "y"}}, anyPath)
		if bad != (errkind.Of(err) == errkind.Forbidden && err != nil && strings.Contains(err.Error(), attr)) {
			t.Errorf("%s: %v", attr, err)
		}
	}
}

func TestTheWalkIsBounded(t *testing.T) {
	many := fstest.MapFS{}
	for i := range maxFiles {
		many[fmt.Sprintf("f%d", i)] = &fstest.MapFile{Mode: 0o644}
	}
	if err := Check(many, anyPath); err != nil {
		t.Errorf("%d files: %v", maxFiles, err)
	}
	many["one-more"] = &fstest.MapFile{Mode: 0o644}
	if err := Check(many, anyPath); errkind.Of(err) != errkind.Forbidden {
		t.Errorf("%d files: %v", maxFiles+1, err)
	}
	deep := fstest.MapFS{strings.Repeat("d/", maxDepth) + "f": {Mode: 0o644}}
	if err := Check(deep, anyPath); err != nil {
		t.Errorf("%d deep: %v", maxDepth, err)
	}
	deep = fstest.MapFS{strings.Repeat("d/", maxDepth+1) + "f": {Mode: 0o644}}
	if err := Check(deep, anyPath); errkind.Of(err) != errkind.Forbidden {
		t.Errorf("%d deep: %v", maxDepth+1, err)
	}
}

func TestAttributesOfAMountedTreeAreChecked(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, because files of an image belong to root")
	}
	for title, c := range map[string]struct {
		file string
		attr string
		want string // "" for a good one
	}{
		"a file with another attribute": {"usr/bin/tool", "user.comment", ""},
		"a capability":                  {"usr/bin/tool", "security.capability", `"usr/bin/tool" has the extended attribute security.capability`},
		"a folder that hides another":   {"usr/bin", "user.overlay.opaque", `"usr/bin" has the extended attribute user.overlay.opaque`},
	} {
		dir := t.TempDir()
		if err := errors.Join(hosttest.MkdirAll(filepath.Join(dir, "usr/bin")), os.WriteFile(filepath.Join(dir, "usr/bin/tool"), nil, 0o755)); err != nil {
			t.Fatal(err)
		}
		value := []byte("x")
		if c.attr == "security.capability" { // version 2, no capabilities (capabilities(7))
			value = append([]byte{0, 0, 0, 2}, make([]byte, 16)...)
		}
		if err := unix.Setxattr(filepath.Join(dir, c.file), c.attr, value, 0); err != nil {
			t.Skip("needs extended attributes: ", err)
		}
		err := Check(os.DirFS(dir), func(string) bool { return true })
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != errkind.Forbidden) {
			t.Errorf("%s: %v, want %q", title, err, c.want)
		}
	}
}

func TestOnlyAnEmptyLostAndFoundIsIgnored(t *testing.T) {
	allow := func(name string) bool { return name == "usr" }
	for title, c := range map[string]struct {
		files fstest.MapFS
		good  bool
	}{
		"empty":      {fstest.MapFS{"usr": {Mode: fs.ModeDir | 0o755}, "lost+found": {Mode: fs.ModeDir | 0o700}}, true},
		"not empty":  {fstest.MapFS{"lost+found/a": {}}, false},
		"a file":     {fstest.MapFS{"lost+found": {}}, false},
		"below /usr": {fstest.MapFS{"usr/lost+found": {Mode: fs.ModeDir | 0o700}}, false},
	} {
		if err := Check(c.files, allow); (err == nil) != c.good || err != nil && errkind.Of(err) != errkind.Forbidden {
			t.Errorf("%s: %v", title, err)
		}
	}
}
