package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options describe a guest. The zero value is the guest of most scenarios.
type Options struct {
	CPUs     int    // 1 unless set; more help little under emulation
	MemoryMB int    // 1024 unless set
	Share    string // a folder of this machine, copied to a read-only disk that the guest has at /share
	// UEFI gives the guest firmware (OVMF, without secure boot), whose variables
	// outlive reboots and power cuts.
	UEFI bool
	// SecureBoot gives the guest firmware that starts only programs that [Sign] has signed, and
	// signs the kernel of the live system. It needs UEFI.
	SecureBoot bool
	// Disks are the sizes in MB of empty disks: /dev/disk/by-id/virtio-disk0,
	// virtio-disk1 and so on. Image is a raw image of this machine, which the guest
	// gets a disk over: /dev/disk/by-id/virtio-image.
	Disks []int64
	Image string
	// TPM gives the guest a TPM 2.0 (swtpm), whose keys and counters outlive reboots and
	// power cuts. Its registers start again with each boot.
	TPM bool
}

func (o Options) filled() Options {
	o.CPUs = max(o.CPUs, 1)
	if o.MemoryMB == 0 {
		o.MemoryMB = 1024
	}
	return o
}

// How long a guest may take, on a busy machine without hardware virtualisation.
const (
	bootLimit = 4 * time.Minute
	loadLimit = time.Minute
)

// VM is a guest: a disk, and a QEMU process while it is switched on. Its
// methods may be called from several goroutines, those that switch it on and
// off from one at a time.
type VM struct {
	base *Base
	opts Options
	host *machine
	dir  string // disk, console log and sockets; gone after Close

	unplugged map[string]bool // disks, by serial number
	installed bool            // boots what is on its disks, and not the live system

	dialing sync.Mutex // held while the SSH connection is made; taken before mu
	mu      sync.Mutex // of what follows; never held while waiting
	proc    *process   // nil while switched off
	ssh     *ssh.Client
	closers []io.Closer
}

// process is one run of QEMU.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	qmp  *qmp
	port int // of this machine's loopback, the guest's SSH
	chip *chip
}

// Boot switches on a new guest with a new disk over the base image, and returns when the
// guest answers over SSH. Units may still be starting, see WaitBoot. The caller closes the
// guest.
func Boot(ctx context.Context, b *Base, opts Options) (*VM, error) {
	vm, err := New(ctx, b, opts)
	if err != nil {
		return nil, err
	}
	if err := vm.BootAgain(ctx); err != nil {
		return nil, errors.Join(err, vm.Close())
	}
	return vm, nil
}

// New makes a guest that is switched off, for example one with an image to boot. The caller
// closes the guest.
func New(ctx context.Context, b *Base, opts Options) (*VM, error) {
	vm, err := newVM(ctx, b, opts)
	if err != nil {
		return nil, err
	}
	if err := vm.makeDisks(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make a guest's disks: %w", err), vm.Close())
	}
	if opts.Share != "" {
		if err := makeShare(ctx, opts.Share, vm.path(shareDisk)); err != nil {
			return nil, errors.Join(fmt.Errorf("share %s with a guest: %w", opts.Share, err), vm.Close())
		}
	}
	return vm, nil
}

// newVM makes a guest without a process and disks.
func newVM(ctx context.Context, b *Base, opts Options) (*VM, error) {
	host, err := probe(ctx, b)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lab") // short: it holds unix sockets
	if err != nil {
		return nil, err
	}
	return &VM{base: b, opts: opts.filled(), host: host, dir: dir}, nil
}

func makeShare(ctx context.Context, folder, image string) error {
	var size int64
	err := filepath.Walk(folder, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			size += info.Size() + 8192
		}
		return err
	})
	if err != nil {
		return err
	}
	return makeExt4(ctx, folder, image, size+size/8+16<<20)
}

func (vm *VM) path(name string) string { return filepath.Join(vm.dir, name) }

// ErrOff is the error of a boot in which the guest went off or restarted before it answered,
// for example because its kernel panicked.
var ErrOff = errors.New("the guest went off")

// start starts QEMU and connects to its monitor.
func (vm *VM) start(ctx context.Context, more []string) error {
	_ = os.Remove(vm.path("qmp"))
	args := append(vm.args(), more...)
	p := &process{cmd: exec.Command(qemu, args...), done: make(chan struct{})}
	if vm.opts.TPM {
		var err error
		if p.chip, err = startChip(ctx, vm.path(chipFolder), vm.path(chipSocket)); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(vm.path("qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig counts the death of the starting thread: keep it until QEMU ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	err = vm.monitor(ctx, p)
	vm.mu.Lock()
	vm.proc = p
	vm.mu.Unlock()
	if err != nil {
		output, _ := os.ReadFile(vm.path("qemu.log"))
		return errors.Join(fmt.Errorf("%w: QEMU said: %s", err, tail(string(output), 10)), vm.PowerCut())
	}
	return nil
}

// running returns the process, nil while the guest is switched off.
func (vm *VM) running() *process {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.proc
}

func (vm *VM) args() []string {
	args := []string{
		"-M", vm.opts.machine(), "-m", strconv.Itoa(vm.opts.MemoryMB), "-smp", strconv.Itoa(vm.opts.CPUs),
		"-nodefaults", "-display", "none", "-no-reboot", "-no-user-config",
		"-chardev", "file,id=console,append=on,path=" + vm.path("console.log"), "-serial", "chardev:console",
		"-qmp", "unix:" + vm.path("qmp") + ",server=on,wait=off",
		"-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-rng-pci",
	}
	if vm.opts.UEFI {
		args = append(args, vm.opts.firmware().args(vm.path(variables))...)
	}
	if vm.opts.TPM {
		args = append(args, chipArgs(vm.path(chipSocket))...)
	}
	args = append(append(args, vm.diskArgs()...), vm.host.accel...)
	if vm.installed {
		return args
	}
	args = append(args, kernelArgs(vm.base, vm.opts.UEFI, "")...)
	if vm.opts.SecureBoot {
		args[slices.Index(args, "-kernel")+1] = vm.path(signedKernel)
	}
	return args
}

// monitor connects to QEMU, which makes its socket a moment after it starts,
// and asks which port it took for SSH.
func (vm *VM) monitor(ctx context.Context, p *process) error {
	for {
		q, err := dialQMP(ctx, vm.path("qmp"))
		if err == nil {
			p.qmp = q
			break
		}
		select {
		case <-p.done:
			return errors.New("QEMU ended at once")
		default:
		}
		if pause(ctx, pollPause) != nil {
			return err
		}
	}
	var text string
	err := p.qmp.do(ctx, "human-monitor-command", map[string]any{"command-line": "info usernet"}, &text)
	if err != nil {
		return err
	}
	p.port, err = forwardedPort(text)
	return err
}

// forwardedPort reads the monitor's table: protocol, descriptor, address and
// port outside, address and port inside.
func forwardedPort(table string) (int, error) {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 3 && strings.Contains(f[0], "HOST_FORWARD") {
			return strconv.Atoi(f[3])
		}
	}
	return 0, fmt.Errorf("find the forwarded port in %q", table)
}

// Close kills the guest and removes its disk.
func (vm *VM) Close() error {
	err := vm.PowerCut()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for _, c := range vm.closers {
		_ = c.Close()
	}
	vm.closers = nil
	return errors.Join(err, os.RemoveAll(vm.dir))
}

// Console returns the end of the output of the serial console.
func (vm *VM) Console() string {
	data, err := os.ReadFile(vm.path("console.log"))
	if err != nil {
		return ""
	}
	return tail(string(data), 40)
}
