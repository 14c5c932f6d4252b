package mounts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/systemd"
)

const (
	unitFolder = "/etc/systemd/system"
	// madeByTrident is the first line of a unit file that Trident may replace and remove.
	madeByTrident = "# Made by Trident: trident host unmount --forget removes it."
)

// Folders with the credentials of shares: for the time until the next boot, and for ever.
const (
	passing   = "/run/trident/shares"
	permanent = "/etc/trident/shares"
)

// credentialFile returns the file with the credentials of a share.
func (r *Request) credentialFile() string {
	folder := passing
	if r.IsPersistent {
		folder = permanent
	}
	return filepath.Join(folder, systemd.EscapePath(r.Where))
}

// options returns the options of a request, with those that Trident adds.
func (r *Request) options() string {
	out := slices.Clone(r.Options)
	for _, o := range []string{"nosuid", "nodev"} {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	if r.Credentials != (Credentials{}) {
		out = append(out, "credentials="+r.credentialFile())
	}
	return strings.Join(out, ",")
}

// unitFile returns the unit file of a mount at each boot (systemd.mount(5)).
func (r *Request) unitFile() []byte {
	wantedBy := "local-fs.target"
	if isShare(r.Type) {
		wantedBy = "remote-fs.target"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n[Unit]\nDescription=%s\n\n[Mount]\nWhat=%s\nWhere=%s\n", madeByTrident, specifiers("Mount of "+r.Where), specifiers(r.What), specifiers(r.Where))
	if r.Type != "" {
		fmt.Fprintf(&b, "Type=%s\n", r.Type)
	}
	// nofail: a share whose server is gone must not keep the host from booting.
	fmt.Fprintf(&b, "Options=%s\nTimeoutSec=%.0f\n\n[Install]\nWantedBy=%s\n", specifiers(r.options()+",nofail"), mountTime.Seconds(), wantedBy)
	return b.Bytes()
}

// specifiers makes systemd read a text as it is (systemd.unit(5), SPECIFIERS).
func specifiers(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// readUnitFile returns the request that a unit file of Trident is for; ok is false for the
// file of somebody else, and where there is none.
func (s *Service) readUnitFile(name string) (r Request, ok bool, err error) {
	data, err := os.ReadFile(s.path(filepath.Join(unitFolder, name)))
	if errors.Is(err, fs.ErrNotExist) {
		return Request{}, false, nil
	}
	if err != nil || !bytes.HasPrefix(data, []byte(madeByTrident+"\n")) {
		return Request{}, false, err
	}
	r.IsPersistent = true
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.ReplaceAll(value, "%%", "%")
		switch key {
		case "What":
			r.What = value
		case "Where":
			r.Where = value
		case "Type":
			r.Type = value
		case "Options":
			r.Options = strings.Split(value, ",")
		}
	}
	return r, true, lines.Err()
}

// write writes a file that only root can read.
func (s *Service) write(name string, data []byte, mode fs.FileMode) error {
	file := s.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(file, data, mode)
}

// writeCredentials writes the file that mount.cifs(8) reads.
func (s *Service) writeCredentials(r *Request) error {
	c := r.Credentials
	if c == (Credentials{}) {
		return nil
	}
	text := fmt.Sprintf("username=%s\npassword=%s\n", c.Username, c.Password)
	if c.Domain != "" {
		text += fmt.Sprintf("domain=%s\n", c.Domain)
	}
	if err := s.write(r.credentialFile(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the credentials of the share: %w", err)
	}
	return nil
}

// removeCredentials removes those of a place, of both kinds.
func (s *Service) removeCredentials(where string) error {
	var out error
	for _, folder := range []string{passing, permanent} {
		out = errors.Join(out, remove(s.path(filepath.Join(folder, systemd.EscapePath(where)))))
	}
	return out
}

func remove(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errOthersUnit says that a unit of the host's own is in the way.
func errOthersUnit(name string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Exists, "the host has a unit %s of its own", name), "Use it: systemctl start %s", name)
}
