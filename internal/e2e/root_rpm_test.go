//go:build root

// Ring 3: the packages, with the real rpm, dnf, createrepo_c and rpmlint, in trees of
// their own. What needs a running systemd is in the VM ring; here systemctl is the
// distribution's own working offline, or a script that writes down what it is told.
package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dnf runs dnf on a tree with nothing but our repository, signatures checked.
func (r repository) dnf(tree string, args ...string) (string, error) {
	all := append([]string{
		"dnf", "--installroot=" + tree, "--releasever=1", "--setopt=reposdir=/dev/null", "--setopt=install_weak_deps=False",
		"--setopt=cachedir=" + filepath.Join(tree, "var/cache/dnf"), "--setopt=plugins=False",
		"--repofrompath=trident,file://" + r.dir, "--repo=trident",
		"--setopt=trident.gpgcheck=1", "--setopt=trident.gpgkey=file://" + r.key, "-y",
	}, args...)
	return output(nil, nil, all...)
}

// hostTree is a copy on write of this machine's system: a tree with a shell and a
// systemctl that works offline.
func hostTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	// On a file system of its own: the temporary folder may be on an overlay already.
	mount(t, "tmpfs", dir, "mode=755")
	for _, name := range []string{"upper", "work", "tree"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tree := filepath.Join(dir, "tree")
	mount(t, "overlay", tree, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", dir, dir))
	for _, name := range []string{"usr/lib/trident", "etc/trident", "var/lib/trident", "run/systemd", "run/trident", "var/lib/rpm"} {
		if err := os.RemoveAll(filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func mount(t *testing.T, kind, target, options string) {
	t.Helper()
	if _, err := output(nil, nil, "mount", "-t", kind, "-o", options, kind, target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := output(nil, nil, "umount", target); err != nil {
			t.Error(err)
		}
	})
}

// listing is every path of a tree, without those that rpm and dnf keep for themselves.
func listing(t *testing.T, tree string) []string {
	t.Helper()
	var list []string
	for _, top := range []string{"etc", "usr", "run", "var/lib"} {
		err := filepath.WalkDir(filepath.Join(tree, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(path, tree)
			switch {
			case strings.HasPrefix(name, "/var/lib/rpm"), strings.HasPrefix(name, "/var/lib/dnf"), strings.HasPrefix(name, "/usr/lib/sysimage"):
				return nil
			case d.IsDir() && name == "/usr/share/doc":
				return fs.SkipDir
			}
			list = append(list, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func added(before, after []string) []string {
	known := map[string]bool{}
	for _, name := range before {
		known[name] = true
	}
	return slices.DeleteFunc(slices.Clone(after), func(name string) bool { return known[name] })
}

func installed(t *testing.T, tree string) []string {
	t.Helper()
	out, err := output(nil, nil, "rpm", "--root", tree, "-qa", "--qf", "%{NAME}-%{VERSION}\n")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(out)
	slices.Sort(list)
	return slices.DeleteFunc(list, func(name string) bool { return strings.HasPrefix(name, "gpg-pubkey") })
}

func TestTheFirstTransactionOfAnEmptyTreeMayHoldThePackage(t *testing.T) {
	r, tree := ready(t), t.TempDir()
	if out, err := r.dnf(tree, "install", "trident"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if diff := cmp.Diff([]string{"systemd-stub-257.0.0", "trident-" + newRPM}, installed(t, tree)); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}
	out, err := output(nil, nil, filepath.Join(tree, "usr/bin/trident"), "--version")
	if err != nil || !strings.Contains(out, newRPM) {
		t.Errorf("trident --version: %q, %v", out, err)
	}
	base, err := os.ReadFile(filepath.Join(tree, "usr/lib/trident/base.json"))
	if want := `{"version":"` + newRPM + `"}` + "\n"; err != nil || string(base) != want {
		t.Errorf("base.json is %q (%v), want %q", base, err, want)
	}
	if out, err := output(nil, nil, "rpm", "--root", tree, "-V", "trident"); err != nil {
		t.Errorf("what is installed is not what was packaged: %v\n%s", err, out)
	}
}

func TestDnfInstallsUpgradesDowngradesAndErases(t *testing.T) {
	r, tree := ready(t), hostTree(t)
	before := listing(t, tree)
	steps := []struct {
		do   []string
		want string
	}{
		{[]string{"install", "trident-" + oldRPM, "trident-service-" + oldRPM, "trident-provisioning-" + oldRPM, "trident-proto-" + oldRPM}, oldRPM},
		{[]string{"upgrade", "trident*"}, newRPM},
		{[]string{"downgrade", "trident*"}, oldRPM},
	}
	for _, s := range steps {
		out, err := r.dnf(tree, s.do...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "scriptlet failed") {
			t.Errorf("%s: %s", s.do[0], out)
		}
		want := []string{"systemd-stub-257.0.0", "trident-" + s.want, "trident-proto-" + s.want, "trident-provisioning-" + s.want, "trident-service-" + s.want}
		if diff := cmp.Diff(want, installed(t, tree)); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", s.do[0], diff)
		}
		for _, link := range []string{"sockets.target.wants/tridentd.socket", "multi-user.target.wants/tridentd-resume.path", "timers.target.wants/trident-update.timer"} {
			if !exists(tree, "etc/systemd/system/"+link) {
				t.Errorf("after %s the preset link %s is missing", s.do[0], link)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(tree, "var/lib/trident/self"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := r.dnf(tree, "remove", "trident*", "systemd-stub"); err != nil {
		t.Fatal(err)
	} else if strings.Contains(out, "scriptlet failed") {
		t.Error(out)
	}
	want := []string{"/var/lib/trident", "/var/lib/trident/self"}
	if diff := cmp.Diff(want, added(before, listing(t, tree))); diff != "" {
		t.Errorf("left after the erase (-want +got):\n%s", diff)
	}
}

func TestTheTwoBootUnitsExcludeOneAnother(t *testing.T) {
	r, tree := ready(t), t.TempDir()
	_, err := r.dnf(tree, "install", "trident-service", "trident-install-service")
	if err == nil || !strings.Contains(err.Error(), "conflicts with trident") {
		t.Errorf("both were installed, or for another reason not: %v", err)
	}
}

// A unit of one version must not call the program of another.
func TestAPackageWithAUnitBringsTridentOfItsVersion(t *testing.T) {
	r, tree := ready(t), hostTree(t)
	if _, err := r.dnf(tree, "install", "trident-service-"+oldRPM); err != nil {
		t.Fatal(err)
	}
	want := []string{"systemd-stub-257.0.0", "trident-" + oldRPM, "trident-service-" + oldRPM}
	if diff := cmp.Diff(want, installed(t, tree)); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}
	// The upgrade of one takes the other with it.
	if _, err := r.dnf(tree, "upgrade", "trident"); err != nil {
		t.Fatal(err)
	}
	want = []string{"systemd-stub-257.0.0", "trident-" + newRPM, "trident-service-" + newRPM}
	if diff := cmp.Diff(want, installed(t, tree)); diff != "" {
		t.Errorf("after the upgrade (-want +got):\n%s", diff)
	}
}

func TestAHostThatWantsNoDocumentationGetsNone(t *testing.T) {
	r, tree := ready(t), t.TempDir()
	if _, err := r.dnf(tree, "--setopt=tsflags=nodocs", "install", "trident"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"usr/share/doc/trident/README.md", "usr/share/man/man1/trident.1.gz"} {
		if exists(tree, name) {
			t.Errorf("/%s is installed", name)
		}
	}
	if !exists(tree, "usr/bin/trident") {
		t.Error("/usr/bin/trident is not installed")
	}
}

func TestAPackageWithoutASignatureIsRefusedByDnf(t *testing.T) {
	r, tree := ready(t), t.TempDir()
	bare := repository{dir: t.TempDir(), key: r.key}
	if err := stub(filepath.Join(bare.dir, "systemd-stub.rpm")); err != nil {
		t.Fatal(err)
	}
	if _, err := output(nil, nil, "createrepo_c", bare.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := bare.dnf(tree, "install", "systemd-stub"); err == nil || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("installed, or for another reason not: %v", err)
	}
}

func TestRpmlintFindsNoErrors(t *testing.T) {
	r := ready(t)
	names, err := filepath.Glob(filepath.Join(r.dir, "trident*-"+newRPM+"-*.rpm"))
	if err != nil || len(names) != 6 {
		t.Fatalf("packages %v, %v", names, err)
	}
	out, err := output(nil, nil, append([]string{"rpmlint", "--config", "../../packaging/rpm/rpmlint.toml"}, names...)...)
	for line := range strings.Lines(out) {
		// That our key is not in the keyring of the machine is as it should be.
		if strings.Contains(line, ": E: ") && !strings.Contains(line, "unknown-key") {
			t.Error(line)
		}
	}
	if !strings.Contains(out, "6 packages") {
		t.Errorf("rpmlint did not look at the packages: %v\n%s", err, out)
	}
}

func TestTheNewerOfPackageAndExtensionWins(t *testing.T) {
	r := ready(t)
	for _, c := range []struct {
		extension string
		stays     bool
	}{{"1.0.5", false}, {newRPM, false}, {"2.0.0", true}} {
		t.Run(c.extension, func(t *testing.T) {
			tree := hostTree(t)
			if _, err := r.dnf(tree, "install", "trident-"+oldRPM); err != nil {
				t.Fatal(err)
			}
			activate(t, tree, c.extension)
			if _, err := r.dnf(tree, "upgrade", "trident"); err != nil {
				t.Fatal(err)
			}
			if got := exists(tree, "var/lib/extensions/trident.raw"); got != c.stays {
				t.Errorf("after the upgrade to %s the extension %s is active: %v", newRPM, c.extension, got)
			}
			if !exists(tree, "var/lib/trident/self/"+c.extension+".raw") {
				t.Error("the image is gone from the store")
			}
		})
	}
}

// activate puts an image of the given version into the store and links it.
func activate(t *testing.T, tree, version string) {
	t.Helper()
	store, search := filepath.Join(tree, "var/lib/trident/self"), filepath.Join(tree, "var/lib/extensions")
	for _, dir := range []string{store, search} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(store, version+".raw"), []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../trident/self/"+version+".raw", filepath.Join(search, "trident.raw")); err != nil {
		t.Fatal(err)
	}
}

// A signer that fails at one of the packages leaves what was published before: neither
// unsigned packages nor checksums of others.
func TestASignerThatFailsLeavesWhatWasPublished(t *testing.T) {
	ready(t)
	published := filepath.Join(root, "dist/rpm", newRPM)
	digests := func() string {
		t.Helper()
		out, err := output(&published, nil, "sh", "-c", "ls -a .. | grep -v '^[0-9]'; sha256sum *")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := digests()
	tools := t.TempDir()
	for name, script := range map[string]string{
		"gpg":     "exit 0\n",
		"rpmsign": "case $* in *trident-service*) echo 'no agent' >&2; exit 1 ;; esac\n",
	} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + tools + ":" + os.Getenv("PATH"), "TRIDENT_RPM_SIGNER=key", "SOURCE_DATE_EPOCH=1"}
	_, err := output(&root, env, "go", "run", "./packaging/build", "rpm", "-version", newRPM, "-arch", runtime.GOARCH)
	if err == nil || !strings.Contains(err.Error(), "no agent") || !strings.Contains(err.Error(), "dist/rpm/"+newRPM+" is as before") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, digests()); diff != "" {
		t.Errorf("the failed build changed (-before +after):\n%s", diff)
	}
}
