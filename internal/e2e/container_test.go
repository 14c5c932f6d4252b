//go:build root || outside

package e2e_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bootScript runs in a mount namespace of its own. What the container writes is
// in memory, and its cgroups are below one of its own, $1. $2 is the tree; what follows
// are further options of systemd-nspawn.
const bootScript = `set -e
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd /run/lock /run/c/upper /run/c/work /run/c/root
mount -t overlay -o "lowerdir=$2,upperdir=/run/c/upper,workdir=/run/c/work" overlay /run/c/root
: > /run/c/root/etc/machine-id
name=$1
shift 2
exec systemd-nspawn --directory=/run/c/root --machine="$name" --register=no --keep-unit --boot \
  --notify-ready=yes --link-journal=no --console=pipe "$@"
`

const cleanScript = `umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
`

func privateMounts(script string, args ...string) *exec.Cmd {
	return exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh"}, args...)...)
}

// bootContainer boots the Debian 13 tree in $TRIDENT_TRIXIE_TREE, which stays as
// it is, and returns the process ID of its init. The container has the network of the
// process that the words of enter, in front of its command, make; none means that of
// this process. The options are systemd-nspawn's.
func bootContainer(t *testing.T, enter []string, options ...string) int {
	t.Helper()
	tree := os.Getenv("TRIDENT_TRIXIE_TREE")
	if tree == "" {
		t.Skip("TRIDENT_TRIXIE_TREE names no Debian 13 tree to boot")
	}
	ready := filepath.Join(t.TempDir(), "ready")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	name := fmt.Sprintf("trident-e2e-%d", os.Getpid())
	var console bytes.Buffer
	boot := privateMounts(bootScript, append([]string{name, tree}, options...)...)
	if len(enter) > 0 {
		boot = exec.Command(enter[0], append(enter[1:], boot.Args...)...)
	}
	boot.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready)
	boot.Stdout, boot.Stderr = &console, &console
	boot.WaitDelay = 5 * time.Second
	if err := boot.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = boot.Wait(); close(ended); _ = socket.Close() }()
	t.Cleanup(func() {
		_ = boot.Process.Signal(syscall.SIGTERM) // an orderly power-off
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			_ = boot.Process.Kill()
			<-ended
		}
		if out, err := privateMounts(cleanScript, name).CombinedOutput(); err != nil {
			t.Errorf("remove cgroups: %v: %s", err, out)
		}
		if t.Failed() {
			t.Logf("console:\n%s", console.Bytes())
		}
	})
	return awaitReady(t, socket, boot.Process.Pid)
}

// awaitReady returns the process ID of the container's init once it has booted.
func awaitReady(t *testing.T, socket *net.UnixConn, nspawn int) int {
	t.Helper()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	for message := make([]byte, 4096); ; {
		n, err := socket.Read(message)
		if err != nil {
			t.Fatalf("the container did not boot: %v", err)
		}
		if strings.Contains(string(message[:n]), "READY=1") {
			break
		}
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	if err != nil {
		t.Fatal(err)
	}
	var init int
	if _, err := fmt.Sscan(string(children), &init); err != nil {
		t.Fatalf("children of nspawn %q: %v", children, err)
	}
	return init
}

// A container is a booted one, seen by a shell in it.
type container struct {
	*testing.T
	init int
}

// try runs a script as root of the container and returns what it says.
func (c container) try(script string) (string, error) {
	out, err := output(nil, nil, "nsenter", "-t", fmt.Sprint(c.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin", "sh", "-c", "exec 2>&1\n"+script)
	return strings.TrimSpace(out), err
}

func (c container) sh(script string) string {
	c.Helper()
	out, err := c.try(script)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

func (c container) want(what, script, want string) {
	c.Helper()
	if got := c.sh(script); got != want {
		c.Errorf("%s: %q, want %q", what, got, want)
	}
}

// update applies a Host Configuration.
func (c container) update(config string) (string, error) {
	return c.try("cat >/root/host.yaml <<'END'\n" + config + "END\ntrident update /root/host.yaml")
}
