package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"github.com/trident-project/trident/proto/errkind"
)

// sshConn is a connection over the standard input and output of an ssh process. The process
// ends with the connection, and the connection with the process.
type sshConn struct {
	cmd     *exec.Cmd
	target  sshTarget
	in, out *os.File
	remarks tail          // standard error of ssh
	ended   chan struct{} // closed when the process has ended
	exit    error         // of the process; read it after ended

	reading sync.Mutex // held by Read
	first   []byte     // bytes that Read has read and not returned
	fault   error      // of Read, for ever

	// answered: the far side has begun to speak HTTP/2.
	answered atomic.Bool
}

// settingsFrame is the size of the head of an HTTP/2 frame. The first frame of every server
// is SETTINGS (RFC 9113, 3.4 and 6.5).
const settingsFrame = 9

// isSettings reports whether head, of settingsFrame bytes, begins a SETTINGS frame.
func isSettings(head []byte) bool {
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	return length%6 == 0 && length <= 1<<14 && head[3] == 4 && head[4] == 0 && bytes.Equal(head[5:settingsFrame], make([]byte, 4))
}

// Read implements net.Conn. After the end of ssh its error says why ssh ended. If the far
// side prints text before the API, the error quotes that text.
func (c *sshConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.fault == nil && !c.answered.Load() {
		if err := c.readFirst(); err != nil {
			return 0, err
		}
	}
	switch {
	case c.fault != nil:
		return 0, c.fault
	case len(c.first) > 0:
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	n, err := c.in.Read(p)
	if n == 0 && err != nil {
		err = c.why(err)
	}
	return n, err
}

// readFirst reads until the far side has sent the head of a SETTINGS frame. The caller holds
// c.reading.
func (c *sshConn) readFirst() error {
	buf := make([]byte, 512)
	for len(c.first) < settingsFrame {
		n, err := c.in.Read(buf)
		c.first = append(c.first, buf[:n]...)
		if err != nil && len(c.first) < settingsFrame {
			return c.why(err)
		}
	}
	if !isSettings(c.first) {
		c.fault = c.banner()
		return c.fault
	}
	c.answered.Store(true)
	return nil
}

// banner returns the error for text before the API.
func (c *sshConn) banner() error {
	text := c.first[:min(len(c.first), maxBanner)]
	err := errkind.Errorf(errkind.Precondition, "the far side printed %q before the API", strings.ToValidUTF8(string(text), "?"))
	return errkind.WithHint(err, "Have the shell there print nothing in sessions without a terminal (.bashrc, a forced command): ssh -T %s true", c.target.destination)
}

// why returns the reason of a failed read: err, unless ssh has ended. The caller holds
// c.reading.
func (c *sshConn) why(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	select {
	case <-c.ended:
	case <-time.After(exitTime):
		return err
	}
	answered := c.answered.Load()
	failed, isExit := errors.AsType[*exec.ExitError](c.exit)
	switch {
	case answered && c.exit == nil:
		return err
	case !answered && len(c.first) > 0:
		err = c.banner()
	case isExit:
		err = c.explain(failed.ExitCode())
	default:
		err = c.unreached("ssh ended before the daemon answered", errkind.Unavailable, "")
	}
	c.fault = err
	return err
}

// explain returns the error for the exit code of ssh, which is 255 for errors of ssh itself
// (ssh(1), EXIT STATUS), and else that of the remote command.
func (c *sshConn) explain(code int) error {
	said := c.remarks.String()
	has := func(text string) bool { return strings.Contains(said, text) }
	to := c.target.destination
	switch {
	case code == 255 && has("REMOTE HOST IDENTIFICATION HAS CHANGED"):
		return c.unreached("the key of the host has changed", errkind.Untrusted,
			"Somebody may be between you and the host. Compare the keys. If the host has a new one: ssh-keygen -R "+to[strings.LastIndex(to, "@")+1:])
	case code == 255 && has("Host key verification failed"):
		return c.unreached("ssh does not know the key of the host", errkind.Untrusted, "Compare the key with that of the host and accept it: ssh "+to)
	case code == 255 && has("Permission denied"), code == 255 && has("Too many authentication failures"):
		return c.unreached("the host refuses the login", errkind.Denied, "The client asks for no password: load a key into the agent, or name one in ~/.ssh/config. Try: ssh "+to)
	case code == 255:
		return c.unreached("ssh failed", errkind.Unavailable, "Try: ssh "+to)
	case code == 127:
		return c.unreached("the host has no such command", errkind.Precondition, "Install Trident there, or name its path: see WithRemoteCommand.")
	case has("sudo: "):
		return c.unreached("sudo refuses the command", errkind.Denied, "Allow the user to run it without a password (sudoers, NOPASSWD).")
	case has("unknown command"), has("is not a command of"):
		return c.unreached("the Trident there has no dial-stdio", errkind.Precondition, "Upgrade Trident on this host, or forward the socket by ssh -L.")
	case has("permission denied"):
		return c.unreached("the user may not use the socket", errkind.Denied, "Only root may use it: connect as root, or through sudo: see WithRemoteCommand.")
	}
	return c.unreached(fmt.Sprintf("the remote command ended with exit code %d", code), errkind.Unavailable, "Try: ssh "+to+" trident version")
}

// unreached is the error of a connection that ssh did not make: what, and what ssh said.
func (c *sshConn) unreached(what string, kind errkind.Kind, hint string) error {
	text := what
	if said := c.remarks.String(); said != "" {
		text += ": " + said
	}
	err := errkind.With(kind, &sshError{text})
	if hint != "" {
		err = errkind.WithHint(err, "%s", hint)
	}
	return err
}

// sshError is why ssh, or the command that it ran, ended.
type sshError struct{ text string }

func (e *sshError) Error() string { return e.text }

// Write implements net.Conn.
func (c *sshConn) Write(p []byte) (int, error) { return c.out.Write(p) }

// Close implements net.Conn. It ends ssh, also if the far side does not answer, and does not
// wait for that.
func (c *sshConn) Close() error {
	err := errors.Join(c.out.Close(), c.in.Close())
	if c.cmd.Process.Signal(syscall.SIGTERM) != nil { // it has ended, or this system has no such signal
		_ = c.cmd.Process.Kill()
	}
	time.AfterFunc(exitTime, func() { _ = c.cmd.Process.Kill() }) // it fails once ssh has ended
	return err
}

// LocalAddr implements net.Conn.
func (c *sshConn) LocalAddr() net.Addr { return sshAddr("ssh") }

// RemoteAddr implements net.Conn.
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr(c.target.destination) }

// SetDeadline implements net.Conn.
func (c *sshConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *sshConn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *sshConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

type sshAddr string

func (sshAddr) Network() string { return "ssh" }

func (a sshAddr) String() string { return string(a) }

// tail is a writer that keeps the last maxRemarks bytes. Several goroutines may use it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[max(0, len(p)-maxRemarks):]...)
	t.text = t.text[max(0, len(t.text)-maxRemarks):]
	return len(p), nil
}

// String returns the text as one line, without characters that a terminal acts on.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(strings.ToValidUTF8(string(t.text), "?")) {
		line = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, line)
		if line = strings.Trim(line, " @"); line != "" { // ssh frames its warnings with @
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
