//go:build outside

// The outside ring: the programs as they are built, and around them what was not made
// for Trident: servers, proxies, builders of images, terminals and hosts of every
// kind. What a server is configured with beyond its distribution's default is what
// docs/ tells people to write, or the hindrance that a test is about.
package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
)

// The versions of the outside ring: of the programs, and of the image that is offered
// to them.
const outsideVersion, outsideNext = "1.0.0", "2.0.0"

// programs are trident and tridentd, an image of the version after theirs, and the
// certificate that vouches for that image.
type programs struct{ trident, tridentd, image, cert string }

// buildPrograms builds them once for all tests, anew in every run, in dist.
var buildPrograms = sync.OnceValues(func() (p programs, err error) {
	dir, err := filepath.Abs(filepath.Join(root, "dist/test-outside"))
	if err != nil {
		return p, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return p, err
	}
	flags := "-s -w -X github.com/trident-project/trident/internal/version.current=" + outsideVersion
	if _, err := output(&root, []string{"CGO_ENABLED=0"}, "go", "build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false",
		"-ldflags", flags, "-o", dir+"/", "./cmd/..."); err != nil {
		return p, err
	}
	// Under the umask that some sites prescribe: an image is the same by any.
	image, err := output(&root, nil, "sh", "-c", "umask 027 && packaging/sysext "+outsideNext+" "+runtime.GOARCH)
	if err != nil {
		return p, err
	}
	keys, err := output(&root, nil, "packaging/keys")
	if err != nil {
		return p, err
	}
	cert, _, _ := strings.Cut(keys, "\n")
	p = programs{
		trident: filepath.Join(dir, "trident"), tridentd: filepath.Join(dir, "tridentd"),
		image: filepath.Join(dir, "trident.raw"), cert: filepath.Join(dir, "trident.crt"),
	}
	for from, to := range map[string]string{strings.TrimSpace(image): p.image, cert: p.cert} {
		if _, err := output(&root, nil, "cp", "--remove-destination", from, to); err != nil {
			return p, err
		}
	}
	return p, nil
})

// An osImage is an image of an operating system, with the hash of its metadata.
type osImage struct{ path, sha384 string }

// buildOSImage makes a small one once for all tests, as docs/images.md says. Its kernel
// is none: nothing here boots it.
var buildOSImage = sync.OnceValues(func() (image osImage, err error) {
	p, err := buildPrograms()
	if err != nil {
		return image, err
	}
	dir, err := os.MkdirTemp("", "osimage-")
	if err != nil {
		return image, err
	}
	defer os.RemoveAll(dir)
	for name, file := range boottest.ESP(boot.AMD64, "6.12") {
		to := filepath.Join(dir, "esp", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, file.Data, 0o644)); err != nil {
			return image, err
		}
	}
	noise := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	for name, text := range map[string]string{
		"root/usr/lib/os-release":    "ID=debian\nVERSION_ID=13\nNAME=Debian\nPRETTY_NAME=\"Debian 13\"\n",
		"root/usr/share/noise":       string(noise),
		"root/var/lib/dpkg/status":   "Package: systemd\nStatus: install ok installed\nVersion: 257.9-1\nArchitecture: amd64\n\n",
		"root/etc/trident/.keep":     "",
		"root/usr/local/bin/.folder": "",
	} {
		to := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text), 0o644)); err != nil {
			return image, err
		}
	}
	image.path = filepath.Join(filepath.Dir(p.trident), "debian.cosi")
	made, err := output(&dir, nil, "sh", "-c", `set -e
truncate -s 40M esp.vfat
mkfs.vfat esp.vfat >&2
mcopy -s -i esp.vfat esp/EFI ::
truncate -s 64M root.ext4
mkfs.ext4 -q -d root root.ext4 >&2
rm -f "$2"
"$1" image build "$2" --arch x86_64 --os-release root/usr/lib/os-release --packages root/var/lib/dpkg/status \
	--partition name=esp,type=esp,file=esp.vfat,mount=/boot/efi --partition name=root,type=root,file=root.ext4,mount=/ --output json
`, "sh", p.trident, image.path)
	if err != nil {
		return image, err
	}
	var said struct{ SHA384 string }
	err = json.Unmarshal([]byte(made), &said)
	image.sha384 = said.SHA384
	return image, err
})

func anOSImage(t *testing.T) osImage {
	t.Helper()
	image, err := buildOSImage()
	if err != nil {
		t.Fatalf("build an image of an operating system: %v", err)
	}
	return image
}

func built(t *testing.T) programs {
	t.Helper()
	p, err := buildPrograms()
	if err != nil {
		t.Fatalf("build the programs: %v", err)
	}
	return p
}

// A result is what a program did that has ended.
type result struct {
	code        int
	out, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", r.code, r.out, r.stderr)
}

// complaint returns what a command said last: its error, with the hint.
func (r result) complaint() string {
	i := strings.LastIndex(r.stderr, "\ntrident: ")
	return strings.TrimSpace(r.stderr[i+1:])
}

// runCommand runs a program to its end, five minutes at most.
func runCommand(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatalf("%v: %v", cmd.Args, err)
		}
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// A network is a network namespace with nothing but loopback, and a mount namespace in
// which /etc, /run, /var/log, /var/www, /var/lib and /var/cache can be changed. Servers
// that listen on every address listen for the test alone. All programs in it end with
// this process, however that ends: the first one in their PID namespace reads from it.
type network struct {
	t   *testing.T
	pid int // of the first program
}

const networkScript = `set -e
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs "$1"
for name in etc var/lib; do
	mkdir -p "$1/$name/upper" "$1/$name/work"
	mount -t overlay -o "lowerdir=/$name,upperdir=$1/$name/upper,workdir=$1/$name/work" overlay "/$name"
done
for name in run var/log var/www var/cache; do
	mkdir -p "/$name"
	mount -t tmpfs -o mode=755 tmpfs "/$name"
done
mkdir -p /var/www/html
echo ready
exec cat
`

// newNetwork makes a network in which hosts are names of 127.0.0.1.
func newNetwork(t *testing.T, hosts ...string) *network {
	t.Helper()
	holder := exec.Command("unshare", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", networkScript, "sh", t.TempDir())
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	end, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	holder.Stderr = &stderr
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = end.Close(), holder.Wait() })
	if line := make([]byte, 6); true {
		if _, err := io.ReadFull(out, line); err != nil {
			_ = holder.Wait()
			t.Fatalf("make a network: %v: %s", err, stderr.String())
		}
	}
	n := &network{t, childOf(t, holder.Process.Pid)}
	n.write("/etc/hosts", "127.0.0.1 localhost "+strings.Join(hosts, " ")+"\n")
	return n
}

// childOf returns the one child of a process.
func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &child)
	}
	if err != nil {
		t.Fatalf("children of process %d: %q, %v", pid, text, err)
	}
	return child
}

// command prepares a program in the network.
func (n *network) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(n.pid), "-n", "-m", "-p", "--"}, args...)...)
}

// path returns where this process finds a file of the network.
func (n *network) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", n.pid, name) }

// write writes a file that everybody may read, and makes its folder. A link in its place
// is replaced: an absolute one leads to a file of this host when it is followed from here.
func (n *network) write(name, text string) {
	n.t.Helper()
	to := n.path(name)
	err := os.Remove(to)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text), 0o644)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) read(name string) string {
	n.t.Helper()
	text, err := os.ReadFile(n.path(name))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// sh runs a script in the network and returns what it says.
func (n *network) sh(script string) string {
	n.t.Helper()
	r := runCommand(n.t, n.command("sh", "-c", script))
	if r.code != 0 {
		n.t.Fatalf("%s: %s", script, r)
	}
	return strings.TrimSpace(r.out)
}

// within calls f on a thread that is in the network. A socket stays where it was made.
func (n *network) within(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (n *network) dial(address string) (conn net.Conn, err error) {
	err = n.within(func() error {
		conn, err = net.Dial("tcp", address)
		return err
	})
	return conn, err
}

func (n *network) listen(address string) net.Listener {
	n.t.Helper()
	var listener net.Listener
	if err := n.within(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// start starts a server in the network and returns once it listens at address. It ends
// with the test, or when the function that is returned has been called: by SIGKILL.
func (n *network) start(address string, args ...string) (kill func()) {
	n.t.Helper()
	cmd := n.command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	kill = sync.OnceFunc(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		<-ended
	})
	n.t.Cleanup(kill)
	for {
		conn, err := n.dial(address)
		if err == nil {
			_ = conn.Close()
			return kill
		}
		select {
		case <-ended:
			n.t.Fatalf("%v ended: %s", args, said.String())
		case <-n.t.Context().Done():
			n.t.Fatalf("%v does not listen at %s: %v", args, address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A host is a tridentd that services the host below a folder, in a network.
type host struct {
	*network
	programs
	dir, socket string
	log         *bytes.Buffer
}

// newHost starts tridentd, with more variables of the environment. The host trusts the
// image of [programs].
func newHost(n *network, env ...string) *host {
	n.t.Helper()
	dir, err := os.MkdirTemp("", "host-") // not so deep that a socket in there has too long a path
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{network: n, programs: built(n.t), dir: dir, log: new(bytes.Buffer)}
	h.socket = filepath.Join(h.dir, "s")
	for from, to := range map[string]string{"/etc/os-release": "usr/lib/os-release", h.cert: "etc/trident/trust.d/trident.crt"} {
		to = filepath.Join(h.dir, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			n.t.Fatal(err)
		}
		if _, err := output(nil, nil, "cp", "-L", from, to); err != nil {
			n.t.Fatal(err)
		}
	}
	h.startDaemon(env...)
	return h
}

// startDaemon starts tridentd and returns once it answers. It ends with the test.
func (h *host) startDaemon(env ...string) {
	t := h.t
	t.Helper()
	cmd := h.command(append(append([]string{"env"}, env...), h.tridentd, "--root", h.dir, "--socket", h.socket)...)
	cmd.Stderr = h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// nsenter, which waits for tridentd, does not pass signals on.
		if err := errors.Join(unix.Kill(childOf(t, cmd.Process.Pid), unix.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("tridentd: %v", err)
		}
		if t.Failed() {
			t.Log(h.log.String())
		}
	})
	for h.run("version").code != 0 {
		if t.Context().Err() != nil {
			t.Fatal("tridentd does not answer")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run runs trident against the host's tridentd.
func (h *host) run(args ...string) result {
	h.t.Helper()
	return runCommand(h.t, h.command(append([]string{h.trident, "--socket", h.socket}, args...)...))
}

// tool runs trident as a tool that needs no daemon, with variables of the environment.
func (n *network) tool(env []string, args ...string) result {
	n.t.Helper()
	return runCommand(n.t, n.command(append(append(append([]string{"env"}, env...), built(n.t).trident), args...)...))
}

// A door passes the connections to an address on, counts them, and can hold one in the
// middle.
type door struct {
	net.Listener
	mu    sync.Mutex
	conns int           // that came
	after int64         // bytes of answers after which the next connection is held
	held  chan struct{} // closed when it is
	open  chan struct{} // closed to let it go on
}

// newDoor lets whoever connects to its address in the network through to another.
func newDoor(n *network, to string) *door {
	d := &door{Listener: n.listen("127.0.0.1:0")}
	go func() {
		for {
			outside, err := d.Accept()
			if err != nil {
				return
			}
			go d.pass(n, outside, to)
		}
	}()
	return d
}

// hold has the next connection stop once that many bytes of its answer have passed, if it
// has so many. The channel is closed by then; calling the function lets the rest through.
func (d *door) hold(after int64) (held <-chan struct{}, release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after, d.held, d.open = after, make(chan struct{}), make(chan struct{})
	open := d.open
	return d.held, func() { close(open) }
}

// take ends hold for all connections but one.
func (d *door) take() (held, open chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held, open = d.held, d.open
	d.after, d.held, d.open = 0, nil, nil
	return held, open
}

// port returns ":" and the port that it listens on.
func (d *door) port() string { return fmt.Sprintf(":%d", d.Addr().(*net.TCPAddr).Port) }

// count returns how many connections have come since the last call.
func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.conns
	d.conns = 0
	return n
}

func (d *door) pass(n *network, outside net.Conn, to string) {
	d.mu.Lock()
	d.conns++
	after := d.after
	d.mu.Unlock()
	defer outside.Close()
	inside, err := n.dial(to)
	if err != nil {
		return
	}
	defer inside.Close()
	go func() {
		_, _ = io.Copy(inside, outside)
		_ = inside.(*net.TCPConn).CloseWrite()
	}()
	if after > 0 {
		if _, err := io.CopyN(outside, inside, after); err != nil {
			return
		}
		if held, open := d.take(); held != nil {
			close(held)
			<-open
		}
	}
	_, _ = io.Copy(outside, inside)
}
