package slots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/storage"
)

// examined is the result of examine.
type examined struct {
	config *hostconfig.Config
	image  *image.Image
	plan   *storage.Plan
	whole  map[string]bool // files of parts that fill their partitions
	read   map[string]bool // files of parts that are verified
	boot   boot.UKI
}

// examine returns the first fault that would make a later step fail and that can be known
// before a disk changes. It writes only files below Trident's folders of operations, and a
// variable of the firmware that it deletes again (see probeFirmware).
//
// examine reads the files of the ESP and, of a local image that the host has room to unpack,
// those of the root file system (see checkTree). It does not unpack an image from the
// network, which would take the room and the time of writing it. Later steps find the faults
// of such an image: a dangling link in the place of a file, or an SELinux policy without
// setfiles. Groups and units that any image lacks are found later, too, and so are faults of
// the new network if this host has no netplan.
func (s *Service) examine(ctx context.Context, r *opRun, c *hostconfig.Config, i *image.Image) (*examined, error) {
	plan, err := s.fits(r, c, i)
	if err != nil {
		return nil, err
	}
	e := &examined{config: c, image: i, plan: plan, whole: map[string]bool{}, read: map[string]bool{}}
	for _, check := range []func(context.Context, *opRun, *examined) error{
		s.checkSetup, s.checkKept, s.checkContents, s.checkTools, s.copyAllSources, s.checkFormats, s.checkNetworks, s.checkNewExtensions, s.checkBoot, s.checkTree, s.readThrough,
	} {
		if err := check(ctx, r, e); err != nil {
			if ctx.Err() != nil && errkind.Of(err) == errkind.Internal {
				err = errkind.With(errkind.Cancelled, err)
			}
			return nil, err
		}
	}
	r.State.Examined = true
	return e, nil
}

// checkSetup checks the ESP, the os section and the scripts of the configuration.
func (s *Service) checkSetup(_ context.Context, r *opRun, e *examined) error {
	spec, on := e.config.Spec(), r.State.Purpose.on()
	if id, _ := espID(&spec.Storage); id == "" {
		return errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration mounts no EFI system partition"), errkind.NameEspMountPointMismatch)
	}
	if !slices.ContainsFunc(r.State.Parts, func(p part) bool { return p.ESP }) {
		err := errkind.Errorf(errkind.Invalid, "the EFI system partition does not get the image's boot files: its source in storage.filesystems is not image")
		return errkind.WithName(err, errkind.NameEspMountPointMismatch)
	}
	if err := osconfig.CheckOS(&spec.OS, true); err != nil {
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	faults := rules.SetupFaults(spec)
	if r.State.Purpose == installs {
		faults = append(faults, rules.UserNameFaults("managementOs.users", spec.ManagementOS.Users)...)
	}
	var errs []error
	for _, f := range faults {
		errs = append(errs, errkind.WithField(errkind.Errorf(errkind.Invalid, "%s: %s", f.Path, f.Message), f.Path))
	}
	if err := errors.Join(errs...); err != nil {
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	if err := s.besideExtensions(r, e.config, spec.OS.SELinux.Mode); err != nil {
		return err
	}
	outside := slices.Concat(hooks.Of(spec.Scripts.PreServicing, on), hooks.Of(spec.Scripts.PostProvision, on))
	if err := s.checkInterpreters(outside); err != nil {
		return err
	}
	return hooks.Check(slices.Concat(outside, hooks.Of(spec.Scripts.PostConfigure, on), hooks.HealthScripts(spec.Health, on)))
}

// checkInterpreters fails if this host lacks the interpreter of one of the scripts.
func (s *Service) checkInterpreters(scripts []hostconfig.Script) error {
	for i, h := range scripts {
		if !filepath.IsAbs(h.Interpreter) || h.Interpreter == "/bin/sh" {
			continue
		}
		if info, err := inroot.FS(s.Root).Stat(path.Clean(h.Interpreter)[1:]); err != nil || info.IsDir() || info.Mode().Perm()&0o111 == 0 {
			err := errkind.Errorf(errkind.Invalid, "script %s: this host has no program %s to run it", hooks.Name(h.Name, i), h.Interpreter)
			return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
		}
	}
	return nil
}

// checkKept fails if a kept file system that the new system mounts is of unknown type.
func (s *Service) checkKept(_ context.Context, r *opRun, e *examined) error {
	inv, err := s.Machine.Inventory()
	if err != nil {
		return err
	}
	formats := e.plan.Describe().Formats
	for _, f := range storage.MountOrder(&e.config.Spec().Storage) {
		written := slices.ContainsFunc(r.State.Parts, func(p part) bool { return p.Device == f.DeviceID && !p.ESP }) ||
			slices.ContainsFunc(formats, func(n storage.Format) bool { return n.ID == f.DeviceID })
		if f.DeviceID == "" || written {
			continue
		}
		target, err := e.plan.Target(f.DeviceID)
		if err != nil {
			return err
		}
		if p, ok := inv.Partition(target.Path); ok && target.Action != storage.Create && p.Content.Type == "" {
			err := errkind.Errorf(errkind.Precondition, "partition %q (%s), for %s, has no file system that is known", target.ID, target.Path, f.MountPoint.Path)
			return errkind.WithName(err, errkind.NameMountNewroot)
		}
	}
	return nil
}

// checkContents checks the first bytes of the image's file systems. They are not verified
// yet, so wrong bytes can only make it refuse an image that "write" would accept.
func (s *Service) checkContents(ctx context.Context, r *opRun, e *examined) error {
	for _, p := range r.State.Parts {
		if p.ESP {
			continue
		}
		head, err := headOf(ctx, p, e.image)
		if err == nil {
			e.whole[p.File], err = e.plan.CheckContent(p.Device, head)
		}
		if err == nil {
			err = s.checkWritable(p, e)
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("the image's file system for %s: %w", p.Name, err), errkind.NameDeployImages)
		}
	}
	return nil
}

func headOf(ctx context.Context, p part, i *image.Image) ([]byte, error) {
	from, err := p.in(i)
	if err != nil {
		return nil, err
	}
	in, err := from.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, storage.ContentHead))
}

// checkWritable refuses a read-only type of file system where Trident has to write.
func (s *Service) checkWritable(p part, e *examined) error {
	if !slices.Contains([]string{"erofs", "squashfs", "iso9660", "cramfs"}, p.Type) {
		return nil
	}
	in := "/etc"
	for _, f := range storage.MountOrder(&e.config.Spec().Storage) {
		if filepath.Clean(f.MountPoint.Path) == in && f.DeviceID != p.Device {
			return nil
		}
	}
	if p.Name != "/" && p.Name != in {
		return nil
	}
	err := errkind.Errorf(errkind.Unsupported, "it is %s, which cannot be written, and Trident has to write %s/fstab into it", p.Type, in)
	return errkind.WithHint(err, "Use an image whose root file system is ext4 or xfs.")
}

// checkTools fails if this host lacks a program that a later step runs.
func (s *Service) checkTools(_ context.Context, r *opRun, e *examined) error {
	finder, ok := s.Machine.Disks.Runner.(run.Finder)
	if !ok {
		return nil
	}
	tools := e.plan.Tools()
	if s.Machine.Disks.Udev && r.State.Purpose == installs {
		tools = append(tools, "udevadm")
	}
	for _, p := range r.State.Parts {
		if !p.ESP && !p.ReadOnly && !e.whole[p.File] {
			tools = append(tools, storage.ResizeTools(p.Type)...)
		}
	}
	for _, name := range tools {
		if err := finder.Find(name); err != nil {
			return errkind.WithName(errkind.WithHint(err, "Install it on the host that Trident runs on."), errkind.NameMissingBinary)
		}
	}
	return nil
}

// checkFormats has mkfs try the new file systems without effect.
func (s *Service) checkFormats(ctx context.Context, _ *opRun, e *examined) error {
	return e.plan.Rehearse(ctx, s.Machine.Disks.Runner, s.StagedDir())
}

// copyAllSources copies the files that the configuration names, and checks the permissions
// of additional files.
func (s *Service) copyAllSources(ctx context.Context, r *opRun, e *examined) error {
	spec, on := e.config.Spec(), r.State.Purpose.on()
	all := slices.Concat(hooks.Of(spec.Scripts.PreServicing, on), hooks.Of(spec.Scripts.PostProvision, on), hooks.Of(spec.Scripts.PostConfigure, on))
	err := s.CopySources(ctx, change.SourcesOf(spec.OS.AdditionalFiles, all))
	for _, f := range spec.OS.AdditionalFiles {
		if err != nil {
			break
		}
		if _, err = s.ModeOf(f); err != nil {
			err = fmt.Errorf("write %s: %w", f.Destination, err)
		}
	}
	return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
}

// checkNetworks has netplan check the network of the new system and, in a rehearsal, that
// of the live system.
func (s *Service) checkNetworks(ctx context.Context, r *opRun, e *examined) error {
	spec := e.config.Spec()
	if n := spec.ManagementOS.Netplan; n != nil && r.State.Purpose == installs && s.IsRehearsal() {
		if err := s.TryNetplan(ctx, r.ID, "managementOs.netplan", n); err != nil {
			return err
		}
	}
	if spec.OS.Netplan == nil {
		return nil
	}
	err := s.TryNetplan(ctx, r.ID, "os.netplan", spec.OS.Netplan)
	if errkind.Of(err) == errkind.Precondition { // perhaps only the new system has netplan
		return nil
	}
	return err
}

// newExtensions returns the store for the extensions of the new system until its file
// systems exist.
func (s *Service) newExtensions() *extension.Store {
	return &extension.Store{Root: filepath.Join(s.StagedDir(), "new-os"), Files: s.Root, Tools: s.Tools, Touch: s.Touch}
}

// checkNewExtensions fetches the extensions of the new system to this host, so that a
// missing or incompatible one fails before a disk changes. If this host has no room,
// "configure" fetches them. A rehearsal only asks servers whether they have them.
func (s *Service) checkNewExtensions(ctx context.Context, r *opRun, e *examined) error {
	list := slices.DeleteFunc(change.ExtensionSources(e.config), func(src extension.Source) bool { return src.Path == change.OwnPath })
	if len(list) == 0 {
		return nil
	}
	store := s.newExtensions()
	err := s.Touch("make room for extensions", func() error {
		lib := filepath.Join(store.Root, "usr/lib")
		err := os.MkdirAll(lib, 0o755)
		for _, dir := range []string{filepath.Dir(lib), lib} { // whatever the umask: extensions are compared with them
			err = errors.Join(err, os.Chmod(dir, 0o755))
		}
		return errors.Join(err, atomicfile.Write(filepath.Join(lib, "os-release"), []byte(e.image.Metadata().OSRelease), 0o644))
	})
	if err != nil {
		return err
	}
	var images []extension.Image
	for _, src := range list {
		if s.IsRehearsal() && fetch.Scheme(src.URL) != "file" {
			if err := s.isThere(ctx, src.URL); err != nil {
				return errkind.WithName(fmt.Errorf("look for the %s: %w", src.Class, err), errkind.NamePopulateExtensionImages)
			}
			continue
		}
		image, err := store.Stage(ctx, src, nil, nil, func(line string) { r.Logf(slog.LevelInfo, "%s", line) })
		if errkind.Of(err) == errkind.NoSpace {
			r.Logf(slog.LevelWarn, "the extensions of the new system are checked only after its disk is written: %v", err)
			return s.Touch("discard extensions", func() error { return os.RemoveAll(store.Root) })
		}
		if err == nil && image.IsOwn() {
			err = ownListed()
		}
		if err != nil {
			return errkind.WithName(err, errkind.NamePopulateExtensionImages)
		}
		images = append(images, image)
	}
	_, err = extension.Plan(nil, images)
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func ownListed() error {
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported, "os.sysexts lists an image of Trident itself, which cannot be activated in a new system"),
		"Remove it from os.sysexts; upgrade Trident once the new system runs.")
}

// isThere asks a server for a file without fetching it. An answer from a server that does
// not serve ranges counts.
func (s *Service) isThere(ctx context.Context, from string) error {
	src, err := fetch.Source{URL: from}.OnHost(s.Root)
	if err != nil {
		return err
	}
	in, err := fetch.OpenRanges(ctx, src, fetch.Pin{}, fetch.Limits{Attempts: 1}, nil, nil)
	if errkind.Of(err) == errkind.Unsupported {
		return nil
	}
	if err != nil {
		return err
	}
	return in.Close()
}

// checkBoot unpacks the boot files of the image, and checks that the firmware and the ESP
// accept them.
func (s *Service) checkBoot(ctx context.Context, r *opRun, e *examined) error {
	vars, err := s.Machine.Firmware()
	if err != nil {
		return errkind.WithName(err, errkind.NameReadEfiVariable)
	}
	if err := s.unpackBoot(ctx, r, e); err != nil {
		return err
	}
	payload, done, err := s.payload(r)
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	e.boot = payload.UKI()
	host := boot.Host{Vars: vars, Arch: boot.Arch(s.Machine.Arch), Index: r.State.Index, Fallback: boot.Fallback(e.config.Spec().OS.UEFIFallback)}
	id, _ := espID(&e.config.Spec().Storage)
	target, err := e.plan.Target(id)
	if err != nil {
		return err
	}
	files, room := fs.FS(emptyFS{}), roomOfNewESP(target.Size)
	if target.Action != storage.Create {
		inv, err := s.Machine.Inventory()
		if err != nil {
			return err
		}
		if host.Partition, err = espOf(inv, target.Path); err != nil {
			return err
		}
		var closeFiles func() error
		if files, room, closeFiles, err = s.Machine.ESPNow(target.Path); err != nil {
			return err
		}
		defer func() { _ = closeFiles() }()
		if r.State.Purpose == installs {
			if host.Index, err = boot.FreeIndexOf(files); err != nil {
				return err
			}
		}
	}
	warnings, err := boot.Preflight(ctx, host, files, room, r.State.Slot, payload)
	if err != nil {
		return err
	}
	if pairs := storage.Pairs(&e.config.Spec().Storage); len(pairs) > 0 {
		for _, w := range warnings {
			r.Logf(slog.LevelWarn, "%s", w)
		}
	}
	return s.probeFirmware(ctx, r, host, files)
}

// probeFirmware checks that firmware which does not report its free room takes the
// variables of a trial: it sets one and deletes it. A rehearsal skips this.
func (s *Service) probeFirmware(ctx context.Context, r *opRun, host boot.Host, files fs.FS) error {
	_, known, err := host.Vars.Room()
	if err != nil || known || s.IsRehearsal() {
		return err
	}
	need, err := boot.VariableNeed(ctx, host, files, r.State.Slot)
	if err != nil {
		return err
	}
	if err := s.Touch("probe firmware", func() error { return efivar.Probe(host.Vars, need) }); err != nil {
		return errkind.WithName(fmt.Errorf("find out whether the firmware takes boot entries: %w", err), errkind.NameSetEfiVariable)
	}
	return nil
}

// unpackBoot unpacks and verifies the image of the ESP.
func (s *Service) unpackBoot(ctx context.Context, r *opRun, e *examined) error {
	p := &r.State.Parts[slices.IndexFunc(r.State.Parts, func(p part) bool { return p.ESP })]
	from, err := p.in(e.image)
	if err != nil {
		return err
	}
	v, content, err := s.unpackESP(ctx, from, func(packed int64) { r.Progress(packed, p.Size) })
	if err != nil {
		name := errkind.NameDeployESPImages
		if errkind.Of(err) == errkind.Corrupt {
			name = errkind.NameCorruptOsImage
		}
		return errkind.WithName(fmt.Errorf("read the image: %w", err), name)
	}
	p.Content = content
	return p.verified(v, from.File)
}

// roomOfNewESP returns the room for files in a new FAT file system of size bytes: its
// tables take less than one in sixty-four.
func roomOfNewESP(size int64) boot.Space {
	return boot.Space{Free: max(0, size-size/64), Block: 4096}
}

// emptyFS is a file system without files.
type emptyFS struct{}

func (emptyFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
