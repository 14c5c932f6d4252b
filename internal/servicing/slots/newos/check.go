package newos

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// CheckSetup checks the ESP, the os section and the scripts of the configuration.
func (o *OS) CheckSetup(_ context.Context, r *record.Run, e *record.Examined) error {
	spec, on := e.Config.Spec(), r.State.Purpose.On()
	if record.ESPID(&spec.Storage) == "" {
		return errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration mounts no EFI system partition"), errkind.NameEspMountPointMismatch)
	}
	if !slices.ContainsFunc(r.State.Parts, func(p record.Part) bool { return p.ESP }) {
		err := errkind.Errorf(errkind.Invalid, "the EFI system partition does not get the image's boot files: its source in storage.filesystems is not image")
		return errkind.WithName(err, errkind.NameEspMountPointMismatch)
	}
	if err := osconfig.CheckOS(&spec.OS, true); err != nil {
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	faults := rules.SetupFaults(spec)
	if r.State.Purpose == record.Installs {
		faults = append(faults, rules.UserNameFaults("managementOs.users", spec.ManagementOS.Users)...)
	}
	var errs []error
	for _, f := range faults {
		errs = append(errs, errkind.WithField(errkind.Errorf(errkind.Invalid, "%s: %s", f.Path, f.Message), f.Path))
	}
	if err := errors.Join(errs...); err != nil {
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	if err := o.besideExtensions(r, e.Config, spec.OS.SELinux.Mode); err != nil {
		return err
	}
	outside := slices.Concat(hooks.Of(spec.Scripts.PreServicing, on), hooks.Of(spec.Scripts.PostProvision, on))
	if err := o.checkInterpreters(outside); err != nil {
		return err
	}
	return hooks.Check(slices.Concat(outside, hooks.Of(spec.Scripts.PostConfigure, on), hooks.HealthScripts(spec.Health, on)))
}

// checkInterpreters fails if this host lacks the interpreter of one of the scripts.
func (o *OS) checkInterpreters(scripts []hostconfig.Script) error {
	for i, h := range scripts {
		if !filepath.IsAbs(h.Interpreter) || h.Interpreter == "/bin/sh" {
			continue
		}
		if info, err := inroot.FS(o.Root).Stat(path.Clean(h.Interpreter)[1:]); err != nil || info.IsDir() || info.Mode().Perm()&0o111 == 0 {
			err := errkind.Errorf(errkind.Invalid, "script %s: this host has no program %s to run it", hooks.Name(h.Name, i), h.Interpreter)
			return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
		}
	}
	return nil
}

// CopyConfigured copies the files that the configuration names, and checks the permissions
// of additional files.
func (o *OS) CopyConfigured(ctx context.Context, r *record.Run, e *record.Examined) error {
	spec, on := e.Config.Spec(), r.State.Purpose.On()
	all := slices.Concat(hooks.Of(spec.Scripts.PreServicing, on), hooks.Of(spec.Scripts.PostProvision, on), hooks.Of(spec.Scripts.PostConfigure, on))
	err := o.CopySources(ctx, change.SourcesOf(spec.OS.AdditionalFiles, all))
	for _, f := range spec.OS.AdditionalFiles {
		if err != nil {
			break
		}
		if _, err = o.ModeOf(f); err != nil {
			err = fmt.Errorf("write %s: %w", f.Destination, err)
		}
	}
	return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
}

// CheckParts checks the networks and the extensions of the configuration.
func (o *OS) CheckParts(ctx context.Context, r *record.Run, e *record.Examined) error {
	if err := o.checkNetworks(ctx, r, e); err != nil {
		return err
	}
	return o.extensions().Check(ctx, r, e)
}

// checkNetworks has netplan check the network of the new system and, in a rehearsal, that
// of the live system.
func (o *OS) checkNetworks(ctx context.Context, r *record.Run, e *record.Examined) error {
	spec := e.Config.Spec()
	if n := spec.ManagementOS.Netplan; n != nil && r.State.Purpose == record.Installs && o.IsRehearsal() {
		if err := o.TryNetplan(ctx, r.ID, "managementOs.netplan", n); err != nil {
			return err
		}
	}
	if spec.OS.Netplan == nil {
		return nil
	}
	err := o.TryNetplan(ctx, r.ID, "os.netplan", spec.OS.Netplan)
	if errkind.Of(err) == errkind.Precondition { // perhaps only the new system has netplan
		return nil
	}
	return err
}
