package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	sdboot "github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	cosi "github.com/trident-project/trident/internal/image"
)

// makeUKI FILE UNAME writes a unified kernel image.
func makeUKI(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), boottest.UKI(sdboot.AMD64, args[1]), 0o600))
}

// makeDisk FILE TYPE=FILE… writes a disk image of these partitions.
func makeDisk(ts *testscript.TestScript, _ bool, args []string) {
	var parts []cosi.Part
	for _, arg := range args[1:] {
		name, path, _ := strings.Cut(arg, "=")
		kind, ok := cosi.ParsePartType(name, cosi.AMD64)
		if !ok {
			ts.Fatalf("no type %q", name)
		}
		f, size, err := openContent(ts.MkAbs(path))
		ts.Check(err)
		defer f.Close()
		parts = append(parts, cosi.Part{Name: name, Type: kind, Content: f, Size: size})
	}
	disk, size, err := cosi.Assemble(parts)
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer out.Close()
	_, err = io.Copy(out, io.NewSectionReader(disk, 0, size))
	ts.Check(err)
}

// web serves the folder of the script, and puts its URL into $WEB.
func web(ts *testscript.TestScript, _ bool, _ []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(".")))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		files.ServeHTTP(w, r)
	}))
	ts.Defer(s.Close)
	ts.Setenv("WEB", s.URL)
}

func TestTheSecretsOfAURLAreNotShown(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"debian.cosi":                             "debian.cosi",
		"/a?b#c@d":                                "/a?b#c@d",
		"http://ann:s3cret@h:1/a%20b?sig=x#y":     "http://h:1/a%20b",
		"oci://ann:s3cret@h/a:1":                  "oci://h/a:1",
		"ftp://ann:s3cret@h/a":                    "ftp://h/a",
		"https://ann:s3cret@h:no port/debian.raw": "https://…",
	} {
		if got := publicSource(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
	for _, o := range []sourceOptions{{source: "ftp://ann:s3cret@h/a"}, {source: "https://ann:s3cret@h/a", onHost: true}} {
		if _, _, err := o.open(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestPackagesAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []cosi.Package
	}{
		"dpkg's status": {
			"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1:1.2.13.dfsg-1\nDescription: x\n Version: 9-9\n\n" +
				"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1-1\n\n" +
				"Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3.134\n",
			[]cosi.Package{{Name: "zlib1g", Version: "1:1.2.13.dfsg", Release: "1", Arch: "amd64"}, {Name: "adduser", Version: "3.134", Release: "0", Arch: "all"}},
		},
		"dpkg -l": {
			"Desired=Unknown/Install\n| Status=Not\n|/ Err?=(none)\n||/ Name Version Architecture Description\n+++-====-===-===-====\n" +
				"ii  libc6:amd64  2.36-9+deb12u9  amd64  GNU C Library: Shared libraries\nrc  gone  1-1  amd64  was here\n",
			[]cosi.Package{{Name: "libc6", Version: "2.36", Release: "9+deb12u9", Arch: "amd64"}},
		},
		"three words":   {"# a list\nbash 5.2-1 amd64\n\n", []cosi.Package{{Name: "bash", Version: "5.2", Release: "1", Arch: "amd64"}}},
		"four words":    {"bash 5.2 3.azl3 x86_64\n", []cosi.Package{{Name: "bash", Version: "5.2", Release: "3.azl3", Arch: "x86_64"}}},
		"rpm -qa":       {"python3-pip-23.1-1.azl3.noarch\n", []cosi.Package{{Name: "python3-pip", Version: "23.1", Release: "1.azl3", Arch: "noarch"}}},
		"JSON":          {` [{"name":"a","version":"1","release":"2","arch":"x86_64"}]`, []cosi.Package{{Name: "a", Version: "1", Release: "2", Arch: "x86_64"}}},
		"nothing":       {"\n", nil},
		"no such thing": {"two words\n", nil},
		"no rpm":        {"bash\n", nil},
		"no list":       {`[{"name":1}]`, nil},
	} {
		got, err := parsePackages([]byte(c.text))
		if diff := cmp.Diff(c.want, got); diff != "" && c.want != nil || (err == nil) != (c.want != nil || name == "nothing") {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestPartitionsAndMountsAreReadOrRefused(t *testing.T) {
	t.Parallel()
	for text, fault := range map[string]string{
		"partition=2,mount=/":                        "",
		"partition=2,mount=/,verity=3,roothash=ab":   "",
		"partition=2,mount=/,fstype=ext4,fsuuid=1-2": "",
		"mount=/":                                  "partition is missing",
		"partition=2":                              "mount is missing",
		"partition=0,mount=/":                      "must be the number",
		"partition=x,mount=/":                      "must be the number",
		"partition=2,mount=/,verity=3":             "belong together",
		"partition=2,mount=/,verity=x,roothash=ab": "must be the number",
		"partition=2,mount=/,name=root":            "is none of",
		"partition=2,mount=/,mount=/usr":           "twice",
		"partition=2,/":                            "not of the form",
	} {
		_, err := (&imageBuildOptions{mounts: []string{text}}).diskMounts(nil, 0)
		if fault == "" && err != nil || fault != "" && (errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestImageFlagsBecomeOptions(t *testing.T) {
	t.Parallel()
	ignore := cmp.AllowUnexported(imageBuildOptions{}, imageVerifyOptions{}, imageSource{})
	app := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".app" }, cmp.Ignore())
	built, err := parse(t, newImageBuildCommand, "f", "--disk", "d", "--mount", "a,b", "--mount", "c", "--os-release", "o", "--packages", "p", "--bootloader", "grub", "--arch", "arm64", "--id", "i")
	want := &imageBuildOptions{image: "f", disk: "d", mounts: []string{"a,b", "c"}, osRelease: "o", packages: "p", bootloader: "grub", arch: "arm64", id: "i"}
	if diff := cmp.Diff(want, built, ignore, app); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	verified, err := parse(t, newImageVerifyCommand, "s", "--sha384", "x", "--relaxed", "--auth-file", "a", "--ca", "c")
	if diff := cmp.Diff(&imageVerifyOptions{imageSource: imageSource{source: "s", sha384: "x", relaxed: true, authFile: "a", caFile: "c"}}, verified, ignore, app); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, args := range map[string][]string{
		"neither disk nor partition": {"f", "--os-release", "o", "--arch", "arm64"},
		"both":                       {"f", "--os-release", "o", "--arch", "arm64", "--disk", "d", "--partition", "p"},
		"a mount of a partition":     {"f", "--os-release", "o", "--arch", "arm64", "--mount", "d", "--partition", "p"},
		"no file":                    {"--os-release", "o", "--arch", "arm64", "--disk", "d"},
		"no system":                  {"f", "--arch", "arm64", "--disk", "d"},
	} {
		if _, err := parse(t, newImageBuildCommand, args...); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestCredentialsAreFoundByTheirRegistry(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/auth.json"
	if err := os.WriteFile(path, []byte(`{"auths":{"r.example":{"auth":"dXNlcjpwYXNz"},"https://s.example":{"auth":"YTpiOmM="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	login, err := (&imageSource{authFile: path}).login()
	if err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string][2]string{"r.example": {"user", "pass"}, "s.example": {"a", "b:c"}, "other": {}} {
		if user, password := login(registry); user != want[0] || password != want[1] {
			t.Errorf("%s: %s, %s", registry, user, password)
		}
	}
	if err := os.WriteFile(path, []byte(`{"auths":{"r.example":{"auth":"=secret="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&imageSource{authFile: path}).login(); errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
