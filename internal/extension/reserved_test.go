package extension

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/content"
)

func file() *fstest.MapFile { return &fstest.MapFile{Mode: 0o644, Data: []byte("x")} }

func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte(target)}
}

// marked is a folder with a mark of overlayfs.
func marked(attr, value string) *fstest.MapFile {
	mode := fs.ModeDir | 0o755
	return &fstest.MapFile{Mode: mode, Sys: &erofs.Stat{Mode: mode, Xattrs: map[string]string{attr: value}}}
}

// whiteout is how overlayfs hides a file of a lower layer.
func whiteout() *fstest.MapFile {
	mode := fs.ModeDevice | fs.ModeCharDevice
	return &fstest.MapFile{Mode: mode, Sys: &erofs.Stat{Mode: mode}}
}

// trespasses are what an extension of another vendor must not carry; the text says
// which path the error names.
func trespasses() map[string]fstest.MapFS {
	return map[string]fstest.MapFS{
		"usr/lib/trident":        {"usr/lib/trident/trust.d/evil.crt": file()},
		"usr/lib/trident ":       {"usr/lib/trident/base.json": file()},
		"usr/lib/trident  ":      {"usr/lib/trident": link("../share/evil")},
		"usr/lib/trident   ":     {"usr/lib/trident": whiteout()},
		"usr/lib/trident    ":    {"usr/lib/trident": marked("trusted.overlay.opaque", "y")},
		"usr/lib/Trident":        {"usr/lib/Trident/trust.d/evil.crt": file()},
		"usr/lib/verity.d":       {"usr/lib/verity.d/evil.crt": file()},
		"usr/lib/VERITY.D":       {"usr/lib/VERITY.D/evil.crt": file()},
		"usr/local/lib/verity.d": {"usr/local/lib/verity.d/evil.crt": file()},
		"usr/bin/tridentd":       {"usr/bin/tridentd": file()},
		"usr/bin/trident":        {"usr/bin/trident": whiteout()},
		"usr/bin/trident-helper": {"usr/bin/trident-helper": file()},
		"usr/local/bin/trident":  {"usr/local/bin/trident": file()},
		"usr/bin":                {"usr/bin": link("lib/evil")},
		"usr/bin ":               {"usr/bin": marked("trusted.overlay.opaque", "y")},
		"usr/lib":                {"usr/lib": marked("trusted.overlay.redirect", "/usr/share/evil")},
		"usr/lib/systemd":        {"usr/lib/systemd": link("../share/evil")},
		"usr/lib/systemd/system": {"usr/lib/systemd/system": whiteout()},
		"usr":                    {"usr": marked("user.overlay.opaque", "y")},
		"usr/share":              {"usr/share": link("lib")},
		"usr/lib/systemd/system/tridentd.service.d":                     {"usr/lib/systemd/system/tridentd.service.d/evil.conf": file()},
		"usr/lib/systemd/system/service.d":                              {"usr/lib/systemd/system/service.d/evil.conf": file()},
		"etc/systemd/system/socket.d":                                   {"etc/systemd/system/socket.d/evil.conf": file()},
		"usr/lib/systemd/system/path.d":                                 {"usr/lib/systemd/system/path.d": whiteout()},
		"usr/lib/systemd/system/trident-rescue.service":                 {"usr/lib/systemd/system/trident-rescue.service": file()},
		"usr/lib/systemd/system/sockets.target.upholds/tridentd.socket": {"usr/lib/systemd/system/sockets.target.upholds/tridentd.socket": whiteout()},
		"usr/lib/systemd/system/sockets.target.upholds":                 {"usr/lib/systemd/system/sockets.target.upholds": whiteout()},
		"usr/lib/systemd/system/evil.service":                           {"usr/lib/systemd/system/evil.service": link("tridentd.service")},
		"usr/local/lib/systemd/system/tridentd.service":                 {"usr/local/lib/systemd/system/tridentd.service": file()},
		"usr/lib/extension-release.d/extension-release.trident":         {"usr/lib/extension-release.d/extension-release.trident": file()},
		"usr/share/man/man1/trident.1":                                  {"usr/share/man/man1/trident.1": file()},
		"etc/trident":                                                   {"etc/trident/trust.d/evil.crt": file()},
		"etc/trident ":                                                  {"etc/trident/trust.d/ours.crt": {Mode: 0o644}}, // a mask
		"etc/verity.d":                                                  {"etc/verity.d/evil.crt": file()},
		"etc/systemd/system/tridentd.service.d":                         {"etc/systemd/system/tridentd.service.d/evil.conf": file()},
		"etc/systemd/system":                                            {"etc/systemd/system": marked("trusted.overlay.opaque", "y")},
		"etc/systemd/system/multi-user.target.wants/trident-x.service":  {"etc/systemd/system/multi-user.target.wants/trident-x.service": link("/dev/null")},
	}
}

func TestNoOtherExtensionMayHaveTridentsPaths(t *testing.T) {
	for where, files := range trespasses() {
		where = strings.TrimSpace(where)
		class := Sysext
		if strings.HasPrefix(where, "etc") {
			class = Confext
		}
		files[class.releaseFile("foo")] = &fstest.MapFile{Mode: 0o644, Data: []byte("ID=_any\n" + class.facts().fields + "ID=foo\n")}
		if f := files["usr/lib"]; f != nil && f.Mode&fs.ModeSymlink != 0 {
			delete(files, class.releaseFile("foo"))
		}
		data := erofsOf(t, files)
		t.Run("staged: "+where, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.store.Stage(t.Context(), w.source(offered(class, gptOf(t, part{rootAMD64, data}))), nil, nil, nil)
			if where == OwnRelease && errkind.Of(err) == errkind.Corrupt {
				return // two releases in one image are refused before
			}
			if errkind.Of(err) != errkind.Forbidden || !strings.Contains(err.Error(), `"`+where+`"`) {
				t.Errorf("%s: %v", errkind.Of(err), err)
			}
			if stored := w.stored(); len(stored) > 0 {
				t.Errorf("in the store: %v", stored)
			}
		})
		t.Run("found: "+where, func(t *testing.T) {
			w := newWorld(t)
			w.write(class.facts().allowed[0]+"/foo.raw", string(data))
			wantTrespass(t, CheckOthers(w.root), "/"+class.facts().allowed[0]+"/foo.raw", where)
			other := w.stage(imageFor(t, class, "bar", ""), "")
			wantTrespass(t, w.store.Check(t.Context(), w.plan(nil, other)), "foo.raw", where)
		})
	}
}

func wantTrespass(t *testing.T, err error, file, where string) {
	t.Helper()
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), where) || errkind.Hint(err) == "" {
		t.Errorf("%s: %v (hint %q)", errkind.Of(err), err, errkind.Hint(err))
	}
}

// However an extension lies on the host, and whatever it is called, it is found.
func TestATrespasserIsFoundInEveryForm(t *testing.T) {
	files := fstest.MapFS{"usr/lib/trident/trust.d/evil.crt": file()}
	usr := fstest.MapFS{"lib/trident/trust.d/evil.crt": file()}
	harmless := erofsOf(t, releaseNamed("foo"))
	image := string(erofsOf(t, files))
	for name, content := range map[string]string{
		"var/lib/extensions/foo/usr/lib/trident/base.json":                "x",
		"run/extensions/foo/usr/lib/systemd/system/tridentd.service.d/x":  "x",
		"etc/extensions/foo.v/foo_1/usr/lib/verity.d/x.crt":               "x",
		"var/lib/extensions/foo.raw.v/foo_1.raw":                          image,
		"var/lib/extensions/other.sysext.raw":                             image,
		"var/lib/extensions/foo.raw":                                      string(gptOf(t, part{usrAMD64, erofsOf(t, usr)})),
		"run/extensions/foo.raw":                                          string(gptOf(t, part{rootAMD64, harmless}, part{usrAMD64, erofsOf(t, usr)})),
		"var/lib/confexts/foo/etc/trident/trust.d/x.crt":                  "x",
		"var/lib/extensions/foo/usr/lib/trident":                          "->/opt/evil",
		"var/lib/extensions/foo/usr/bin":                                  "->/opt/evil",
		"var/lib/extensions/trident.raw/usr/bin/tridentd":                 "x", // a folder called trident.raw
		"var/lib/extensions/a/usr/lib/extension-release.d/x":              "",
		"run/extensions/trident/usr/lib/x":                                "x", // hides ours
		"etc/extensions/trident.raw":                                      string(harmless),
		"etc/extensions/trident/":                                         "",
		"var/lib/extensions/trident.raw.v/trident_1.raw":                  string(harmless),
		"var/lib/extensions/trident.sysext.raw":                           string(harmless),
		"usr/lib/confexts/foo/etc/systemd/system/tridentd.service.d/x":    "x",
		"var/lib/extensions/foo/usr/lib/systemd/system/x.service":         "->tridentd.service",
		"var/lib/extensions/foo/usr/share/bash-completion/completions/tr": "x",
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, map[string]string{name: content})
			err := CheckOthers(root)
			if strings.HasSuffix(name, "/tr") || strings.HasPrefix(name, "var/lib/extensions/a/") {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			parts := strings.SplitAfterN(name, "extensions/", 2)
			if len(parts) < 2 {
				parts = strings.SplitAfterN(name, "confexts/", 2)
			}
			first, _, _ := strings.Cut(parts[1], "/")
			wantTrespass(t, err, "/"+parts[0]+first, "rident")
		})
	}
}

func TestOurOwnLinkIsNoTrespasser(t *testing.T) {
	root := tree(t, map[string]string{
		"var/lib/trident/self/2.0.0.raw": string(erofsOf(t, fstest.MapFS{"usr/bin/tridentd": file(), OwnRelease: file()})),
		"var/lib/extensions/trident.raw": "->../trident/self/2.0.0.raw",
		"var/lib/extensions/foo.raw":     string(erofsOf(t, releaseNamed("foo"))),
		"var/lib/extensions/broken.raw":  "words",
	})
	if err := CheckOthers(root); err != nil {
		t.Error(err)
	}
}

// A whiteout and an opaque folder, as a kernel makes them in a folder.
func TestAFolderThatHidesTridentsFilesIsFound(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a whiteout")
	}
	for where, hide := range map[string]func(path string) error{
		"usr/bin/tridentd": func(path string) error { return unix.Mknod(path, unix.S_IFCHR, 0) },
		"usr/bin":          func(path string) error { return unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0) },
	} {
		root := tree(t, map[string]string{"var/lib/extensions/foo/usr/bin/": ""})
		if err := hide(filepath.Join(root, "var/lib/extensions/foo", where)); err != nil {
			t.Fatal(err)
		}
		wantTrespass(t, CheckOthers(root), "/var/lib/extensions/foo", where)
	}
}

// The list of reserved paths follows that of Trident's own image.
func TestEveryPathOfTridentIsReserved(t *testing.T) {
	shared := map[string]bool{"usr/share/man/man1": true}
	for _, name := range []string{
		OwnDaemon, "usr/bin/trident", "usr/bin/trident-gateway", "usr/lib/sysusers.d/trident-gateway.conf", OwnRescuer, OwnRelease, "usr/lib/systemd/system/tridentd.service", "usr/lib/systemd/system/tridentd.service.d",
		"usr/lib/systemd/system/sockets.target.upholds/tridentd.socket", "usr/lib/systemd/system/multi-user.target.upholds/tridentd-resume.path",
		"usr/share/man/man1", "usr/share/man/man8/tridentd.8", "usr/share/doc/trident/README", "usr/share/licenses/trident/LICENSE",
		"usr/share/bash-completion/completions/trident", "usr/share/zsh/site-functions/_trident", "usr/share/fish/vendor_completions.d/trident.fish",
	} {
		if !ownPath(name) {
			t.Errorf("%s is not ours", name)
		}
		err := content.CheckReserved(fstest.MapFS{name: file()})
		if shared[name] {
			continue // the folder is not, a page in it is
		}
		if !errors.Is(err, content.ErrReserved) {
			t.Errorf("%s is not reserved: %v", path.Clean(name), err)
		}
	}
	if err := content.CheckReserved(fstest.MapFS{"usr/lib/other/trident": file(), "usr/bin/other": file(), "opt/trident/x": file(), "usr/share/man/man1/ls.1": file()}); err != nil {
		t.Error(err)
	}
}
