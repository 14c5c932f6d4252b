package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/proto/errkind"
)

const (
	// maxRemarks is how much of ssh's standard error an error contains, in bytes: the end.
	maxRemarks = 2 << 10
	// maxBanner is how much text of a remote shell an error contains, in bytes.
	maxBanner = 120
	// exitTime is how long the client waits for the end of ssh after the end of its output.
	exitTime = 2 * time.Second
)

// WithSSH sets the program, and its first arguments, that connects to targets of the form
// ssh://. The default is ssh. The client adds the arguments of OpenSSH for a session without
// terminal and without questions, the port, the host, and the remote command.
func WithSSH(program ...string) Option {
	return func(c *Client) { c.ssh.program = slices.Clone(program) }
}

// WithRemoteCommand sets the command that targets of the form ssh:// run on the host. It has
// to connect its standard input and output to the socket of the daemon. The default is
// trident dial-stdio. The words reach the command unchanged.
func WithRemoteCommand(words ...string) Option {
	return func(c *Client) { c.ssh.remote = slices.Clone(words) }
}

// sshCommand is how targets of the form ssh:// are reached.
type sshCommand struct{ program, remote []string }

// sshTarget is a parsed target of the form ssh://[user@]host[:port].
type sshTarget struct{ destination, port string }

// parseSSH parses a target. It accepts only characters that neither ssh nor a shell in a
// ProxyCommand of ssh_config(5) interprets, and no name that ssh could take for an option.
func parseSSH(target string) (t sshTarget, err error) {
	invalid := func(format string, args ...any) error {
		err := errkind.Errorf(errkind.Invalid, "connect to tridentd at %s: %s", redacted(target), fmt.Sprintf(format, args...))
		return errkind.WithHint(err, "An SSH target is ssh://[user@]host[:port].")
	}
	u, err := url.Parse(target)
	if err != nil {
		return t, invalid("it is not a URL")
	}
	host, user := u.Hostname(), u.User.Username()
	_, hasPassword := u.User.Password()
	switch {
	case hasPassword:
		return t, invalid("a password in a target is not supported: use a key")
	case host == "":
		return t, invalid("the host is missing")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return t, invalid("something follows the host")
	case u.User != nil && user == "":
		return t, invalid("the user is empty")
	case !isPlainName(host, "._-:%"):
		return t, invalid("%q is not the name of a host", host)
	case user != "" && !isPlainName(user, "._-+@"):
		return t, invalid("%q is not the name of a user", user)
	}
	if t.port = u.Port(); t.port != "" {
		if n, err := strconv.ParseUint(t.port, 10, 16); err != nil || n == 0 {
			return t, invalid("the port is not a number from 1 to 65535")
		}
	}
	if t.destination = host; user != "" {
		t.destination = user + "@" + host
	}
	return t, nil
}

// redacted returns a target without its password.
func redacted(target string) string {
	scheme, rest, ok := strings.Cut(target, "://")
	at := strings.LastIndex(rest, "@")
	if user, _, secret := strings.Cut(rest[:max(at, 0)], ":"); ok && secret {
		return scheme + "://" + user + ":***" + rest[at:]
	}
	return target
}

// isPlainName reports whether a name has only ASCII letters, digits and the characters of
// more, and begins with a letter, a digit, ":" or "_".
func isPlainName(name, more string) bool {
	for i, r := range name {
		isWord := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !isWord && (!strings.ContainsRune(more, r) || i == 0 && r != ':' && r != '_') {
			return false
		}
	}
	return name != ""
}

// arguments returns the whole command line.
func (s sshCommand) arguments(t sshTarget) []string {
	args := slices.Clone(s.program)
	if len(args) == 0 {
		args = []string{"ssh"}
	}
	args = append(args, "-T", "-o", "BatchMode=yes")
	if t.port != "" {
		args = append(args, "-p", t.port)
	}
	args = append(args, "--", t.destination)
	remote := s.remote
	if len(remote) == 0 {
		remote = []string{"trident", "dial-stdio"}
	}
	for _, word := range remote { // ssh joins them with blanks for the remote shell
		args = append(args, shellWord(word))
	}
	return args
}

// shellWord quotes a word for a POSIX shell, unless it needs no quotes.
func shellWord(word string) string {
	if isPlainName(strings.TrimLeft(word, "/-"), "._-/=:,+@%") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// dial starts ssh. Whether ssh reaches the host is known with the first byte of the daemon.
func (s sshCommand) dial(t sshTarget) (net.Conn, error) {
	args := s.arguments(t)
	cmd := exec.Command(args[0], args[1:]...) // the program of the user, and words that parseSSH has checked
	detach(cmd)
	cmd.WaitDelay = exitTime // a ControlMaster that ssh leaves behind keeps standard error open
	c := &sshConn{cmd: cmd, target: t, ended: make(chan struct{})}
	cmd.Stderr = &c.remarks
	input, toSSH, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromSSH, output, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, input.Close(), toSSH.Close())
	}
	cmd.Stdin, cmd.Stdout = input, output
	c.in, c.out = fromSSH, toSSH
	err = cmd.Start()
	_, _ = input.Close(), output.Close()
	if err != nil {
		_, _ = fromSSH.Close(), toSSH.Close()
		return nil, errkind.WithHint(errkind.With(errkind.Precondition, fmt.Errorf("start ssh: %w", err)),
			"Install the SSH client of this system (openssh-client, openssh-clients), or name another: see WithSSH.")
	}
	go func() {
		c.exit = cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// dialSSH returns the dial function of a target of the form ssh://.
func dialSSH(target string, s sshCommand) (func(context.Context, string) (net.Conn, error), error) {
	t, err := parseSSH(target)
	if err != nil {
		return nil, err
	}
	return func(context.Context, string) (net.Conn, error) { return s.dial(t) }, nil
}
