//go:build root

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/systemd"
)

// exposures are the most that systemd-analyze security may say of a unit, times ten;
// docs/hardening.md has the reasons for what is left.
var exposures = map[string]string{
	"tridentd.service":        "60",
	"trident.service":         "20",
	"trident-install.service": "20",
	"trident-network.service": "20",
	"trident-update.service":  "20",
	"trident-gateway.service": "20",
	"trident-connect.service": "20",
	// What tridentd starts and writes: the rescuer and the guard of a new system.
	"trident-sandbox.service": "20",
}

// unitFiles copies all service units into a folder, with one that has the sandbox of
// those that tridentd makes.
func unitFiles(t *testing.T, dir string) {
	t.Helper()
	shipped, err := filepath.Glob(filepath.Join(root, "systemd/*.service"))
	if err != nil || len(shipped) == 0 {
		t.Fatalf("no units: %v", err)
	}
	texts := map[string]string{"trident-sandbox.service": "[Service]\nExecStart=/bin/true\n" + systemd.Sandbox()}
	for _, path := range shipped {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(path)] = string(text)
	}
	for name, text := range texts {
		if exposures[name] == "" {
			t.Errorf("the exposure of %s has no limit", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoUnitIsMoreExposedThanItHasToBe(t *testing.T) {
	analyze := func(t *testing.T, dir string, before ...string) {
		for name, most := range exposures {
			args := append(before, "systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold="+most, filepath.Join(dir, name))
			if out, err := output(nil, nil, args...); err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				lines := strings.Split(strings.TrimSpace(out), "\n")
				t.Log(lines[len(lines)-1])
			}
		}
	}
	t.Run("by this machine's systemd", func(t *testing.T) {
		if help, err := output(nil, nil, "systemd-analyze", "--help"); err != nil || !strings.Contains(help, "--offline") {
			t.Skipf("this machine has no systemd-analyze that knows --offline: %v", err)
		}
		dir := t.TempDir()
		unitFiles(t, dir)
		analyze(t, dir)
	})
	t.Run("by that of Debian 13", func(t *testing.T) {
		tree := os.Getenv("TRIDENT_TRIXIE_TREE")
		if tree == "" {
			t.Skip("TRIDENT_TRIXIE_TREE names no Debian 13 tree")
		}
		dir := t.TempDir()
		mount(t, "tmpfs", dir, "mode=755")
		for _, name := range []string{"upper", "work", "tree"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		mount(t, "overlay", filepath.Join(dir, "tree"), fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", tree, dir))
		if err := os.MkdirAll(filepath.Join(dir, "tree/units"), 0o755); err != nil {
			t.Fatal(err)
		}
		unitFiles(t, filepath.Join(dir, "tree/units"))
		analyze(t, "/units", "chroot", filepath.Join(dir, "tree"))
	})
}

// TestTheInstalledUnitsService installs the packages into a booted container and has
// their units, with the umask and the sandbox that these have, do their work.
func TestTheInstalledUnitsService(t *testing.T) {
	if tree := os.Getenv("TRIDENT_TRIXIE_TREE"); tree != "" && !exists(tree, "usr/bin/rpm") {
		t.Skipf("there is no rpm in %s", tree)
	}
	init := bootContainer(t, nil)
	r := ready(t)
	tree := fmt.Sprintf("/proc/%d/root", init)
	if _, err := output(nil, nil, "cp", "-r", r.dir, filepath.Join(tree, "repo")); err != nil {
		t.Fatal(err)
	}
	c := container{t, init}
	c.sh("cd /repo && rpm -U systemd-stub.rpm trident-" + newRPM + "-1.*.rpm trident-service-" + newRPM + "-1.*.rpm && systemctl start tridentd.socket")
	for _, step := range []struct {
		name string
		run  func(container)
	}{
		{"tridentd is confined, and sees the mounts of the host", isConfined},
		{"files and their folders have their modes", writesFiles},
		{"a file that was set user ID is that again after an update that failed", restoresSetUserID},
		{"trident.service ends when it has committed, and runs again", commitsAndEnds},
		{"a reset takes the host out of service", resets},
		{"the rescuer returns the host", rescues},
		{"a read-only file system is said to be one", saysReadOnly},
		{"a client in its sandbox can reboot the host", reboots},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(container{t, init}) })
	}
}

func isConfined(c container) {
	c.want("version", "trident version", "client: "+newRPM+"\ndaemon: "+newRPM)
	const pid = "p=$(systemctl show -P MainPID tridentd.service); "
	c.want("another mount namespace than the host's", pid+"test $(readlink /proc/$p/ns/mnt) = $(readlink /proc/1/ns/mnt) || echo yes", "")
	c.want("privileges", pid+"sed -n 's/^\\(NoNewPrivs\\|Seccomp\\):\\s*/\\1 /p' /proc/$p/status", "NoNewPrivs 1\nSeccomp 2")
	var has, init uint64
	const bounding = "sed -n 's/^CapBnd:\\s*/0x/p' "
	if _, err := fmt.Sscan(c.sh(pid+bounding+"/proc/$p/status /proc/1/status"), &has, &init); err != nil {
		c.Fatal(err)
	}
	if want := init & capabilities; has != want {
		c.Errorf("capabilities %#x, want %#x", has, want)
	}
}

// capabilities are those of CapabilityBoundingSet= in tridentd.service.
const capabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_MAC_ADMIN | 1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE |
	1<<unix.CAP_SYSLOG

func writesFiles(c container) {
	out, err := c.update(`os:
  additionalFiles:
    - destination: /etc/a/b/secret.conf
      content: one
      permissions: "0640"
    - destination: /opt/a/b/plain
      content: two
health:
  checks:
    - name: user
      content: test "$(id -u)" = 0
      runOn: [runtime-update]
`)
	if err != nil {
		c.Fatalf("update: %v\n%s", err, out)
	}
	c.want("modes", "stat -c '%a %U:%G %n' /etc/a /etc/a/b /etc/a/b/secret.conf /opt/a /opt/a/b /opt/a/b/plain", strings.TrimSpace(`
755 root:root /etc/a
755 root:root /etc/a/b
640 root:root /etc/a/b/secret.conf
755 root:root /opt/a
755 root:root /opt/a/b
664 root:root /opt/a/b/plain`))
	c.want("whether another user can read it", "setpriv --reuid=65534 --regid=65534 --clear-groups cat /opt/a/b/plain", "two")
}

func restoresSetUserID(c container) {
	c.sh("install -m 4755 /bin/true /opt/tool")
	out, err := c.update(`os:
  additionalFiles:
    - destination: /opt/tool
      content: another
health:
  checks:
    - name: never
      content: exit 1
      runOn: [runtime-update]
`)
	if err == nil {
		c.Errorf("the update did not fail:\n%s", out)
	}
	c.want("the file", "stat -c %a /opt/tool; cmp /bin/true /opt/tool", "4755")
}

func commitsAndEnds(c container) {
	const state = "systemctl start trident.service && systemctl show --value -p ActiveState -p SubState -p Result trident.service"
	ran := map[string]bool{}
	for range 2 {
		got := strings.Fields(c.sh(state))
		slices.Sort(got)
		if want := []string{"dead", "inactive", "success"}; !slices.Equal(got, want) {
			c.Errorf("state %v, want %v", got, want)
		}
		ran[c.sh("systemctl show -P InvocationID trident.service")] = true
	}
	if len(ran) != 2 {
		c.Errorf("invocations %v, want two", ran)
	}
}

// resets takes the host out of service in the sandbox of the daemon. A file that is no one's of
// the configuration stays.
func resets(c container) {
	const token = `trident host reset --plan --output json | sed -n 's/.*"confirmation": "\([0-9a-f]*\)".*/\1/p'`
	c.sh("touch /etc/a/b/other")
	c.want("reset", `trident host reset --confirm "$(`+token+`)" 2>/dev/null`, "Done: reset the host.")
	c.want("files", "find /etc/a /opt/a -type f", "/etc/a/b/other")
	c.want("state", "trident get | grep ^servicingState", "servicingState: not-provisioned")
	c.want("an outdated confirmation", `trident host reset --confirm 0011223344556677 2>/dev/null; echo $?`, "2")
}

// rescues has the rescuer judge a version that does not answer, in the sandbox that
// its units have.
func rescues(c container) {
	unit := "[Service]\nType=oneshot\nExecStart=/var/lib/trident/self/rescuer watch\n" + systemd.Sandbox()
	c.sh(`mkdir -p /var/lib/trident/self /var/lib/extensions
cp /usr/lib/trident/trident-rescue /var/lib/trident/self/rescuer
ln -s ../trident/self/9.9.9.raw /var/lib/extensions/trident.raw
cat >/var/lib/trident/self/rescue.json <<'END'
{"operation":"20260102-030405-ABCDEF","previous":{"version":"` + newRPM + `","link":""},"target":{"version":"9.9.9","link":"../trident/self/9.9.9.raw"},"deadline_seconds":3,"restarting":true}
END
cat >/run/systemd/system/trident-rescue-test.service <<'END'
` + unit + `END
systemctl daemon-reload`)
	before := c.sh("systemctl show -P InvocationID tridentd.service")
	if out, err := c.try("systemctl start trident-rescue-test.service"); err != nil {
		c.Fatalf("%v\n%s\n%s", err, out, c.sh("journalctl --no-pager -u trident-rescue-test"))
	}
	c.want("the link", "ls -A /var/lib/extensions", "")
	c.want("the verdict", "grep -o '\"verdict\": *\"[a-z]*\"' /var/lib/trident/self/rescue.json | tr -d ' '", `"verdict":"returned"`)
	c.want("version", "timeout 30 trident version | tail -n 1", "daemon: "+newRPM)
	if c.sh("systemctl show -P InvocationID tridentd.service") == before {
		c.Error("the rescuer did not restart tridentd")
	}
	c.sh("rm -rf /var/lib/trident/self/rescue* /run/systemd/system/trident-rescue-test.service && systemctl daemon-reload")
}

func saysReadOnly(c container) {
	c.sh(`systemctl stop tridentd.service
mount --bind /var/lib/trident /var/lib/trident && mount -o remount,ro,bind /var/lib/trident`)
	for _, command := range []string{"trident get status", "trident operation list", "trident update /root/host.yaml"} {
		out, err := c.try("timeout 60 " + command)
		if err == nil || !strings.Contains(out, "read-only file system") || !strings.Contains(out, "remount,rw") || strings.Contains(out, "transport") {
			c.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	c.want("version", "timeout 60 trident version | tail -n 1", "daemon: "+newRPM)
	c.sh("umount /var/lib/trident")
	// The daemon that refuses ends, and the next one is started after a while.
	c.sh("i=0; until timeout 60 trident operation list >/dev/null || [ $i -eq 60 ]; do i=$((i+1)); sleep 1; done; timeout 60 trident operation list >/dev/null")
	if restarts := c.sh("systemctl show -P NRestarts tridentd.service"); len(restarts) != 1 {
		c.Errorf("tridentd was restarted %s times", restarts)
	}
}

// reboots has the unit of a client do what trident commit does when the host is to
// boot another system. The container ends by it.
func reboots(c container) {
	ended, err := unix.PidfdOpen(c.init, 0)
	if err != nil {
		c.Fatal(err)
	}
	defer unix.Close(ended)
	c.sh(`mkdir -p /run/systemd/system/trident.service.d
printf '[Service]\nExecStart=\nExecStart=env SYSTEMD_IGNORE_CHROOT=true systemctl reboot\n' >/run/systemd/system/trident.service.d/reboot.conf
systemctl daemon-reload && systemctl start --no-block trident.service`)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(ended), Events: unix.POLLIN}}, int(time.Until(end).Milliseconds()))
		if n == 1 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			c.Fatal(err)
		}
	}
	c.Errorf("the container runs on:\n%s", c.sh("journalctl --no-pager -u trident.service | tail"))
}
