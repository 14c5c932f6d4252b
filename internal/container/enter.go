package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// enteredVariable has the process ID of a tridentd that Enter has started in the host's
// namespaces.
const enteredVariable = "TRIDENT_ENTERED_HOST"

// A namespace is one that tridentd shares with the host; see namespaces(7).
type namespace struct {
	name string // in /proc/PID/ns
	flag int
}

// namespaces returns the namespaces that Enter joins. The mount namespace is the last one,
// because the paths of the others end with it.
func namespaces() []namespace {
	return []namespace{
		{"ipc", unix.CLONE_NEWIPC},       // the device mapper and udev share semaphores
		{"net", unix.CLONE_NEWNET},       // resolv.conf names resolvers of the host's network
		{"uts", unix.CLONE_NEWUTS},       // the name of the host
		{"cgroup", unix.CLONE_NEWCGROUP}, // limits are read by the path of the control group
		{"mnt", unix.CLONE_NEWNS},        // files and mounts
	}
}

// Enter moves this process to the host whose root folder the container sees at root: it
// executes the program again, with the same arguments, in the host's namespaces. There Enter
// returns nil at once, and "/" is the host's root folder. The process keeps its ID, the sockets
// that systemd has passed, and the connection to the service manager.
//
// Enter fails with Precondition if root is not the root folder of the host, and with Denied if
// the container is not privileged; the process has to end then. Call it before anything else.
func Enter(root string) error {
	if os.Getenv(enteredVariable) == strconv.Itoa(os.Getpid()) {
		return arrive()
	}
	if err := enter(root); err != nil {
		return fmt.Errorf("service the host from a container: %w", err)
	}
	return nil
}

// arrive completes Enter in the namespaces of the host. Files that tridentd makes are as
// private as with its unit (UMask=0077).
func arrive() error {
	unix.Umask(0o077)
	if n, ok := strings.CutPrefix(os.Getenv("NOTIFY_SOCKET"), "/proc/self/fd/"); ok {
		fd, err := strconv.Atoi(n)
		if err != nil {
			return fmt.Errorf("use the socket of the service manager: %w", err)
		}
		unix.CloseOnExec(fd)
	}
	return os.Unsetenv(enteredVariable)
}

func enter(root string) error {
	proc, err := firstProcess(root, "/proc/1")
	if err != nil {
		return err
	}
	if isOwn(proc) {
		return notTheHost("the folder %s is the root folder of the container", root)
	}
	joined, err := openNamespaces(proc)
	if err != nil {
		return err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open this program: %w", err)
	}
	defer self.Close() // so that it stays open until then
	env, err := environment()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a namespace belongs to a thread; the failed thread ends with its goroutine
	if err := join(joined); err != nil {
		return err
	}
	// The file descriptor, because the host does not have the path.
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", self.Fd()), os.Args, env)
	return fmt.Errorf("start this program in the namespaces of the host: %w", err)
}

// firstProcess returns the folder in a /proc that describes the first process of the host, and
// makes sure that root is the root folder of that process. It is in root, or, if the container
// shares the processes of the host, the folder shared.
func firstProcess(root, shared string) (string, error) {
	want, err := os.Stat(root)
	if errors.Is(err, fs.ErrNotExist) {
		return "", notTheHost("the container does not see the host's root folder at %s", root)
	}
	if err != nil {
		return "", fmt.Errorf("find the root folder of the host: %w", err)
	}
	for _, proc := range []string{filepath.Join(root, "proc/1"), shared} {
		switch got, err := os.Stat(filepath.Join(proc, "root")); {
		case errors.Is(err, fs.ErrPermission):
			return "", notPrivileged(fmt.Errorf("look at the first process of the host: %w", err))
		case err == nil && os.SameFile(want, got):
			return proc, nil
		}
	}
	return "", notTheHost("the folder %s is not the root folder of the host", root)
}

// isOwn reports whether a process has the mount namespace of this one.
func isOwn(proc string) bool {
	own, err := os.Stat("/proc/self/ns/mnt")
	other, otherErr := os.Stat(filepath.Join(proc, "ns/mnt"))
	return err == nil && otherErr == nil && os.SameFile(own, other)
}

func notTheHost(format string, root string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, format, root),
		"start the container with the option --volume /:"+HostRoot+":rslave; the option --root of tridentd names another folder")
}

// notPrivileged adds a kind and a hint to the error of a container that lacks rights.
func notPrivileged(err error) error {
	return errkind.WithHint(errkind.With(errkind.Denied, err), "start the container as root with the option --privileged")
}

// openNamespaces opens the namespaces of a process. The files stay open: the process is
// replaced, or ends.
func openNamespaces(proc string) ([]*os.File, error) {
	var files []*os.File
	for _, n := range namespaces() {
		f, err := os.Open(filepath.Join(proc, "ns", n.name))
		if errors.Is(err, fs.ErrPermission) {
			err = notPrivileged(err)
		}
		if err != nil {
			return nil, fmt.Errorf("open a namespace of the host: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// join has this thread join the namespaces; the files have the order of namespaces.
func join(files []*os.File) error {
	// Threads that share their root folder cannot change their mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("have a root folder for this thread: %w", err)
	}
	for i, n := range namespaces() {
		err := unix.Setns(int(files[i].Fd()), n.flag)
		if errors.Is(err, unix.EPERM) {
			err = notPrivileged(err)
		}
		if err != nil {
			return fmt.Errorf("join the %s namespace of the host: %w", n.name, err)
		}
	}
	return nil
}

// environment returns the variables for the program in the host's namespaces.
func environment() ([]string, error) {
	set := map[string]string{enteredVariable: strconv.Itoa(os.Getpid())}
	// Runtimes of containers announce the sockets to process 1, which is another one if the
	// container shares the host's processes.
	if os.Getenv("LISTEN_PID") == "1" {
		set["LISTEN_PID"] = strconv.Itoa(os.Getpid())
	}
	if name := os.Getenv("NOTIFY_SOCKET"); strings.HasPrefix(name, "/") {
		// The host does not have the path. The descriptor stays open in the new program.
		fd, err := unix.Open(name, unix.O_PATH, 0)
		if err != nil {
			return nil, fmt.Errorf("find the socket of the service manager, %s: %w", name, err)
		}
		set["NOTIFY_SOCKET"] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	var out []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if _, ok := set[name]; !ok && name != "container" { // tools of the host take it for their own
			out = append(out, v)
		}
	}
	for name, value := range set {
		out = append(out, name+"="+value)
	}
	return out, nil
}
