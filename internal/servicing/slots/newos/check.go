package newos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
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
	if err := osconfig.CheckOS(&spec.OS, r.State.HasSealedKernel()); err != nil {
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

// CheckTree checks the file systems with / and /boot of a local image, if this host has room
// to unpack them and a kernel that can mount them: the places of files must not be dangling
// links, an SELinux policy needs setfiles, and GRUB needs a kernel. It skips what a script of
// the configuration may put right before.
func (o *OS) CheckTree(ctx context.Context, r *record.Run, e *record.Examined) error {
	scripts, on := &e.Config.Spec().Scripts, r.State.Purpose.On()
	if !e.Image.Local() || o.Machine.Tree == nil || len(hooks.Of(scripts.PostProvision, on)) > 0 {
		return nil
	}
	_, folder := record.BootID(&e.Config.Spec().Storage)
	configures := len(hooks.Of(scripts.PostConfigure, on)) > 0
	err := o.withPart(ctx, r, e, "/", func(root string) error {
		if err := o.checkPlaces(root, e); err != nil || configures {
			return err
		}
		if err := o.checkPolicy(r, root, e); err != nil || folder == "/" {
			return err
		}
		return o.CheckBoot(e, filepath.Join(root, folder))
	})
	if err != nil || configures || folder != "/" || r.State.HasSealedKernel() {
		return err
	}
	return o.withPart(ctx, r, e, "/boot", func(root string) error { return o.CheckBoot(e, root) })
}

// withPart mounts the file system of the image for the mount point at while use runs. It does
// nothing if the image has none, if there is no room, or if the kernel cannot mount it. It
// deletes what it unpacks.
func (o *OS) withPart(ctx context.Context, r *record.Run, e *record.Examined, at string, use func(root string) error) (err error) {
	i := slices.IndexFunc(r.State.Parts, func(p record.Part) bool { return p.Name == at && !p.ESP })
	if i < 0 {
		return nil
	}
	from, err := r.State.Parts[i].In(e.Image)
	if err != nil {
		return err
	}
	if !o.hasRoomFor(from.File.Size) {
		return nil
	}
	f, err := os.CreateTemp(o.StagedDir(), "part-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil { // the kernel deletes it when the descriptor closes
		return err
	}
	if _, err := from.UnpackSparse(ctx, f); err != nil {
		if errkind.Of(err) == errkind.NoSpace {
			return nil
		}
		return errkind.WithName(fmt.Errorf("read the image: %w", err), errkind.NameCorruptOsImage)
	}
	e.Read[from.File.Path] = true
	root, done, err := o.Machine.Tree(f, r.State.Parts[i].Type)
	if errkind.Of(err) == errkind.Unsupported {
		return nil
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("the image's file system for %s: %w", at, err), errkind.NameMountNewroot)
	}
	defer func() { err = errors.Join(err, done()) }()
	return use(root)
}

// hasRoomFor reports whether size more bytes in StagedDir leave half of the free room there,
// and half of the free memory if that folder may be in memory.
func (o *OS) hasRoomFor(size int64) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(o.StagedDir(), &st); err != nil {
		return false
	}
	room := int64(st.Bavail) * st.Bsize
	if available, known := o.Machine.Available(); known && !slices.Contains([]int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC}, st.Type) {
		room = min(room, available)
	}
	return size <= room/2
}

// checkPlaces checks the places in a tree of the files that Trident will write.
func (o *OS) checkPlaces(root string, e *record.Examined) error {
	elsewhere := func(name string) bool { // on another file system of the new OS
		for _, f := range storage.MountOrder(&e.Config.Spec().Storage) {
			if at := path.Clean(f.MountPoint.Path); at != "/" && (name == at || strings.HasPrefix(name, at+"/")) {
				return true
			}
		}
		return false
	}
	var names []string
	if storage.RootVerity(&e.Config.Spec().Storage) != nil {
		if err := o.checkFolders(root, e); err != nil {
			return err
		}
	}
	for _, sig := range signatures(e.Config) {
		if !elsewhere(sig.path) {
			if err := sig.check(root); err != nil {
				return err
			}
		}
	}
	if !e.Record.Immutable {
		names = append(names, "/etc/fstab", "/etc/machine-id")
	}
	for _, f := range e.Config.Spec().OS.AdditionalFiles {
		names = append(names, change.Absolute(f.Destination))
	}
	for _, name := range names {
		if elsewhere(name) {
			continue
		}
		err := osconfig.Check(root, name)
		if dangling, ok := errors.AsType[*inroot.DanglingError](err); ok {
			link := strings.TrimPrefix(dangling.Link, root)
			if target, lerr := os.Readlink(filepath.Join(root, link)); lerr == nil {
				if !path.IsAbs(target) {
					target = path.Join(path.Dir(change.Absolute(link)), target)
				}
				if elsewhere(path.Clean(target)) {
					continue
				}
			}
			err = errkind.Errorf(errkind.Precondition, "write %s: %s is a link to nowhere", name, change.Absolute(link))
		}
		if err != nil && !errors.Is(err, unix.EROFS) { // the tree is mounted read-only
			return errkind.WithName(fmt.Errorf("in the image: %w", err), errkind.NameWriteAdditionalFile)
		}
	}
	return nil
}

// checkPolicy fails if "labels" would fail.
func (o *OS) checkPolicy(r *record.Run, root string, e *record.Examined) error {
	policy, err := osconfig.PolicyOf(root)
	if err != nil || policy == nil {
		return err
	}
	mode := policy.Mode
	if want := e.Config.Spec().OS.SELinux.Mode; want != "" { // "configure" sets it
		mode = want
	}
	if err := o.besideExtensions(r, e.Config, mode); err != nil {
		return err
	}
	if mode != hostconfig.SELinuxEnforcing {
		return nil
	}
	tool, err := labelTool(root)
	configured := slices.ContainsFunc(e.Config.Spec().OS.AdditionalFiles, func(f hostconfig.AdditionalFile) bool {
		return slices.Contains(labelTools, change.Absolute(f.Destination))
	})
	if err == nil && tool == "" && !configured {
		err = noSetfiles()
	}
	return err
}
