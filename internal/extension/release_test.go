package extension

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
)

// The cases are in the order in which systemd asks, and all hosts are wrong in
// every way that is asked about later: the first reason must be the one given.
func TestAReleaseFitsAsSystemdSays(t *testing.T) {
	host := hostinfo.Host{ID: "debian", VersionID: "13", Architecture: "x86-64"}
	level := hostinfo.Host{ID: "azurelinux", IDLike: []string{"mariner", "fedora"}, VersionID: "3.0", SysextLevel: "1", Architecture: "x86-64"}
	onlyLevel := hostinfo.Host{ID: "azurelinux", SysextLevel: "1", Architecture: "x86-64"}
	rolling := hostinfo.Host{ID: "arch", Architecture: "arm64"}
	for _, c := range []struct {
		name    string
		host    hostinfo.Host
		release string
		want    string // "" fits
	}{
		{"a scope without system", host, "SYSEXT_SCOPE=\"initrd portable\"\nARCHITECTURE=arm64\n", `the scope "initrd portable"`},
		{"an empty scope", host, "SYSEXT_SCOPE=\nARCHITECTURE=arm64\n", `the scope ""`},
		{"a scope with system", host, "SYSEXT_SCOPE=\"initrd system\"\nID=_any\n", ""},
		{"the default scope", host, "ID=_any\n", ""},
		{"another architecture", host, "ARCHITECTURE=arm64\nID=_any\n", `the architecture "arm64", this host is "x86-64"`},
		{"the same architecture", rolling, "ARCHITECTURE=arm64\nID=_any\n", ""},
		{"any architecture", host, "ARCHITECTURE=_any\nID=_any\n", ""},
		{"no ID", host, "VERSION_ID=13\n", `names no ID of a system; this host is "debian"`},
		{"an empty ID", host, "ID=\nVERSION_ID=13\n", `names no ID`},
		{"any ID, another version", host, "ID=_any\nVERSION_ID=99\nSYSEXT_LEVEL=99\n", ""},
		{"another ID", level, "ID=debian\nVERSION_ID=99\n", `the system "debian", this host is "azurelinux mariner fedora"`},
		{"an ID that the host is like", level, "ID=fedora\nVERSION_ID=3.0\n", ""},
		{"a rolling host", rolling, "ID=arch\nVERSION_ID=1\nSYSEXT_LEVEL=1\n", ""},
		{"another level", level, "ID=azurelinux\nSYSEXT_LEVEL=2\nVERSION_ID=3.0\n", `SYSEXT_LEVEL "2", this host has "1"`},
		{"the same level, another version", level, "ID=azurelinux\nSYSEXT_LEVEL=1\nVERSION_ID=2.0\n", ""},
		{"a level that only the image has", host, "ID=debian\nSYSEXT_LEVEL=1\nVERSION_ID=12\n", `VERSION_ID "12" of debian, this host has "13"`},
		{"a level that only the host has", level, "ID=azurelinux\nVERSION_ID=2.0\n", `VERSION_ID "2.0" of azurelinux, this host has "3.0"`},
		{"no version", host, "ID=debian\n", `VERSION_ID "" of debian, this host has "13"`},
		{"the same version", host, "ID=debian\nVERSION_ID=13\n", ""},
		{"a host with a level and no version, an image without level", onlyLevel, "ID=azurelinux\nVERSION_ID=1\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ReadRelease(fstest.MapFS{"usr/lib/extension-release.d/extension-release.x": {Data: []byte(c.release)}}, "x")
			if err != nil {
				t.Fatal(err)
			}
			switch err := r.Fits(c.host); {
			case c.want == "" && err != nil:
				t.Errorf("does not fit: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != errkind.Incompatible):
				t.Errorf("got %v (%s), want %q", err, errkind.Of(err), c.want)
			}
		})
	}
}

func TestAConfextHasFieldsOfItsOwn(t *testing.T) {
	host := hostinfo.Host{ID: "debian", VersionID: "13", SysextLevel: "1", ConfextLevel: "2", Architecture: "x86-64"}
	for text, want := range map[string]string{
		"ID=debian\nCONFEXT_LEVEL=2\n":                   "",
		"ID=debian\nCONFEXT_LEVEL=1\n":                   `CONFEXT_LEVEL "1", this host has "2"`,
		"ID=debian\nSYSEXT_LEVEL=1\n":                    `VERSION_ID "" of debian, this host has "13"`,
		"ID=_any\nSYSEXT_SCOPE=portable\n":               "",
		"ID=_any\nCONFEXT_SCOPE=portable\n":              `the scope "portable"`,
		"ID=_any\nSYSEXT_ID=a\nCONFEXT_ID=b\n":           "",
		"ID=debian\nVERSION_ID=13\nARCHITECTURE=arm64\n": `the architecture "arm64"`,
	} {
		vars, err := hostinfo.ParseEnv(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r := releaseOf(Confext, "x", vars)
		if err := r.Fits(host); want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if r.SysextID != vars["CONFEXT_ID"] {
			t.Errorf("%q: ID %q", text, r.SysextID)
		}
	}
}

func TestAReleaseHasTheFieldsOfItsFile(t *testing.T) {
	const text = "ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=2.0.0\nEXTENSION_RELOAD_MANAGER=Yes\nVERSION_ID=1\nSYSEXT_LEVEL=2\n"
	got, err := ReadRelease(fstest.MapFS{"usr/lib/extension-release.d/extension-release.trident": {Data: []byte(text)}}, "trident")
	if err != nil {
		t.Fatal(err)
	}
	want := Release{
		Class: Sysext,
		Name:  "trident", ID: "_any", Architecture: "x86-64", SysextID: "trident", Version: "2.0.0", ReloadManager: true,
		VersionID: "1", SysextLevel: "2", Scope: "system portable",
		Fields: map[string]string{"ID": "_any", "ARCHITECTURE": "x86-64", "SYSEXT_ID": "trident", "SYSEXT_VERSION_ID": "2.0.0",
			"EXTENSION_RELOAD_MANAGER": "Yes", "VERSION_ID": "1", "SYSEXT_LEVEL": "2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAReleaseThatCannotBeReadNamesItsFile(t *testing.T) {
	const file = "usr/lib/extension-release.d/extension-release.x"
	for _, c := range []struct {
		name, ext string
		fsys      fstest.MapFS
		want      string
		kind      errkind.Kind
	}{
		{"another name", "x", fstest.MapFS{file + "y": {}}, "no file " + file, errkind.Corrupt},
		{"a folder", "x", fstest.MapFS{file + "/y": {}}, file + ": not a regular file", errkind.Corrupt},
		{"an open quote", "x", fstest.MapFS{file: {Data: []byte("ID='")}}, file + ": line 1", errkind.Corrupt},
		{"too long", "x", fstest.MapFS{file: {Data: make([]byte, 65<<10)}}, file + ": more than", errkind.Corrupt},
		{"a path for a name", "../x", fstest.MapFS{}, `"../x" cannot be the name`, errkind.Invalid},
		{"no name", "", fstest.MapFS{}, `"" cannot be the name`, errkind.Invalid},
		{"a temporary name", ".#x", fstest.MapFS{}, "cannot be the name", errkind.Invalid},
		{"a control character", "x\n", fstest.MapFS{}, "cannot be the name", errkind.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadRelease(c.fsys, c.ext)
			if err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != c.kind {
				t.Errorf("got %v (%s), want %q (%s)", err, errkind.Of(err), c.want, c.kind)
			}
		})
	}
}

func FuzzReadRelease(f *testing.F) {
	f.Add("trident", []byte("ID=_any\nSYSEXT_SCOPE=\"system\"\n"))
	f.Add("x", []byte("ID=debian\nVERSION_ID='13'\nSYSEXT_LEVEL=\n"))
	f.Add("..", []byte("\x00"))
	host := hostinfo.Host{ID: "debian", VersionID: "13", Architecture: "x86-64"}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		fsys := fstest.MapFS{"usr/lib/extension-release.d/extension-release.trident": {Data: data}}
		r, err := ReadRelease(fsys, name)
		if err != nil {
			return
		}
		if name != "trident" {
			t.Fatalf("read %q", name)
		}
		if r.Fits(host) == nil && r.ID != "_any" && r.ID != "debian" {
			t.Errorf("%+v fits", r)
		}
	})
}

func TestAnImageOfAnotherExtensionIsNamed(t *testing.T) {
	for want, files := range map[string]fstest.MapFS{
		`it is an image of the sysext "app", not of "trident"`:       {Sysext.releaseFile("app"): {Data: []byte("ID=_any\n")}},
		`it is an image of the confext "settings", not of "trident"`: {Confext.releaseFile("settings"): {Data: []byte("ID=_any\n")}},
	} {
		_, err := ReadRelease(files, Own)
		if err == nil || err.Error() != want || errkind.Of(err) != errkind.Incompatible || !strings.Contains(errkind.Hint(err), "Host Configuration") {
			t.Errorf("%v (%s, hint %q), want %q", err, errkind.Of(err), errkind.Hint(err), want)
		}
	}
}
