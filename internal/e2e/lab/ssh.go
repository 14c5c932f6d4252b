package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// ExitError is the failure of a command that ran in the guest.
type ExitError struct {
	Command string
	Code    int // -1 when it was killed by a signal
	Stderr  string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("guest command %q exited with %d: %s", e.Command, e.Code, tail(e.Stderr, 20))
}

// outputLimit is how many bytes of the output of a command Run returns.
const outputLimit = 8 << 20

// client returns the connection into the running guest. It makes a connection when there is
// none or when the last one has broken.
func (vm *VM) client(ctx context.Context) (*ssh.Client, error) {
	vm.dialing.Lock()
	defer vm.dialing.Unlock()
	vm.mu.Lock()
	c, p := vm.ssh, vm.proc
	vm.mu.Unlock()
	if c != nil {
		return c, nil
	}
	if p == nil {
		return nil, errors.New("reach the guest: it is switched off")
	}
	config, err := vm.sshConfig()
	if err != nil {
		return nil, err
	}
	for {
		c, err := dialSSH(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), config)
		if err == nil {
			return vm.keep(c, p)
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("reach the guest: %w", ErrOff)
		default:
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return nil, fmt.Errorf("reach the guest: %w", err)
		}
	}
}

// keep makes c the connection into the guest if p still runs the guest.
func (vm *VM) keep(c *ssh.Client, p *process) (*ssh.Client, error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.proc != p {
		_ = c.Close()
		return nil, errors.New("reach the guest: it was switched off")
	}
	vm.ssh = c
	go vm.forget(c)
	return c, nil
}

// forget drops a connection when it has broken, so that the next use dials.
func (vm *VM) forget(c *ssh.Client) {
	_ = c.Wait()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.ssh == c {
		vm.ssh = nil
	}
}

func (vm *VM) sshConfig() (*ssh.ClientConfig, error) {
	private, err := os.ReadFile(vm.base.path(clientKey))
	if err != nil {
		return nil, fmt.Errorf("read the key for guests: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("read the key for guests: %w", err)
	}
	public, err := os.ReadFile(vm.base.path(hostKey))
	if err != nil {
		return nil, fmt.Errorf("read the guests' host key: %w", err)
	}
	known, _, _, _, err := ssh.ParseAuthorizedKey(public)
	if err != nil {
		return nil, fmt.Errorf("read the guests' host key: %w", err)
	}
	return &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(known),
		// The cheapest for an emulated processor; the connection never leaves this machine.
		Config: ssh.Config{KeyExchanges: []string{ssh.KeyExchangeCurve25519}, Ciphers: []string{ssh.CipherAES128GCM}},
	}, nil
}

// dialSSH makes one attempt of at most ten seconds. QEMU accepts at once,
// whether or not anything listens in the guest.
func dialSSH(ctx context.Context, addr string, config *ssh.ClientConfig) (*ssh.Client, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}

// Run runs a shell command as root in the guest and returns its standard output, also after
// a failure. stdin may be nil. When the context ends first, the command continues.
func (vm *VM) Run(ctx context.Context, command string, stdin io.Reader) (string, error) {
	c, err := vm.client(ctx)
	if err != nil {
		return "", err
	}
	s, err := c.NewSession()
	if err != nil {
		return "", fmt.Errorf("run %q in the guest: %w", command, err)
	}
	defer func() { _ = s.Close() }()
	stdout, stderr := &limited{max: outputLimit}, &limited{max: outputLimit}
	s.Stdin, s.Stdout, s.Stderr = stdin, stdout, stderr
	done := make(chan error, 1)
	go func() { done <- s.Run(command) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return "", fmt.Errorf("run %q in the guest: %w", command, context.Cause(ctx))
	}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		code := exit.ExitStatus()
		if exit.Signal() != "" {
			code = -1
		}
		err = &ExitError{Command: command, Code: code, Stderr: stderr.String()}
	} else if err != nil {
		err = fmt.Errorf("run %q in the guest: %w", command, err)
	}
	return stdout.String(), err
}

// limited keeps the first max bytes.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, l.max-l.Len()))])
	return len(p), nil
}

// Put writes a file in the guest, whole or not at all, and makes its folders.
func (vm *VM) Put(ctx context.Context, path string, content io.Reader, mode fs.FileMode) error {
	q := quote(path)
	script := fmt.Sprintf("mkdir -p \"$(dirname %s)\" && cat >%s.part && chmod %o %s.part && mv %s.part %s", q, q, mode.Perm(), q, q, q)
	if _, err := vm.Run(ctx, script, content); err != nil {
		return fmt.Errorf("put %s into the guest: %w", path, err)
	}
	return nil
}

func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// DialUnix connects to a unix socket in the guest.
func (vm *VM) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	return vm.dial(ctx, "unix", path)
}

func (vm *VM) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := vm.client(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s in the guest: %w", address, err)
	}
	return conn, nil
}

// Listen accepts connections to a TCP address in the guest, so that a server in this process
// answers them. It ends when the guest is switched off.
func (vm *VM) Listen(ctx context.Context, addr string) (net.Listener, error) {
	c, err := vm.client(ctx)
	if err != nil {
		return nil, err
	}
	l, err := c.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s in the guest: %w", addr, err)
	}
	return l, nil
}

// Forward returns the path of a socket on this machine that leads to a socket in the guest,
// also after the guest has been switched off and on.
func (vm *VM) Forward(guestSocket string) (string, error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.forward("unix", vm.path(fmt.Sprintf("fwd%d", len(vm.closers))), guestSocket)
}

// ForwardTCP is Forward for a TCP address in the guest. It returns an address of this machine.
func (vm *VM) ForwardTCP(guestAddress string) (string, error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.forward("tcp", "127.0.0.1:0", guestAddress)
}

// forward joins each connection to address on this machine with one to inside in the guest, and
// returns address with the port that it has got.
func (vm *VM) forward(network, address, inside string) (string, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return "", fmt.Errorf("forward %s of the guest: %w", inside, err)
	}
	vm.closers = append(vm.closers, l)
	go func() {
		for {
			outside, err := l.Accept()
			if err != nil {
				return
			}
			go vm.join(outside, network, inside)
		}
	}()
	return l.Addr().String(), nil
}

func (vm *VM) join(outside net.Conn, network, address string) {
	defer func() { _ = outside.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	inside, err := vm.dial(ctx, network, address)
	cancel()
	if err != nil {
		return
	}
	defer func() { _ = inside.Close() }()
	done := make(chan struct{}, 2)
	copyHalf := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go copyHalf(inside, outside)
	go copyHalf(outside, inside)
	<-done
	<-done
}

// WaitBoot waits until systemd has started all units. Its error lists the failed units.
func (vm *VM) WaitBoot(ctx context.Context) error {
	state, err := vm.Run(ctx, "systemctl is-system-running --wait", nil)
	if err == nil {
		return nil
	}
	failed, listErr := vm.Run(ctx, "systemctl --failed --no-legend --plain", nil)
	return fmt.Errorf("wait for the guest's boot: it is %s: %s: %w", strings.TrimSpace(state), strings.TrimSpace(failed), errors.Join(err, listErr))
}

// Journal returns the end of the journal of a unit over all boots, or of the whole journal
// when unit is empty.
func (vm *VM) Journal(ctx context.Context, unit string) (string, error) {
	command := "journalctl --no-pager -o short-monotonic -n 150"
	if unit != "" {
		command += " -u " + quote(unit)
	}
	return vm.Run(ctx, command, nil)
}

// Evidence returns the ends of the console and of the journal, as far as the guest can be
// reached, for the log of a failed scenario.
func (vm *VM) Evidence(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	journal, err := vm.Journal(ctx, "")
	if err != nil {
		journal = err.Error()
	}
	return "--- console\n" + vm.Console() + "\n--- journal\n" + journal
}
