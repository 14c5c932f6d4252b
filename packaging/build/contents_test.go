package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/files"
)

// testProject is the project's own definitions at a version.
func testProject(t *testing.T) project {
	t.Helper()
	chdir(t)
	cfg, err := readConfig(".goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return project{cfg: cfg, version: "1.2.3-rc.1", epoch: time.Unix(0, 0).UTC(), only: []string{"amd64"}}
}

func (p project) pack(t *testing.T, name string) pack {
	t.Helper()
	for _, pack := range p.cfg.NFPMs {
		if pack.Name == name {
			return pack
		}
	}
	t.Fatalf("there is no package %s", name)
	return pack{}
}

// installedFiles returns the files of a package that come from the tree, by the path that
// they are installed at, and the folders that it owns.
func (p project) installedFiles(t *testing.T, name string) (fromTree map[string]string, folders []string) {
	t.Helper()
	info, err := p.info(p.pack(t, name), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	info.Contents = slices.DeleteFunc(info.Contents, func(c *files.Content) bool { return strings.HasPrefix(c.Source, "dist/") })
	if err := nfpm.PrepareForPackager(info, "rpm"); err != nil {
		t.Fatal(err)
	}
	fromTree = map[string]string{}
	for _, c := range info.Contents {
		switch c.Type {
		case "dir":
			folders = append(folders, strings.TrimSuffix(c.Destination, "/"))
		case "implicit dir":
		default:
			fromTree[c.Destination] = c.Source
		}
	}
	return fromTree, folders
}

func find(t *testing.T, dir, ext string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ext {
			names = append(names, path)
		}
		return err
	})
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s files in %s: %v", ext, dir, err)
	}
	return names
}

func TestTheProtoPackageHoldsTheWholeAPI(t *testing.T) {
	p := testProject(t)
	got, folders := p.installedFiles(t, "trident-proto")
	want := map[string]string{}
	for _, name := range find(t, "proto", ".proto") {
		to := "/usr/share/trident/" + name
		want[to] = name
		if !slices.Contains(folders, filepath.Dir(to)) {
			t.Errorf("no package owns %s", filepath.Dir(to))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of the package (-want +got):\n%s", diff)
	}
}

func TestThePackageHoldsEveryPageTheSchemaAndTheExamples(t *testing.T) {
	p := testProject(t)
	got, folders := p.installedFiles(t, "trident")
	want := append(find(t, "docs", ".md"), find(t, "docs", ".yaml")...)
	want = append(want, find(t, "docs", ".svg")...)
	want = append(want, find(t, "docs", ".png")...)
	want = append(want, "docs/host-configuration.schema.json", "README.md", "SECURITY.md", "CHANGELOG.md")
	for _, name := range want {
		to := "/usr/share/doc/trident/" + name
		if got[to] != name {
			t.Errorf("%s is not in the package", name)
		}
	}
	for _, name := range find(t, "proto/client/examples", ".go") {
		to := "/usr/share/doc/trident/" + strings.TrimPrefix(name, "proto/client/")
		if !strings.HasSuffix(name, "_test.go") && got[to] != name {
			t.Errorf("%s is not in the package", name)
		}
	}
	for to := range got {
		if dir := filepath.Dir(to); strings.HasPrefix(to, "/usr/share/doc/") && !slices.Contains(folders, dir) {
			t.Errorf("no package owns %s", dir)
		}
	}
}

func TestEveryLinkOfAnInstalledPageLeadsToAnInstalledFile(t *testing.T) {
	p := testProject(t)
	installed, _ := p.installedFiles(t, "trident")
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	pages := 0
	for to, from := range installed {
		if filepath.Ext(from) != ".md" {
			continue
		}
		pages++
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if target := filepath.Join(filepath.Dir(to), found[1]); !strings.Contains(found[1], "://") && installed[target] == "" {
				t.Errorf("%s links to %s, which the package does not install: link to the public repository", from, found[1])
			}
		}
	}
	if pages < 10 {
		t.Errorf("only %d pages are installed", pages)
	}
}

func TestEveryScriptletsShellIsRequired(t *testing.T) {
	for _, pack := range testProject(t).cfg.NFPMs {
		if has := slices.Contains(pack.Dependencies, "/bin/sh"); has != (pack.Scripts.PostInstall != "") {
			t.Errorf("%s: requires /bin/sh: %v; has scriptlets: %v", pack.Name, has, pack.Scripts.PostInstall != "")
		}
		if pack.RPM.Packager == "" || strings.Contains(pack.RPM.Packager, ".example") {
			t.Errorf("%s: the packager %q is nobody", pack.Name, pack.RPM.Packager)
		}
	}
}

func TestFinishTiesUnitsToTheirVersionAndMarksDocs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := pack{Name: "trident-x", Meta: true, FileName: "{{ .ConventionalFileName }}", Maintainer: "A <a@example.org>", Description: "Small."}
	p.Dependencies = []string{"/bin/sh", "trident", "systemd >= 252", "trident-other"}
	for _, to := range []string{"/usr/bin/file", "/usr/share/doc/trident-x/file", "/usr/share/man/man1/file.1", "/usr/share/docs"} {
		c := content{Src: file, Dst: to}
		c.FileInfo.Mode = 0o644
		p.Contents = append(p.Contents, c)
	}
	for version, want := range map[string]string{"1.0.0": "1.0.0-1", "1.0.0-rc.1": "1.0.0~rc.1-1"} {
		name, err := project{cfg: &config{Dist: dir}, version: version, epoch: time.Unix(0, 0).UTC()}.write(p, "rpm", "all", dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := complete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		pkg, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, hdr, _, err := splitPackage(pkg)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		versions := hdr.find(tagRequireVers).texts()
		for i, name := range hdr.find(tagRequireName).texts() {
			if !strings.HasPrefix(name, "rpmlib(") {
				got[name] = versions[i]
				if equal := hdr.find(tagRequireFlags).number(i)&flagEqual != 0; equal != (versions[i] != "") {
					t.Errorf("%s: equal is %v", name, equal)
				}
			}
		}
		if diff := cmp.Diff(map[string]string{"/bin/sh": "", "trident": want, "systemd": "252", "trident-other": ""}, got); diff != "" {
			t.Errorf("requirements of %s (-want +got):\n%s", version, diff)
		}
		const tagBaseNames = 1117
		docs := 0
		for i, name := range hdr.find(tagBaseNames).texts() {
			folder := hdr.find(tagDirNames).texts()[hdr.find(tagDirIndexes).number(i)]
			isDoc := hdr.find(tagFileFlags).number(i)&flagDoc != 0
			if isDoc != (strings.HasPrefix(folder, "/usr/share/doc/") || strings.HasPrefix(folder, "/usr/share/man/")) {
				t.Errorf("%s%s is documentation: %v", folder, name, isDoc)
			}
			if isDoc {
				docs++
			}
		}
		if docs != 2 {
			t.Errorf("%d files are documentation", docs)
		}
	}
}

func TestRelationsOfDpkg(t *testing.T) {
	got, err := relations([]string{"systemd >= 252", "/bin/sh", "trident", "trident-service", "a < 2"}, "1.2.3~rc.1")
	if diff := cmp.Diff([]string{"systemd (>= 252)", "trident (= 1.2.3~rc.1)", "trident-service", "a (<< 2)"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"a >= ", "a ~ 2", "", "a b"} {
		if got, err := relations([]string{bad}, "1"); err == nil {
			t.Errorf("relations(%q) = %q", bad, got)
		}
	}
}

// The scriptlets of both formats enable the same units.
func TestScriptletsOfBothFormatsEnableTheSameUnits(t *testing.T) {
	p := testProject(t)
	for _, pack := range p.cfg.NFPMs {
		info, err := p.info(pack, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		units, err := enabledUnits(info.Contents)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if pack.Scripts.PostInstall != "" {
			text, err := os.ReadFile(pack.Scripts.PostInstall)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, ok := strings.Cut(string(text), "--no-reload preset ")
			if !ok {
				t.Fatalf("%s presets nothing", pack.Scripts.PostInstall)
			}
			line, _, _ := strings.Cut(rest, " |")
			want = strings.Fields(line)
		}
		if diff := cmp.Diff(want, units); diff != "" {
			t.Errorf("%s (-rpm +dpkg):\n%s", pack.Name, diff)
		}
	}
}
