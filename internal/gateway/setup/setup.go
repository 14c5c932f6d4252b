// Package setup makes what a first try of the gateway needs: an authority, a certificate of
// the gateway, a certificate of an administrator, and the settings.
package setup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Options say what to make.
type Options struct {
	// Root is the tree of the host, "/" on a host.
	Root string
	// Names are the names and addresses by which clients reach the host, the main one
	// first.
	Names []string
	// Listen is the address in new settings.
	Listen string
	// Person is whose passphrase gives all rights in new settings. "" is nobody's: then the
	// commands that come next begin with that which starts the gateway.
	Person string
	// GID is the group of the gateway, which can read the key of the gateway.
	GID int
	// Out gets what was made, and the commands that come next.
	Out io.Writer
}

type setup struct {
	Options
	dir string // of the certificates
	now time.Time
}

// Run makes what does not exist or ends soon, and keeps the rest, so it can run again. It
// never changes existing settings.
func Run(o Options) error {
	if len(o.Names) == 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "set up the gateway: the host has no name"), "give one with --name")
	}
	for _, name := range o.Names {
		if net.ParseIP(name) == nil && (name == "" || strings.ContainsAny(name, " /:@*")) {
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "set up the gateway: %q is not the name or the address of a host", name), "give another with --name")
		}
	}
	if err := config.CheckAddress(o.Listen); err != nil {
		return errkind.WithHint(fmt.Errorf("set up the gateway: --listen: %w", err), "write host:port: %s", config.DefaultListen)
	}
	o.Names = compact(append(o.Names, "localhost", "127.0.0.1"))
	s := &setup{Options: o, dir: filepath.Join(o.Root, "etc/trident/gateway"), now: time.Now()}
	if err := s.run(); err != nil {
		return fmt.Errorf("set up the gateway: %w", err)
	}
	return nil
}

func compact(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (s *setup) run() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	ca, err := s.authority()
	if err != nil {
		return err
	}
	if err := errors.Join(s.serverCertificate(ca), s.clientCertificate(ca)); err != nil {
		return err
	}
	if err := s.settings(); err != nil {
		return err
	}
	return s.next()
}

func (s *setup) say(what, path string) { fmt.Fprintf(s.Out, "%s %s\n", what, path) }

// settings writes gateway.yaml if it does not exist.
func (s *setup) settings() error {
	path := filepath.Join(s.Root, config.DefaultFile)
	if _, err := os.Lstat(path); err == nil {
		s.say("kept", path)
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := fmt.Sprintf(`# Settings of trident-gateway, and the policy of tridentd for it; docs/gateway.md has all of them.
listen: [%q]

# Who may do what. Rights: read, operate, secret, admin.
rights:
  - identity: "uri:trident://admin"
    rights: [admin]
  - identity: "console:root" # who has a token of trident-gateway console
    rights: [admin]
`, s.Listen)
	if s.Person != "" {
		text += fmt.Sprintf("  - identity: %q\n    rights: [admin]\n", "passphrase:"+s.Person)
	}
	s.say("made", path)
	return atomicfile.WriteForGroup(path, []byte(text), 0o644, os.Getegid())
}

// next prints the commands that come next.
func (s *setup) next() error {
	_, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return err
	}
	name := s.Names[0]
	if s.Person == "" { // else the caller starts it
		s.say("\nOn this host:\n  systemctl enable --now", Unit)
	}
	_, err = fmt.Fprintf(s.Out, `
On the machine of the administrator, who needs three files of this host:
  scp root@%[1]s:/etc/trident/gateway/ca.crt root@%[1]s:'/etc/trident/gateway/clients/admin.*' .
  trident hosts add %[1]s tls://%[1]s:%[2]s --ca ca.crt --certificate admin.crt --key admin.key
  trident --host %[1]s get status
`, name, port)
	if err != nil {
		return err
	}
	if host, _, _ := net.SplitHostPort(s.Listen); host == "localhost" || net.ParseIP(host).IsLoopback() {
		_, err = fmt.Fprintf(s.Out, "\nThe gateway listens on %s, which other machines cannot reach: change listen in %s.\n", s.Listen, config.DefaultFile)
	}
	return err
}
