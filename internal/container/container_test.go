package container

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

// The test binary is the entering program when its first argument says so: it enters the host
// at the second argument, and prints its namespaces or the error.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "enter" {
		os.Exit(enterAndPrint(os.Args[2]))
	}
	os.Exit(m.Run())
}

func enterAndPrint(root string) int {
	if err := Enter(root); err != nil {
		os.Stdout.WriteString(string(errkind.Of(err)) + ": " + err.Error() + "\n" + errkind.Hint(err))
		return 1
	}
	for _, n := range namespaces() {
		link, err := os.Readlink("/proc/self/ns/" + n.name)
		if err != nil {
			link = err.Error()
		}
		os.Stdout.WriteString(link + "\n")
	}
	os.Stdout.WriteString(strings.Join(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return !strings.HasPrefix(v, "container=") && !strings.HasPrefix(v, enteredVariable)
	}), "\n"))
	return 0
}

func TestTheVariableWithAnyValueMarksAContainer(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "dockerenv")
	for _, value := range []string{"true", "0", ""} {
		t.Setenv(Variable, value)
		if got, err := detect(mark); !got || err != nil {
			t.Errorf("%s=%q: %v, %v", Variable, value, got, err)
		}
	}
	if err := os.Unsetenv(Variable); err != nil { // Setenv restores it
		t.Fatal(err)
	}
	if got, err := detect(mark); got || err != nil {
		t.Errorf("without the variable and the mark: %v, %v", got, err)
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := detect(mark)
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(errkind.Hint(err), Variable) {
		t.Errorf("a container of Docker without the variable: %v", err)
	}
	if _, err := detect(filepath.Join(mark, "below a file")); err == nil {
		t.Error("a mark that cannot be looked at is not an error")
	}
}

func TestTheReasonSaysWhatToDo(t *testing.T) {
	err := Fixed()
	if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), "runs in a container") || !strings.Contains(errkind.Hint(err), "pull a new image") {
		t.Errorf("%v; %s", err, errkind.Hint(err))
	}
}

// withProcess makes a folder like the root folder of a host, whose first process has another
// root folder.
func withProcess(t *testing.T, processRoot string) string {
	t.Helper()
	root := t.TempDir()
	if processRoot == "" {
		processRoot = root
	}
	if err := os.MkdirAll(filepath.Join(root, "proc/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(processRoot, filepath.Join(root, "proc/1/root")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestOnlyTheRootFolderOfTheFirstProcessIsTheHost(t *testing.T) {
	host := withProcess(t, "")
	if proc, err := firstProcess(host, "/missing"); err != nil || proc != host+"/proc/1" {
		t.Errorf("%q, %v", proc, err)
	}
	// The container shares the processes of the host, and does not see its /proc.
	bare := t.TempDir()
	shared := filepath.Join(withProcess(t, bare), "proc/1")
	if proc, err := firstProcess(bare, shared); err != nil || proc != shared {
		t.Errorf("%q, %v", proc, err)
	}
	for root, want := range map[string]string{
		filepath.Join(bare, "missing"): "does not see the host's root folder",
		bare:                           "is not the root folder of the host",
		withProcess(t, host):           "is not the root folder of the host",
	} {
		_, err := firstProcess(root, filepath.Join(host, "proc/1"))
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), root) ||
			!strings.Contains(errkind.Hint(err), "--volume /:/host:rslave") {
			t.Errorf("%s: %v; %s", root, err, errkind.Hint(err))
		}
	}
	file := filepath.Join(bare, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := firstProcess(filepath.Join(file, "host"), "/missing"); err == nil || errkind.Of(err) != errkind.Internal {
		t.Errorf("a path below a file: %v", err)
	}
	if _, err := openNamespaces(host + "/proc/1"); err == nil {
		t.Error("a process without namespaces is the host")
	}
}

func TestTheContainerItselfIsNotTheHost(t *testing.T) {
	if !isOwn("/proc/self") || isOwn(withProcess(t, "")) {
		t.Error("the process is not known as its own")
	}
}

// A user without rights gets an error that says so, whichever right is missing first.
func TestAContainerWithoutRightsIsRefused(t *testing.T) {
	self := os.Args[0]
	cmd := exec.Command(self, "enter", "/")
	if os.Geteuid() == 0 {
		// The user nobody needs a copy of the program in a folder that it can open.
		dir, err := os.MkdirTemp("/tmp", "trident-container-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		data, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, "program")
		for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(copied, data, 0o755), os.Chmod(copied, 0o755)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		cmd = exec.Command(copied, "enter", "/")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	}
	out, err := cmd.Output()
	if err == nil || !strings.HasPrefix(string(out), "DENIED: service the host from a container: ") || !strings.Contains(string(out), "--privileged") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTheProgramOnTheHostHasTheSocketsOfItsServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("container", "podman")
	env, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(os.Getpid())
	for _, want := range []string{"LISTEN_PID=" + pid, enteredVariable + "=" + pid} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	var notify string
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "NOTIFY_SOCKET" && notify == "":
			notify = value
		case name == "NOTIFY_SOCKET", name == "container", v == "LISTEN_PID=1":
			t.Errorf("the program gets %q", v)
		}
	}
	// Renamed: only the descriptor leads to the socket, as in another mount namespace.
	if err := os.Rename(path, path+"-elsewhere"); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("READY=1")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	n, err := l.Read(got)
	if err != nil || string(got[:n]) != "READY=1" {
		t.Errorf("%q, %v", got[:n], err)
	}

	t.Setenv("NOTIFY_SOCKET", path) // does not exist any more
	if _, err := environment(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing socket of the service manager: %v", err)
	}
	t.Setenv("LISTEN_PID", "77")
	t.Setenv("NOTIFY_SOCKET", "@abstract")
	env, err = environment()
	if err != nil || !slices.Contains(env, "LISTEN_PID=77") || !slices.Contains(env, "NOTIFY_SOCKET=@abstract") {
		t.Errorf("%q, %v", env, err)
	}
}

func TestAProgramThatHasArrivedEntersNothing(t *testing.T) {
	t.Setenv(enteredVariable, strconv.Itoa(os.Getpid()))
	fd, err := syscall.Open("/", syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	t.Setenv("NOTIFY_SOCKET", "/proc/self/fd/"+strconv.Itoa(fd))
	old := syscall.Umask(0o022)
	err = Enter("/missing")
	if got := syscall.Umask(old); got != 0o077 {
		t.Errorf("files that tridentd makes have the umask %o", got)
	}
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := os.LookupEnv(enteredVariable); ok {
		t.Errorf("tools would get %s=%s", enteredVariable, v)
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
		t.Errorf("tools would get the socket of the service manager: %d, %v", flags, errno)
	}
	t.Setenv(enteredVariable, strconv.Itoa(os.Getpid()))
	t.Setenv("NOTIFY_SOCKET", "/proc/self/fd/x")
	if err := Enter("/missing"); err == nil {
		t.Error("a wrong descriptor is not an error")
	}
	t.Setenv(enteredVariable, "1") // of another process
	if err := Enter("/missing"); errkind.Of(err) != errkind.Precondition || !strings.HasPrefix(err.Error(), "service the host from a container: ") {
		t.Errorf("the variable of another process counts: %v", err)
	}
}
