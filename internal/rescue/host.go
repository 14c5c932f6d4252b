package rescue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Paths on a host, relative to its root folder.
const (
	// Dir is the store of Trident's extension images, and the rescuer's folder.
	Dir = "var/lib/trident/self"
	// Link is the link by which systemd finds Trident's extension.
	Link = "var/lib/extensions/trident.raw"
	// Base is the file with the version that a package or the OS image put into
	// /usr. An extension never has this file, so it can be read through any overlay.
	Base = "usr/lib/trident/base.json"
	// Socket is the socket on which Trident answers.
	Socket = "run/trident/trident.sock"
)

// Units that the rescuer restarts or asks about.
const (
	service = "tridentd.service"
	socket  = "tridentd.socket"
	sysext  = "systemd-sysext.service"
)

const (
	commandTimeout = 60 * time.Second // for one call of systemctl
	stopTimeout    = 10 * time.Second // for a daemon to stop after systemd asked it to
)

// SystemHost is the host that the rescuer runs on. It runs tools of the host's own
// /usr, and none from an extension.
type SystemHost struct {
	Root string
	// Out receives the messages of Logf, one a line.
	Out io.Writer
}

// Logf implements Host. It replaces control characters, so that each call writes one line.
func (s SystemHost) Logf(format string, args ...any) {
	fmt.Fprintln(s.Out, OneLine(fmt.Sprintf(format, args...)))
}

// OneLine returns text with a space for each line break and a question mark for each other control character.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case unicode.IsControl(r):
			return '?'
		}
		return r
	}, text)
}

// SetLink implements Host. It moves a folder that is in the link's place aside.
func (s SystemHost) SetLink(link string) error {
	path := filepath.Join(s.Root, Link)
	if err := MoveFolderAside(path); err != nil {
		return fmt.Errorf("make room for the extension link: %w", err)
	}
	if link == "" {
		return atomicfile.Remove(path)
	}
	return atomicfile.Symlink(link, path)
}

// Refresh implements Host.
func (s SystemHost) Refresh(ctx context.Context) error {
	_, err := s.systemctl(ctx, "reload-or-restart", sysext)
	return err
}

// Restart implements Host.
func (s SystemHost) Restart(ctx context.Context) error {
	// A unit that has not failed, or that is not loaded, does no harm.
	for _, unit := range []string{service, socket} {
		if _, err := s.systemctl(ctx, "reset-failed", unit); err != nil {
			s.Logf("%v", err)
		}
	}
	_, err := s.systemctl(ctx, "daemon-reload")
	if _, serr := s.systemctl(ctx, "is-active", "--quiet", socket); serr != nil || IsSocketDown(s.Root) {
		// A socket does not start while its service runs, and a running socket unit
		// is bound to a deleted file: only a socket unit that starts anew makes a
		// new file.
		_, e1 := s.systemctl(ctx, "stop", service)
		e2 := MoveFolderAside(filepath.Join(s.Root, Socket))
		_, e3 := s.systemctl(ctx, "restart", socket)
		err = errors.Join(err, e1, e2, e3)
	}
	_, rerr := s.systemctl(ctx, "restart", "--no-block", service)
	return errors.Join(err, rerr, s.killIfStopHangs(ctx, stopTimeout))
}

// killIfStopHangs kills a daemon that has not stopped within a time after systemd
// asked it to: a target that was given up may hang, and systemd would wait for
// TimeoutStopSec. Killing is harmless, because the daemon resumes from its
// journal.
func (s SystemHost) killIfStopHangs(ctx context.Context, after time.Duration) error {
	for end := time.Now().Add(after); ; {
		if err := pause(ctx, min(after, observeEvery)); err != nil {
			return err
		}
		u, err := s.Unit(ctx)
		if err != nil || u.Active != "deactivating" {
			return err
		}
		if time.Now().After(end) {
			_, err := s.systemctl(ctx, "kill", "--signal=SIGKILL", service)
			return err
		}
	}
}

// IsSocketDown reports whether connecting to Trident's socket on the host below
// root fails because the socket does not exist or no process listens on it.
func IsSocketDown(root string) bool {
	conn, err := net.Dial("unix", filepath.Join(root, Socket))
	if err == nil {
		_ = conn.Close()
	}
	return isSocketMissing(err)
}

func isSocketMissing(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ELOOP)
}

// Unit implements Host.
func (s SystemHost) Unit(ctx context.Context) (Unit, error) {
	out, err := s.systemctl(ctx, "show", "--property=ActiveState,NRestarts,MainPID,InvocationID", service)
	if err != nil {
		return Unit{}, err
	}
	return parseUnit(out)
}

func parseUnit(out string) (u Unit, err error) {
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		var e error
		switch key {
		case "ActiveState":
			u.Active = value
		case "NRestarts":
			u.Restarts, e = strconv.Atoi(value)
		case "MainPID":
			u.PID, e = strconv.Atoi(value)
		case "InvocationID":
			u.Run = value
		}
		err = errors.Join(err, e)
	}
	if u.Active == "" {
		err = errors.Join(err, errors.New("systemctl show printed no ActiveState for the service"))
	}
	return u, err
}

// processExit is the message ID of the journal entries that systemd writes when a
// process of a unit ends: SD_MESSAGE_UNIT_PROCESS_EXIT of systemd's sd-messages.h.
const processExit = "98e322203f7a4ed290d09fe03c09fe15"

// Exits implements ExitReader. It reads the journal.
func (s SystemHost) Exits(ctx context.Context) ([]Exit, error) {
	out, err := s.runTool(ctx, "journalctl", "--quiet", "--no-pager", "--boot", "--lines=64", "--output=json",
		"--output-fields=EXIT_CODE,EXIT_STATUS,INVOCATION_ID", "_PID=1", "MESSAGE_ID="+processExit, "UNIT="+service)
	if err != nil {
		return nil, err
	}
	return parseExits(out)
}

func parseExits(out string) (exits []Exit, err error) {
	for line := range strings.Lines(out) {
		var entry struct {
			Code   string `json:"EXIT_CODE"`
			Status string `json:"EXIT_STATUS"`
			Run    string `json:"INVOCATION_ID"`
		}
		if e := json.Unmarshal([]byte(line), &entry); e != nil {
			err = errors.Join(err, fmt.Errorf("read how the service ended: %w", e))
			continue
		}
		exits = append(exits, Exit{Run: entry.Run, Killed: entry.Code == "killed" && (entry.Status == "9" || entry.Status == "KILL")})
	}
	return exits, err
}

func (s SystemHost) systemctl(ctx context.Context, args ...string) (string, error) {
	return s.runTool(ctx, "systemctl", args...)
}

func (s SystemHost) runTool(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out[:min(len(out), 4096)]))
	}
	return string(out), nil
}

// Version implements Host. It makes one unary gRPC call of
// trident.v1.VersionService (HTTP/2 without TLS) with the standard library only:
// the request has no fields and the response has one string.
func (s SystemHost) Version(ctx context.Context) (string, error) {
	path := filepath.Join(s.Root, Socket)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	defer transport.CloseIdleConnections()
	const method = "http://trident/trident.v1.VersionService/Version"
	empty := make([]byte, 5) // not compressed, length 0
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, method, bytes.NewReader(empty))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := transport.RoundTrip(req)
	if isSocketMissing(err) {
		return "", fmt.Errorf("%w: %w", ErrNoSocket, err)
	}
	if err != nil {
		return "", fmt.Errorf("ask trident's version: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", fmt.Errorf("ask trident's version: %w", err)
	}
	code := resp.Trailer.Get("Grpc-Status")
	if code == "" {
		code = resp.Header.Get("Grpc-Status")
	}
	if resp.StatusCode != http.StatusOK || code != "0" {
		return "", fmt.Errorf("ask trident's version: HTTP %d, gRPC status %q", resp.StatusCode, code)
	}
	return parseVersion(body)
}

// parseVersion reads a length-prefixed message whose field 1 is a short string.
func parseVersion(b []byte) (string, error) {
	const prefix, tag = 5, 0x0a // field 1, length-delimited
	if len(b) < prefix+2 || b[0] != 0 || b[prefix] != tag || b[prefix+1] > 0x7f || len(b) < prefix+2+int(b[prefix+1]) {
		return "", fmt.Errorf("ask trident's version: the answer %.40x is not a VersionResponse", b)
	}
	return string(b[prefix+2 : prefix+2+int(b[prefix+1])]), nil
}

// CopyTo copies the rescuer at src to dst, so that changes of /usr cannot affect
// the copy.
func CopyTo(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy the rescuer: %w", err)
	}
	err = atomicfile.WriteFunc(dst, 0o700, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err = errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("copy the rescuer: %w", err)
	}
	return nil
}
