package osconfig

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/run"
)

// Touch performs one host change: it gets the name of the change and a function that
// makes the change. Tests cut the power before or after the call of change.
type Touch func(name string, change func() error) error

// Setup sets up an OS that is not running, in root, as the section os says: users,
// hostname, modules, services, the mode of SELinux, the network. It does not write
// additional files and extensions. It fails where CheckOS fails.
//
// Setup may be called again after a failure or a power cut, and gives the same result.
// Everything that it does not change stays byte for byte, with owner, mode and SELinux
// label; new files have no label. The only tool that it runs is systemctl --root. A nil
// touch makes each change directly.
func Setup(ctx context.Context, root string, os *hostconfig.OS, tools run.Runner, touch Touch) error {
	if err := CheckOS(os, false); err != nil {
		return err
	}
	if touch == nil {
		touch = func(_ string, change func() error) error { return change() }
	}
	s := setup{root, tools, touch}
	for _, section := range []struct {
		name, fault string
		apply       func(context.Context, *hostconfig.OS) error
	}{
		{"users", errkind.NameSetUpUsers, s.users},
		{"hostname", errkind.NameRunOsModifier, s.hostname},
		{"modules", errkind.NameRunOsModifier, s.modules},
		{"services", errkind.NameRunOsModifier, s.services},
		{"selinux", errkind.NameRunOsModifier, s.selinux},
		{"netplan", errkind.NameWriteNetplanConfig, s.network},
	} {
		err := context.Cause(ctx)
		if err == nil {
			err = section.apply(ctx, os)
		}
		if err != nil {
			return sectionError("os."+section.name, section.fault, err)
		}
	}
	return nil
}

// SetupUsers sets up users only, in an OS that may be running, such as that of the
// installer. at is the path of the users in the Host Configuration, for errors. touch
// must not be nil. Otherwise SetupUsers behaves as Setup.
func SetupUsers(ctx context.Context, root, at string, users []hostconfig.User, touch Touch) error {
	if err := errors.Join(nameErrors(rules.UserNameFaults(at, users))...); err != nil {
		return err
	}
	s := setup{root: root, touch: touch}
	if err := s.users(ctx, &hostconfig.OS{Users: users}); err != nil {
		return sectionError(at, errkind.NameSetUpUsers, err)
	}
	return nil
}

// setup is one call of Setup.
type setup struct {
	root  string
	tools run.Runner
	touch Touch
}

func sectionError(name, fault string, err error) error {
	named := errkind.Variant(err) != ""
	err = fmt.Errorf("set up %s: %w", name, readOnly(name, err))
	if named {
		return err
	}
	return errkind.WithName(err, fault)
}

// readOnly adds a kind and a hint to err if its cause is a read-only file system; what
// names the setting that was being written.
func readOnly(what string, err error) error {
	if !errors.Is(err, unix.EROFS) {
		return err
	}
	return errkind.WithHint(errkind.With(errkind.Precondition, err),
		"The file system for %s is read-only in this OS (protected by verity, for example). "+
			"Build the setting into the image, or mount the file system read-write.", what)
}

func (s setup) hostname(_ context.Context, o *hostconfig.OS) error {
	if o.Hostname == "" {
		return nil
	}
	return s.edit(hostnameFile, 0o644, func(string) (string, error) { return o.Hostname + "\n", nil })
}

func (s setup) network(_ context.Context, o *hostconfig.OS) error {
	if o.Netplan == nil { // the network of the image, if it has one, stays
		return nil
	}
	return s.touch("write network", func() error { return WriteNetwork(s.root, o.Netplan) })
}
