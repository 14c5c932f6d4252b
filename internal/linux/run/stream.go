package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/trident-project/trident/internal/errkind"
)

// A Streamer starts a tool whose output has no bound.
type Streamer interface {
	// Stream starts a tool and returns its standard output. The tool waits while nobody
	// reads. At the end of the output, a read returns io.EOF if the tool succeeded, else the
	// error that Run returns. Close kills the tool and all processes that it started, and
	// waits for its end; it must be called. The end of ctx does the same as Close.
	Stream(ctx context.Context, name string, args ...string) (io.ReadCloser, error)
}

// Stream implements Streamer.
func (Host) Stream(ctx context.Context, name string, args ...string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	s := &stream{tool: name, ctx: ctx, cancel: cancel, stderr: &tail{max: maxStderr}}
	cmd.Stderr = s.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		if errors.Is(err, exec.ErrNotFound) {
			return nil, errkind.Errorf(errkind.Precondition, "run %s: %w", name, err)
		}
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	s.out, s.wait = out, sync.OnceValue(cmd.Wait)
	return s, nil
}

type stream struct {
	tool   string
	ctx    context.Context
	cancel context.CancelFunc
	out    io.Reader
	stderr *tail
	wait   func() error
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	err = s.wait()
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case s.ctx.Err() != nil:
		return 0, fmt.Errorf("run %s: %w", s.tool, context.Cause(s.ctx))
	case ok:
		return 0, &ExitError{Tool: s.tool, Status: exit.ProcessState.String(), Output: strings.TrimSpace(s.stderr.buf.String())}
	case err != nil:
		return 0, fmt.Errorf("run %s: %w", s.tool, err)
	}
	return 0, io.EOF
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.cancel()
	_ = s.wait() // it was killed, or a read has returned its error
	return nil
}
