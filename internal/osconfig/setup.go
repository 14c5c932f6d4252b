package osconfig

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/run"
)

// Touch is called in place of each change of the tree, with the change's name
// and the change.
type Touch func(name string, change func() error) error

// Setup makes the tree of an OS that does not run what the section says: users,
// hostname, modules, services, the mode of SELinux, the network. Additional files
// and extensions are not its business. What CheckOS refuses is refused here too.
//
// It may be called again after it failed or was cut short, and ends with the same
// tree. What it does not change stays byte for byte, with its owner, mode and
// SELinux label; files that are new have no label yet. The only tool it runs is
// systemctl, on the tree.
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
		{"users", "SetUpUsers", s.users},
		{"hostname", "RunOsModifier", s.hostname},
		{"modules", "RunOsModifier", s.modules},
		{"services", "RunOsModifier", s.services},
		{"selinux", "RunOsModifier", s.selinux},
		{"netplan", "WriteNetplanConfig", s.network},
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

// SetupUsers makes the users of an OS that may run, as the installer does; at is the
// place that the configuration has them at. For the rest it is as Setup.
func SetupUsers(ctx context.Context, root, at string, users []hostconfig.User, touch Touch) error {
	if err := errors.Join(nameErrors(hostconfig.UserNameFaults(at, users))...); err != nil {
		return err
	}
	s := setup{root: root, touch: touch}
	if err := s.users(ctx, &hostconfig.OS{Users: users}); err != nil {
		return sectionError(at, "SetUpUsers", err)
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

// readOnly gives a kind and a hint to the failure of what could not be written
// because its file system is read-only.
func readOnly(what string, err error) error {
	if !errors.Is(err, unix.EROFS) {
		return err
	}
	return errkind.WithHint(errkind.With(errkind.Precondition, err),
		"The file system that %s has to be written to is read-only in this OS (one that verity protects, for example). "+
			"Build the setting into the image, or mount the file system so that it can be written.", what)
}

func (s setup) hostname(_ context.Context, o *hostconfig.OS) error {
	if o.Hostname == "" {
		return nil
	}
	return s.edit(hostnameFile, 0o644, func(string) (string, error) { return o.Hostname + "\n", nil })
}

func (s setup) network(_ context.Context, o *hostconfig.OS) error {
	if o.Netplan == nil { // the image may have a network of its own
		return nil
	}
	return s.touch("write network", func() error { return WriteNetwork(s.root, o.Netplan) })
}
