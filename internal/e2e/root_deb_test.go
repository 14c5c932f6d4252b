//go:build root

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// debs builds the packages for dpkg of both versions once for all tests, and returns their
// folder.
var debs = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join(root, "dist/test-deb"))
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, version := range []string{oldRPM, newRPM} {
		env := []string{"SOURCE_DATE_EPOCH=1700000000"}
		out, err := output(&root, env, "go", "run", "./packaging/build", "deb", "-version", version, "-arch", runtime.GOARCH)
		if err != nil {
			return "", err
		}
		for _, name := range strings.Fields(out) {
			if _, err := output(&root, nil, "cp", "-t", dir, name); err != nil {
				return "", err
			}
		}
	}
	return dir, nil
})

// withDebs puts the packages into a tree, as /debs.
func withDebs(t *testing.T, tree string) {
	t.Helper()
	dir, err := debs()
	if err != nil {
		t.Fatalf("build packages: %v", err)
	}
	if _, err := output(nil, nil, "cp", "-r", dir, filepath.Join(tree, "debs")); err != nil {
		t.Fatal(err)
	}
}

// dpkg runs the dpkg of a tree. An argument like trident_1.0.0 stands for that package.
func dpkg(t *testing.T, tree string, args ...string) (string, error) {
	t.Helper()
	all := []string{"chroot", tree, "env", "DEBIAN_FRONTEND=noninteractive", "dpkg"}
	for _, arg := range args {
		if strings.Contains(arg, "_") {
			found, err := filepath.Glob(filepath.Join(tree, "debs", arg+"_*.deb"))
			if err != nil || len(found) != 1 {
				t.Fatalf("packages %s: %v, %v", arg, found, err)
			}
			arg = strings.TrimPrefix(found[0], tree)
		}
		all = append(all, arg)
	}
	return output(nil, nil, all...)
}

func TestDpkgInstallsUpgradesDowngradesAndPurges(t *testing.T) {
	tree := hostTree(t)
	before := listing(t, tree)
	withDebs(t, tree)
	links := []string{"sockets.target.wants/tridentd.socket", "multi-user.target.wants/tridentd-resume.path", "timers.target.wants/trident-update.timer", "multi-user.target.wants/trident.service"}
	do := func(enabled bool, args ...string) {
		t.Helper()
		out, err := dpkg(t, tree, args...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "could not") {
			t.Errorf("dpkg %v: %s", args, out)
		}
		for _, link := range links {
			if got := exists(tree, "etc/systemd/system/"+link); got != enabled {
				t.Errorf("after dpkg %v the link %s is there: %v", args, link, got)
			}
		}
	}
	all := func(version string) []string {
		return []string{"--install", "trident_" + version, "trident-service_" + version, "trident-provisioning_" + version, "trident-proto_" + version}
	}
	names := []string{"trident", "trident-service", "trident-provisioning", "trident-proto"}
	do(true, all(oldRPM)...)
	do(true, all(newRPM)...)
	base, err := os.ReadFile(filepath.Join(tree, "usr/lib/trident/base.json"))
	if want := `{"version":"` + newRPM + `"}` + "\n"; err != nil || string(base) != want {
		t.Errorf("base.json is %q (%v), want %q", base, err, want)
	}
	do(true, all(oldRPM)...)
	do(false, append([]string{"--remove"}, names...)...)
	do(true, all(newRPM)...) // dpkg calls it an upgrade of what was removed
	if err := os.MkdirAll(filepath.Join(tree, "var/lib/trident/self"), 0o700); err != nil {
		t.Fatal(err)
	}
	do(false, append([]string{"--purge"}, names...)...)
	var stay []string
	for _, name := range added(before, listing(t, tree)) {
		if !strings.HasPrefix(name, "/var/lib/dpkg") {
			stay = append(stay, name)
		}
	}
	if diff := cmp.Diff([]string{"/var/lib/trident", "/var/lib/trident/self"}, stay); diff != "" {
		t.Errorf("there after the purge (-want +got):\n%s", diff)
	}
}

func TestDpkgRefusesAUnitOfAnotherVersion(t *testing.T) {
	tree := hostTree(t)
	withDebs(t, tree)
	_, err := dpkg(t, tree, "--install", "trident_"+newRPM, "trident-service_"+oldRPM)
	if err == nil || !strings.Contains(err.Error(), "trident-service depends on trident (= "+oldRPM+")") {
		t.Errorf("installed, or for another reason not: %v", err)
	}
}

func TestExtensionsStepAsideForDpkg(t *testing.T) {
	reload := []string{"systemctl daemon-reload"}
	restart := []string{"systemctl try-restart tridentd.service"}
	const stop = "systemctl stop trident-update.timer tridentd-resume.path tridentd.socket tridentd.service trident-rescue*"
	const clean = "systemctl clean --what=state trident-update.timer"
	for name, c := range map[string]struct {
		state  string
		merged bool
		way    [2][]string
	}{
		"merged by the service": {"active", true, bySystemd},
		"merged by hand":        {"inactive", true, byTool},
		"nothing merged":        {"active", false, notAtAll},
	} {
		t.Run(name, func(t *testing.T) {
			tree := runningTree(t, c.state, c.merged)
			withDebs(t, tree)
			do := func(fails bool, args []string, want ...[]string) {
				t.Helper()
				out, err := dpkg(t, tree, args...)
				if (err != nil) != fails {
					t.Fatalf("dpkg %v: %v\n%s", args, err, out)
				}
				var all []string
				for _, w := range want {
					all = append(all, w...)
				}
				if diff := cmp.Diff(all, calls(t, tree)); diff != "" {
					t.Errorf("dpkg %v told systemd (-want +got):\n%s", args, diff)
				}
				if exists(tree, "run/trident/rpm-unmerged") {
					t.Errorf("dpkg %v left its marker behind", args)
				}
				if c.merged {
					if err := os.WriteFile(filepath.Join(tree, "proc/1/mountinfo"), []byte(mergedTable), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Packages that hold the scriptlets and no whole file: the preinst has run when
			// dpkg finds out.
			for _, version := range []string{oldRPM, newRPM} {
				whole, err := filepath.Glob(filepath.Join(tree, "debs", "trident_"+version+"_*.deb"))
				if err != nil || len(whole) != 1 {
					t.Fatal(whole, err)
				}
				text, err := os.ReadFile(whole[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(tree, "debs", "cut_"+version+"_all.deb"), text[:16<<10], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			install := []string{"--install", "trident_" + oldRPM}
			do(true, []string{"--install", "cut_" + oldRPM}, c.way[0], reload, c.way[1])
			do(false, install, c.way[0],
				[]string{"systemctl --no-reload preset tridentd.socket tridentd-resume.path trident-update.timer"}, reload, c.way[1], restart)
			do(true, []string{"--install", "cut_" + newRPM}, c.way[0], reload, c.way[1], restart)
			do(false, []string{"--install", "trident_" + newRPM}, c.way[0], reload, c.way[1], restart)
			activate(t, tree, "2.0.0")
			do(false, []string{"--remove", "trident"},
				[]string{"systemctl --no-reload disable tridentd.socket tridentd-resume.path trident-update.timer", stop},
				c.way[0], reload, []string{stop, clean}, reload, c.way[1],
				[]string{"systemctl reset-failed tridentd.service tridentd.socket tridentd-resume.path trident-update.timer trident-update.service"})
			for _, name := range []string{"var/lib/extensions/trident.raw", "run/trident", "usr/lib/trident/base.json", "usr/bin/tridentd"} {
				if exists(tree, name) {
					t.Errorf("/%s is there after the removal", name)
				}
			}
			if !exists(tree, "var/lib/trident/self/2.0.0.raw") {
				t.Error("the removal took state with it")
			}
		})
	}
}

// The same with a real systemd and dpkg, in a booted container of Debian 13.
func TestExtensionsStepAsideForDpkgOnARunningSystemd(t *testing.T) {
	init := bootContainer(t, nil)
	tree := fmt.Sprintf("/proc/%d/root", init)
	withDebs(t, tree)
	sh := func(script string) string {
		t.Helper()
		out, err := output(nil, nil, "nsenter", "-t", fmt.Sprint(init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
			"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", "exec 2>&1\n"+script)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	sh(`dir=/var/lib/extensions/vendor/usr
mkdir -p $dir/lib/extension-release.d $dir/share/vendor
echo ID=_any >$dir/lib/extension-release.d/extension-release.vendor
echo vendor >$dir/share/vendor/file
systemctl start systemd-sysext.service`)
	const merged = "grep -c ' - overlay sysext ' /proc/1/mountinfo; cat /usr/share/vendor/file"
	want("merged", sh(merged), "1\nvendor")
	dpkg := func(args string) {
		t.Helper()
		if out := sh("cd /debs && dpkg " + args); strings.Contains(out, "could not") || strings.Contains(out, "cannot") {
			t.Errorf("dpkg %s: %s", args, out)
		}
		want("merged again after dpkg "+args, sh(merged), "1\nvendor")
	}
	const version = "timeout 30 trident version --output json | tr -d ' \\n'"
	dpkg("-i trident_" + oldRPM + "_*.deb trident-service_" + oldRPM + "_*.deb")
	sh("systemctl start tridentd.socket")
	answered := sh(version)
	if !strings.Contains(answered, oldRPM) {
		t.Errorf("trident version: %s", answered)
	}
	dpkg("-i trident_" + newRPM + "_*.deb trident-service_" + newRPM + "_*.deb")
	want("after the upgrade", sh(version), strings.ReplaceAll(answered, oldRPM, newRPM))
	dpkg("--purge trident-service trident")
	want("units after the purge", sh("systemctl list-units --all --no-legend 'trident*'"), "")
	want("there after the purge", sh("ls -d /usr/bin/trident* /usr/lib/trident /run/trident /etc/trident 2>/dev/null || :"), "")
}
