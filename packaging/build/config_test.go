package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chdir makes the root folder of the project the working folder, as the program wants it.
func chdir(t *testing.T) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
}

func TestTheProjectsOwnDefinitionsAreUnderstood(t *testing.T) {
	chdir(t)
	cfg, err := readConfig(".goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range cfg.NFPMs {
		got = append(got, p.Name)
	}
	want := []string{"trident", "trident-provisioning", "trident-gateway", "trident-service", "trident-install-service", "trident-proto"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	for _, p := range cfg.NFPMs {
		for _, c := range p.Contents {
			if c.Type != "dir" && c.FileInfo.Mode == 0 {
				t.Errorf("%s: %s has no mode, so the umask of the builder decides", p.Name, c.Dst)
			}
		}
		for _, s := range []string{p.Scripts.PostInstall, p.Scripts.PreRemove, p.Scripts.PostRemove, p.RPM.Scripts.PreTrans, p.RPM.Scripts.PostTrans} {
			if s == "" {
				continue
			}
			if _, err := os.Stat(s); err != nil {
				t.Errorf("%s: scriptlet: %v", p.Name, err)
			}
		}
	}
}

func TestAKeyThatIsNotKnownIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"at the top":    "version: 2\nuniversal_binaries: []\n",
		"in a build":    "builds: [{id: a, hooks: {post: x}}]\n",
		"in a package":  "nfpms: [{package_name: a, formats: [rpm], suggests: [b]}]\n",
		"in contents":   "nfpms: [{package_name: a, formats: [rpm], contents: [{src: a, dst: b, expand: true}]}]\n",
		"another form":  "nfpms: [{package_name: a, formats: [apk]}]\n",
		"not a mapping": "- a\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseConfig([]byte(text)); err == nil {
				t.Error("no error")
			} else if !strings.HasPrefix(err.Error(), "read package definitions") {
				t.Errorf("error %q does not say what was being done", err)
			}
		})
	}
}

func TestTemplatesKnowWhatGoreleaserKnows(t *testing.T) {
	f := newFields("1.2.3", time.Unix(86400, 0).UTC())
	f.Arch, f.ConventionalFileName = "arm64", "a.rpm"
	for text, want := range map[string]string{
		"plain":                            "plain",
		"{{ .Version }}/{{ .Arch }}":       "1.2.3/arm64",
		"{{ .ConventionalFileName }}":      "a.rpm",
		"{{ .CommitDate }}":                "1970-01-02T00:00:00Z",
		"packaging/x {{.CommitTimestamp}}": "packaging/x 86400",
	} {
		got, err := f.expand(text)
		if err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"{{ .Tag }}", "{{ .Version"} {
		if got, err := f.expand(text); err == nil {
			t.Errorf("expand(%q) = %q, no error", text, got)
		}
	}
}

func TestSourceDate(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
		ok   bool
	}{{"", 0, true}, {"1700000000", 1700000000, true}, {"-1", 0, false}, {"today", 0, false}} {
		got, err := sourceDate(c.in)
		if (err == nil) != c.ok || c.ok && got.Unix() != c.want {
			t.Errorf("sourceDate(%q) = %v, %v", c.in, got, err)
		}
	}
}

func TestOnlyTheArchitecturesAskedForAreBuilt(t *testing.T) {
	b := build{ID: "x", Binary: "x", GOARCH: []string{"amd64", "arm64"}}
	cfg := &config{Dist: "out", Builds: []build{b}}
	binaries := pack{IDs: []string{"x"}}
	for _, c := range []struct{ only, want []string }{
		{nil, []string{"amd64", "arm64"}},
		{[]string{"arm64"}, []string{"arm64"}},
		{[]string{"riscv64"}, []string{}},
	} {
		p := project{cfg: cfg, only: c.only}
		if diff := cmp.Diff(c.want, p.packArches(binaries)); diff != "" {
			t.Errorf("only %v (-want +got):\n%s", c.only, diff)
		}
	}
	if diff := cmp.Diff([]string{"all"}, project{cfg: cfg}.packArches(pack{Meta: true})); diff != "" {
		t.Errorf("a package without binaries (-want +got):\n%s", diff)
	}
}

// The scriptlets share two blocks, and cannot share a file: one runs before anything
// is installed, one after everything is gone.
func TestScriptletsStepAsideAndComeBackInTheSameWay(t *testing.T) {
	chdir(t)
	block := func(name, begin, end string) string {
		text, err := os.ReadFile("packaging/" + name)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(text), begin)
		part, _, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no block %q", name, begin)
		}
		return part
	}
	aside := block("rpm/pretrans.lua", "# --- step aside\n", "# --- step aside ends")
	for _, name := range []string{"rpm/preun.sh", "deb/preinst", "deb/prerm"} {
		if diff := cmp.Diff(aside, block(name, "# --- step aside\n", "# --- step aside ends")); diff != "" {
			t.Errorf("step aside differs (-pretrans +%s):\n%s", name, diff)
		}
	}
	back := block("rpm/posttrans.sh", "# --- come back\n", "# --- come back ends")
	for _, name := range []string{"rpm/postun.sh", "deb/postinst", "deb/postrm"} {
		if diff := cmp.Diff(back, block(name, "# --- come back\n", "# --- come back ends")); diff != "" {
			t.Errorf("come back differs (-posttrans +%s):\n%s", name, diff)
		}
	}
}

func TestNoShellScriptletCanFail(t *testing.T) {
	chdir(t)
	scripts, err := filepath.Glob("packaging/rpm/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scriptlets: %v", err)
	}
	scripts = append(scripts, "packaging/deb/preinst", "packaging/deb/postinst", "packaging/deb/prerm", "packaging/deb/postrm")
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(string(text), "\nexit 0\n") {
			t.Errorf("%s does not end with exit 0", name)
		}
		if strings.Contains(string(text), "set -e") {
			t.Errorf("%s has set -e: rpm would be left half done", name)
		}
	}
}

func TestBadArgumentsAreRefusedBeforeAnythingIsBuilt(t *testing.T) {
	chdir(t)
	for _, args := range [][]string{
		nil, {"deb"}, {"rpm"}, {"release"}, {"srpm", "-version", "1.2.3"},
		{"rpm", "-version", "banana"}, {"rpm", "-version", "v1.2.3"}, {"release", "-version", "v2"},
		{"rpm", "-version", "1.2.3", "-arch", "riscv64"}, {"rpm", "-version", "1.2.3", "-arch", ""},
		{"rpm", "-version", "1.2.3", "more"}, {"finish", "/does/not/exist.rpm"},
	} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("build %v: no error", args)
		}
	}
}
