//go:build root

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeSystemctl writes down what it is told, and plays systemd-sysext: what PID 1's
// mount table says is the file that stands for it.
const fakeSystemctl = `#!/bin/sh
echo "systemctl $*" >>/calls
case "$*" in
"show -P ActiveState systemd-sysext.service") cat /sysext-state ;;
"stop systemd-sysext.service") : >/proc/1/mountinfo ;;
esac
exit 0
`

const fakeSystemdRun = `#!/bin/sh
echo "systemd-run $*" >>/calls
: >/proc/1/mountinfo
`

const mergedTable = "31 1 0:28 / /usr ro,nodev,relatime shared:1 - overlay sysext ro,lowerdir=x\n"

// runningTree is a tree in which systemd seems to run. state is that of
// systemd-sysext.service; merged is whether extensions are.
func runningTree(t *testing.T, state string, merged bool) string {
	t.Helper()
	tree := hostTree(t)
	table := ""
	if merged {
		table = mergedTable
	}
	for name, file := range map[string]struct {
		text string
		perm os.FileMode
	}{
		"usr/bin/systemctl":   {fakeSystemctl, 0o755},
		"usr/bin/systemd-run": {fakeSystemdRun, 0o755},
		"sysext-state":        {state + "\n", 0o644},
		"proc/1/mountinfo":    {table, 0o644},
		"calls":               {"", 0o644},
	} {
		name = filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		os.Remove(name)
		if err := os.WriteFile(name, []byte(file.text), file.perm); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(tree, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	return tree
}

// calls returns what systemd was told since the last time, one call a line.
func calls(t *testing.T, tree string) []string {
	t.Helper()
	name := filepath.Join(tree, "calls")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// What systemd is told before files are written, and after.
var (
	bySystemd = [2][]string{
		{"systemctl show -P ActiveState systemd-sysext.service", "systemctl stop systemd-sysext.service"},
		{"systemctl start systemd-sysext.service"},
	}
	byTool = [2][]string{
		{"systemctl show -P ActiveState systemd-sysext.service", "systemd-run --quiet --collect --wait systemd-sysext unmerge"},
		{"systemd-run --quiet --collect --wait systemd-sysext merge"},
	}
	notAtAll [2][]string
)

func TestExtensionsStepAsideForAnUpgradeAndForAnErase(t *testing.T) {
	r := ready(t)
	for name, c := range map[string]struct {
		state  string
		merged bool
		way    [2][]string
	}{
		"merged by the service":    {"active", true, bySystemd},
		"merged by hand":           {"inactive", true, byTool},
		"nothing merged":           {"active", false, notAtAll},
		"an older and idle system": {"inactive", false, notAtAll},
	} {
		t.Run(name, func(t *testing.T) {
			tree := runningTree(t, c.state, c.merged)
			merge := func() {
				if c.merged {
					if err := os.WriteFile(filepath.Join(tree, "proc/1/mountinfo"), []byte(mergedTable), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			restart := []string{"systemctl try-restart tridentd.service"}
			do := func(what string, want ...[]string) {
				t.Helper()
				if _, err := r.dnf(tree, strings.Fields(what)...); err != nil {
					t.Fatal(err)
				}
				var all []string
				for _, w := range want {
					all = append(all, w...)
				}
				if diff := cmp.Diff(all, calls(t, tree)); diff != "" {
					t.Errorf("%s told systemd (-want +got):\n%s", what, diff)
				}
				if exists(tree, "run/trident/rpm-unmerged") {
					t.Errorf("%s left its marker behind", what)
				}
			}
			reload := []string{"systemctl daemon-reload"}
			do("install trident-"+oldRPM, c.way[0],
				[]string{"systemctl --no-reload preset tridentd.socket tridentd-resume.path trident-update.timer"}, reload, c.way[1], restart)
			merge()
			do("upgrade trident", c.way[0], reload, c.way[1], restart)
			merge()
			activate(t, tree, "2.0.0")
			const stop = "systemctl stop trident-update.timer tridentd-resume.path tridentd.socket tridentd.service trident-rescue*"
			const clean = "systemctl clean --what=state trident-update.timer"
			do("remove trident",
				[]string{"systemctl --no-reload disable tridentd.socket tridentd-resume.path trident-update.timer", stop},
				c.way[0], reload, []string{stop, clean}, reload, c.way[1],
				[]string{"systemctl reset-failed tridentd.service tridentd.socket tridentd-resume.path trident-update.timer trident-update.service"})
			for _, name := range []string{"var/lib/extensions/trident.raw", "run/trident", "usr/lib/trident", "usr/bin/tridentd"} {
				if exists(tree, name) {
					t.Errorf("/%s is left after the erase", name)
				}
			}
			if !exists(tree, "var/lib/trident/self/2.0.0.raw") {
				t.Error("the erase took state with it")
			}
		})
	}
}

func TestAnEraseLeavesAnothersExtensionOfOurNameAlone(t *testing.T) {
	r, tree := ready(t), hostTree(t)
	if _, err := r.dnf(tree, "install", "trident"); err != nil {
		t.Fatal(err)
	}
	search := filepath.Join(tree, "var/lib/extensions")
	if err := os.MkdirAll(search, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/opt/trident.raw", filepath.Join(search, "trident.raw")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.dnf(tree, "remove", "trident"); err != nil {
		t.Fatal(err)
	}
	if !exists(tree, "var/lib/extensions/trident.raw") {
		t.Error("the link to somebody else's image is gone")
	}
}

// The same with a real systemd and the rpm of Debian 13, in a booted container. The
// extension is another vendor's, and a folder: a container has no dm-verity.
func TestExtensionsStepAsideOnARunningSystemd(t *testing.T) {
	if tree := os.Getenv("TRIDENT_TRIXIE_TREE"); tree != "" && !exists(tree, "usr/bin/rpm") {
		t.Skipf("there is no rpm in %s", tree)
	}
	init := bootContainer(t, nil)
	r := ready(t)
	tree := fmt.Sprintf("/proc/%d/root", init)
	if _, err := output(nil, nil, "cp", "-r", r.dir, filepath.Join(tree, "repo")); err != nil {
		t.Fatal(err)
	}
	sh := func(script string) string {
		t.Helper()
		out, err := output(nil, nil, "nsenter", "-t", fmt.Sprint(init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
			"env", "-i", "PATH=/usr/sbin:/usr/bin", "sh", "-c", "exec 2>&1\n"+script)
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
	const version = "timeout 30 trident version --output json | tr -d ' \\n'"
	const merged = "grep -c ' - overlay sysext ' /proc/1/mountinfo; cat /usr/share/vendor/file"
	sh(`dir=/var/lib/extensions/vendor/usr
mkdir -p $dir/lib/extension-release.d $dir/share/vendor
echo ID=_any >$dir/lib/extension-release.d/extension-release.vendor
echo vendor >$dir/share/vendor/file
systemctl start systemd-sysext.service`)
	want("merged", sh(merged), "1\nvendor")

	rpm := func(args string) {
		t.Helper()
		if out := sh("cd /repo && rpm " + args); strings.Contains(out, "failed") || strings.Contains(out, "cannot") {
			t.Errorf("rpm %s: %s", args, out)
		}
		want("merged again after rpm "+args, sh(merged), "1\nvendor")
	}
	rpm("-U systemd-stub.rpm trident-" + oldRPM + "-1.*.rpm")
	sh("systemctl start tridentd.socket")
	answered := sh(version)
	if !strings.Contains(answered, oldRPM) {
		t.Errorf("trident version: %s", answered)
	}
	rpm("-U trident-" + newRPM + "-1.*.rpm")
	want("after the upgrade", sh(version), strings.ReplaceAll(answered, oldRPM, newRPM))
	sh("systemctl stop systemd-sysext.service && systemd-sysext merge")
	rpm("-U --oldpackage trident-" + oldRPM + "-1.*.rpm")
	want("after the downgrade", sh(version), answered)
	rpm("-e trident")
	want("units after the erase", sh("systemctl list-units --all --no-legend 'trident*'"), "")
	want("left after the erase", sh("ls -d /usr/bin/trident* /usr/lib/trident /run/trident /etc/trident 2>/dev/null || :"), "")
}
