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
	"github.com/trident-project/trident/internal/fetch"
	cosi "github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/image/build"
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
		f, err := os.Open(ts.MkAbs(path))
		ts.Check(err)
		defer f.Close()
		info, err := f.Stat()
		ts.Check(err)
		parts = append(parts, cosi.Part{Name: name, Type: kind, Content: f, Size: info.Size()})
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
		"http://ann:s3cret@h:1/a%20b?sig=x#y":     "http://h:1/a%20b",
		"oci://ann:s3cret@h/a:1":                  "oci://h/a:1",
		"ftp://ann:s3cret@h/a":                    "ftp://h/a",
		"https://ann:s3cret@h:no port/debian.raw": "https://…",
	} {
		if got := fetch.Redact(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
	for _, o := range []sourceOptions{{source: "ftp://ann:s3cret@h/a"}, {source: "https://ann:s3cret@h/a", onHost: true}} {
		if _, _, err := o.open(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestImageFlagsBecomeOptions(t *testing.T) {
	t.Parallel()
	ignore := cmp.AllowUnexported(imageBuildOptions{}, imageVerifyOptions{}, imageSource{})
	app := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".app" }, cmp.Ignore())
	built, err := parse(t, newImageBuildCommand, "f", "--disk", "d", "--mount", "a,b", "--mount", "c", "--os-release", "o", "--packages", "p", "--bootloader", "grub", "--arch", "arm64", "--id", "i")
	want := &imageBuildOptions{image: "f", Options: build.Options{
		Disk: "d", Mounts: []string{"a,b", "c"}, OSRelease: "o", Packages: "p", Bootloader: "grub", Arch: "arm64", ID: "i",
	}}
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
		if c, err := login(t.Context(), registry); err != nil || c.Username != want[0] || c.Password != want[1] {
			t.Errorf("%s: %+v, %v", registry, c, err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"auths":{"r.example":{"auth":"=secret="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&imageSource{authFile: path}).login(); errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
