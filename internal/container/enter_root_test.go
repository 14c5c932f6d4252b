//go:build root

package container

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// hostScript is the first process of a host: it prints its namespaces, and runs the script $1
// as a container, with what follows.
const hostScript = `set -e
for n in ipc net uts cgroup mnt; do readlink /proc/self/ns/$n; done
echo
script=$1 options=$2
shift 2
unshare $options --mount --propagation private sh -c "$script" sh "$@"`

// containerScript runs the program $1 with a root folder that has the program, /proc, and the
// host at /host.
const containerScript = `set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/host" "$2/proc"
mount -t proc proc "$2/proc"
cp "$1" "$2/program"
mount --rbind / "$2/host"
mount --make-rslave "$2/host"
exec chroot "$2" /program enter "$3"`

// container enters root in a container with the options of unshare, and returns what the first
// process of the host and what the program have printed.
func container(t *testing.T, options, root string) (host, program string, err error) {
	t.Helper()
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--ipc", "--net", "--uts", "--cgroup", "--mount", "--propagation", "private",
		"sh", "-c", hostScript, "sh", containerScript, options, os.Args[0], t.TempDir(), root)
	cmd.Env = append(os.Environ(), "container=podman")
	out, err := cmd.CombinedOutput()
	host, program, _ = strings.Cut(string(out), "\n\n")
	return host, strings.TrimSpace(program), err
}

// The program runs in the namespaces of process 1 of the host, and has its own root folder no
// more, whether or not the container shares the processes of the host.
func TestEnterJoinsTheNamespacesOfTheHost(t *testing.T) {
	for name, options := range map[string]string{
		"nothing":           "--ipc --net --uts --cgroup --pid --fork",
		"the processes":     "--ipc --net --uts --cgroup",
		"all but the files": "",
	} {
		host, program, err := container(t, options, "/host")
		if err != nil || program != host || strings.Count(host, "\n") != len(namespaces())-1 {
			t.Errorf("a container that shares %s: %v:\n%s\nwant:\n%s", name, err, program, host)
		}
	}
}

func TestEnterRefusesAnotherFolderOfTheHost(t *testing.T) {
	for _, root := range []string{"/host/usr", "/host/proc", "/"} {
		_, program, err := container(t, "--pid --fork", root)
		if err == nil || !strings.HasPrefix(program, "PRECONDITION: ") {
			t.Errorf("%s: %v: %s", root, err, program)
		}
	}
}
