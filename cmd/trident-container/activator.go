package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// An activator starts tridentd whenever a client has connected and no tridentd runs. Make one
// with listen.
type activator struct {
	command []string
	socket  *os.File
	stop    *os.File // closed: start no other tridentd
	stopped *os.File // the end of the pipe that shows it
	failed  chan struct{}
	done    chan struct{} // closed when no tridentd runs, and none will be started
	started chan *os.Process
	// stopAtEnd has settle stop tridentd even if an operation is pending.
	stopAtEnd bool
}

// listen makes the socket at path, which only this user can reach through its folder, and an
// activator of command for it.
func listen(path string, command []string) (*activator, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the socket: %w", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	socket, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("make the socket: %w", err)
	}
	stopped, stop, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), socket.Close())
	}
	a := &activator{
		command: command, socket: socket, stop: stop, stopped: stopped,
		failed: make(chan struct{}), done: make(chan struct{}), started: make(chan *os.Process, 1),
	}
	go a.serve()
	return a, nil
}

// serve runs one tridentd after the other until one fails or stop is closed.
func (a *activator) serve() {
	defer close(a.done)
	for {
		connected, err := a.wait()
		if err == nil && !connected {
			return
		}
		if err == nil {
			err = a.runOnce()
		}
		if err != nil {
			if _, said := errors.AsType[*exec.ExitError](err); !said {
				failed(fmt.Errorf("run tridentd: %w", err))
			}
			close(a.failed)
			return
		}
	}
}

// wait waits for a connection that nobody has accepted, or for the end of the activator.
func (a *activator) wait() (connected bool, err error) {
	fds := []unix.PollFd{{Fd: int32(a.stopped.Fd()), Events: unix.POLLIN}, {Fd: int32(a.socket.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("wait for a client: %w", err)
		default:
			return fds[0].Revents == 0, nil
		}
	}
}

// runOnce runs tridentd to its end.
func (a *activator) runOnce() error {
	c := command(a.command[0], a.command[1:])
	// 1 is what the runtimes of containers announce, too: tridentd takes it for itself.
	c.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=tridentd.socket")
	c.ExtraFiles = []*os.File{a.socket}
	c.Stdin, c.Stdout = nil, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the terminal is for the client
	if err := c.Start(); err != nil {
		return err
	}
	a.started <- c.Process
	err := c.Wait()
	<-a.started
	return err
}

// settle waits until tridentd has ended, which it does when no operation is pending, or stops
// it: when a signal arrives, or if stopAtEnd is set. It returns code, or exitSetup if the
// client succeeded and tridentd failed.
func (a *activator) settle(code int, signals <-chan os.Signal) int {
	_ = a.stop.Close()
	if a.stopAtEnd {
		a.terminate()
	}
	for {
		select {
		case <-signals:
			a.terminate()
		case <-a.done:
			select {
			case <-a.failed:
				if code == 0 {
					code = exitSetup
				}
			default:
			}
			return code
		}
	}
}

// terminate asks a running tridentd to stop.
func (a *activator) terminate() {
	select {
	case p := <-a.started:
		_ = p.Signal(unix.SIGTERM) // fails if the process has ended
		a.started <- p
	default:
	}
}

// close frees the socket.
func (a *activator) close() {
	for _, f := range []*os.File{a.stop, a.stopped, a.socket} {
		_ = f.Close()
	}
}

// command returns a command with the input and the output of this process.
func command(name string, args []string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c
}

// codeOf returns the exit code of a process as a shell does.
func codeOf(err error) int {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0
	case !ok:
		return failed(fmt.Errorf("run trident: %w", err))
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
