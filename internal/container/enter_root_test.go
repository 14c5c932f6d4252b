//go:build root

package container

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// containerScript runs the program $1 in namespaces of its own, with a root folder that has
// only the program and the host at /host.
const containerScript = `set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/host"
cp "$1" "$2/program"
mount --rbind / "$2/host"
mount --make-rslave "$2/host"
exec chroot "$2" /program enter "$3"`

func container(t *testing.T, unshare []string, root string) (string, error) {
	t.Helper()
	script := append(unshare, "--mount", "--propagation", "private", "sh", "-c", containerScript, "sh", os.Args[0], t.TempDir(), root)
	cmd := exec.Command("unshare", script...)
	cmd.Env = append(os.Environ(), "container=podman")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The program runs with the namespaces of process 1 and has its own root folder no more,
// whether or not the container shares the processes of the host.
func TestEnterJoinsTheNamespacesOfTheHost(t *testing.T) {
	var want []string
	for _, n := range namespaces() {
		link, err := os.Readlink("/proc/1/ns/" + n.name)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, link)
	}
	for name, unshare := range map[string][]string{
		"all of its own": {"--ipc", "--net", "--uts", "--cgroup", "--pid", "--fork"},
		"the processes":  {"--ipc", "--net", "--uts", "--cgroup"},
		"all but files":  nil,
	} {
		out, err := container(t, unshare, "/host")
		if err != nil || strings.TrimSpace(out) != strings.Join(want, "\n") {
			t.Errorf("%s: %v:\n%s\nwant:\n%s", name, err, out, strings.Join(want, "\n"))
		}
	}
}

func TestEnterRefusesAFolderBelowTheHost(t *testing.T) {
	for _, root := range []string{"/host/usr", "/host/proc", "/"} {
		out, err := container(t, []string{"--pid", "--fork"}, filepath.Clean(root))
		if err == nil || !strings.HasPrefix(out, "PRECONDITION: ") {
			t.Errorf("%s: %v: %s", root, err, out)
		}
	}
}
