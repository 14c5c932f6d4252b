// Package run runs a tool of the host with a deadline and with bounded output; an error
// has the output of the tool.
//
// Trident prefers system calls, systemd and its own code to tools. It runs all tools with
// this package, so that a test can replace the host; only trident-rescue, which uses the
// standard library alone, runs its tools itself.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxOutput = 1 << 20         // bytes of standard output
	maxStderr = 64 << 10        // bytes of standard error that an error may have
	grace     = 2 * time.Second // until the pipes are closed, after the end of the process
)

// Runner runs a tool to its end and returns its standard output.
type Runner interface {
	Run(ctx context.Context, name string, args ...string) ([]byte, error)
}

// Host is the Runner that runs tools of this host.
type Host struct{}

// Run implements Runner. The tool has the umask 022, not that of this process, so that all
// users can read the files that it makes in an OS, such as the folders of systemctl.
func (Host) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return output(ctx, Command{Path: name, Args: args}, startOpen)
}

// A Finder is a Runner that knows whether the host has a tool.
type Finder interface {
	// Find returns an error of kind Precondition if there is no tool of that name.
	Find(name string) error
}

// Find implements Finder.
func (Host) Find(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return errkind.Errorf(errkind.Precondition, "find the tool %s: %w", name, err)
	}
	return nil
}

// startOpen starts a tool with the umask 022. Threads of a process share the umask, so the
// thread that starts the tool unshares it, and ends afterwards.
func startOpen(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0o022)
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// Func makes a function a Runner, for tests.
type Func func(ctx context.Context, name string, args ...string) ([]byte, error)

// Run implements Runner.
func (f Func) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return f(ctx, name, args...)
}

// Command is a tool to run. A Path without a slash is found in PATH. A nil Env is the
// environment of this process, an empty one is no environment.
type Command struct {
	Path  string
	Args  []string
	Env   []string
	Dir   string
	Stdin io.Reader
}

// ExitError says that a tool ran and failed.
type ExitError struct {
	Tool   string
	Status string // "exit status 1", "signal: killed"
	Output string // the end of its standard error or, if that is empty, its standard output
}

func (e *ExitError) Error() string {
	if e.Output == "" {
		return e.Tool + ": " + e.Status
	}
	return e.Tool + ": " + e.Status + ": " + e.Output
}

// Output runs c and returns its standard output. When ctx ends, Output kills the tool and
// all processes that it started. It fails with errkind.Precondition if the tool is not
// installed, and with errkind.TooLarge if the tool writes more than 1 MiB.
func Output(ctx context.Context, c Command) ([]byte, error) {
	return output(ctx, c, (*exec.Cmd).Start)
}

func output(ctx context.Context, c Command, start func(*exec.Cmd) error) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env, cmd.Dir, cmd.Stdin = c.Env, c.Dir, c.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	stdout, stderr := &head{max: maxOutput}, &tail{max: maxStderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr

	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: %w", c.Path, context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return nil, errkind.Errorf(errkind.Precondition, "run %s: %w", c.Path, err)
	case ok:
		said := stderr.buf.String()
		if said == "" {
			said = stdout.buf.String()
		}
		return nil, &ExitError{Tool: c.Path, Status: exit.ProcessState.String(), Output: strings.TrimSpace(said)}
	case err != nil:
		return nil, fmt.Errorf("run %s: %w", c.Path, err)
	case stdout.over:
		return nil, errkind.Errorf(errkind.TooLarge, "run %s: it wrote more than %d bytes", c.Path, maxOutput)
	}
	return stdout.buf.Bytes(), nil
}

// head keeps the first max bytes and drops the rest, so that the tool does not block on a
// full pipe. The buffer is not embedded, because its ReadFrom has no limit.
type head struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.max-h.buf.Len())
	h.over = h.over || n < len(p)
	h.buf.Write(p[:n])
	return len(p), nil
}

// tail keeps the last bytes, at least max/2 of them.
type tail struct {
	buf bytes.Buffer
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	all := len(p)
	p = p[max(0, len(p)-t.max/2):]
	if t.buf.Len()+len(p) > t.max {
		t.buf.Next(t.buf.Len() - t.max/2)
	}
	t.buf.Write(p)
	return all, nil
}
