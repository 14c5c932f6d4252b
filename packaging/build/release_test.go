package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheBillOfMaterialsNamesEveryModule(t *testing.T) {
	self, err := os.Executable() // any program that Go built
	if err != nil {
		t.Fatal(err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || len(info.Deps) == 0 {
		t.Fatal("this program does not know its modules")
	}
	file := filepath.Join(t.TempDir(), "trident_1.2.3_x86-64.raw")
	if err := os.WriteFile(file, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	produce := func() *spdxDocument {
		doc, err := sbom("1.2.3", time.Unix(0, 0), []string{file}, []program{{"trident", "amd64", self}, {"tridentd", "amd64", self}})
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	doc := produce()
	if diff := cmp.Diff(doc, produce()); diff != "" {
		t.Errorf("two documents of the same input differ:\n%s", diff)
	}
	ids, got := map[string]bool{doc.ID: true}, map[string]string{}
	id := regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`)
	for _, p := range doc.Packages {
		if ids[p.ID] || !id.MatchString(p.ID) {
			t.Errorf("the ID %q is given twice, or not one of SPDX", p.ID)
		}
		ids[p.ID] = true
		got[p.Name] = p.Version
	}
	want := map[string]string{
		"trident_1.2.3_x86-64.raw": "1.2.3", "trident (amd64)": "1.2.3", "tridentd (amd64)": "1.2.3",
		"stdlib": strings.TrimPrefix(info.GoVersion, "go"),
	}
	for _, m := range info.Deps {
		want[m.Path] = m.Version
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	for _, r := range doc.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("a relationship of nothing: %v", r)
		}
	}
	if want := 3 + 2*(1+len(info.Deps)); len(doc.Relationships) != want {
		t.Errorf("%d relationships, want %d", len(doc.Relationships), want)
	}
	if _, err := json.Marshal(doc); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("another image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if other := produce(); other.Namespace == doc.Namespace {
		t.Error("documents of different content have the same name space")
	}
}

func TestTheBillOfMaterialsHasTheModulesThatWereBuilt(t *testing.T) {
	for name, c := range map[string]struct {
		module debug.Module
		want   string
	}{
		"from a proxy":         {debug.Module{Path: "example.com/a", Version: "v1.0.0+incompatible"}, "pkg:golang/example.com/a@v1.0.0%2Bincompatible NOASSERTION"},
		"another in its place": {debug.Module{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/b", Version: "v2.0.0"}}, "pkg:golang/example.com/b@v2.0.0 NOASSERTION"},
		"a folder of the tree": {debug.Module{Path: "example.com/a", Version: "v0.0.0", Replace: &debug.Module{Path: "./a", Version: "(devel)"}}, "pkg:golang/example.com/a@v1.2.3 MIT"},
	} {
		got := moduleSPDX(&c.module, "1.2.3")
		if got := got.References[0].Locator + " " + got.LicenseDeclared; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestAProgramThatGoDidNotBuildIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := sbom("1.2.3", time.Unix(0, 0), nil, []program{{"trident", "amd64", file}}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
}

// gpgScript stands for gpg: it has the secret key "known" alone, writes a signature, and
// fails to sign when the file fail is beside it.
const gpgScript = `#!/bin/sh
case "$*" in
*--list-secret-keys*) for last; do :; done; [ "$last" = known ] ;;
*--detach-sign*) [ ! -e "${0%/*}/fail" ] && echo signature >"$7" ;;
esac
`

func fakeGPG(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte(gpgScript), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestAKeyThatGpgDoesNotHaveIsNamedBeforeAnythingIsBuilt(t *testing.T) {
	fakeGPG(t)
	chdir(t)
	for _, kind := range []string{"rpm", "release"} {
		t.Setenv(signer, "stranger")
		dir := filepath.Join("dist", kind, "0.0.0-signer-test")
		err := run(t.Context(), []string{kind, "-version", "0.0.0-signer-test"})
		if err == nil || !strings.Contains(err.Error(), `"stranger"`) || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%s: error %v", kind, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: there is %s", kind, dir)
		}
	}
	t.Setenv(signer, "known")
	if err := checkSigner(t.Context(), "the packages"); err != nil {
		t.Error(err)
	}
}

func TestChecksumsAndTheirSignature(t *testing.T) {
	tool := fakeGPG(t)
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(signer, "known")
	if err := writeSums(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	got, _ := tree(t, dir)
	want := map[string]string{
		"a": "a", "b": "b", "SHA256SUMS.asc": "signature\n",
		"SHA256SUMS": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a\n" +
			"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(tool, "fail"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeSums(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "sign checksums") {
		t.Errorf("a signer that fails: %v", err)
	}
}
