package slots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/storage"
)

// Internal parameters that upstream does not have: bytes per second, and bytes in all, that
// one operation may fetch of an image.
const (
	paramRate   = "imageBytesPerSecond"
	paramBudget = "imageDataBudget"
)

// openImage opens the image that the record pins, or else the present one.
func (s *Service) openImage(ctx context.Context, r *opRun, c *hostconfig.Config) (*image.Image, *fetch.Meter, error) {
	want := c.Spec().Image
	if want == nil {
		return nil, nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration has no image"), errkind.NameMissingOsImage)
	}
	digest := string(want.SHA384)
	if r.State.SHA384 != "" {
		digest = r.State.SHA384
	}
	meter := fetch.NewMeter(change.Number(c, paramRate), change.Number(c, paramBudget), r.State.Used)
	i, err := s.open(ctx, imageSource{string(want.URL), r.State.Pin, digest, change.Flag(c, "relaxedCosiValidation"), meter}, r)
	if err != nil {
		return nil, nil, err
	}
	i.LimitWindow(r.State.Window)
	return i, meter, nil
}

// checkImage opens the image and finds, before a disk is changed, whatever would make a
// later step fail: the rules of the image, whether image, configuration and host fit
// together, the plan of the disks, scripts, and the OS section.
func (s *Service) checkImage(ctx context.Context, r *opRun) error {
	if r.State.Purpose == installs {
		if err := s.safeToInstall(); err != nil {
			return err
		}
	}
	e, err := s.examineImage(ctx, r)
	if err != nil {
		return err
	}
	plan := change.Plan{Kind: change.ABUpdate}
	if r.State.Purpose == installs {
		plan.Kind = change.CleanInstall
	}
	r.Logf(slog.LevelInfo, "%s", s.planOf(r, e, plan))
	return nil
}

// examineImage opens the image, records its pin and digest, and examines it.
func (s *Service) examineImage(ctx context.Context, r *opRun) (e *examined, err error) {
	c, err := r.State.asked()
	if err != nil {
		return nil, err
	}
	ctx, cancel := change.FetchTime(ctx, c)
	defer cancel()
	i, meter, err := s.openImage(ctx, r, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		r.State.Used = meter.Used()
		err = errors.Join(err, i.Close())
	}()
	if r.State.Window, err = s.fitMemory(ctx, i); err != nil {
		return nil, err
	}
	r.State.Pin, r.State.SHA384 = i.Pin(), i.SHA384()
	c = c.Amend(func(spec *hostconfig.Spec) { spec.Image.SHA384 = hostconfig.ImageHash(i.SHA384()) })
	r.State.Asked = c.Recorded()
	for _, f := range i.Warnings() {
		r.Logf(slog.LevelWarn, "the image: %s", f)
	}
	if len(r.State.Seed) == 0 {
		r.State.Seed = newSeed()
	}
	return s.examine(ctx, r, c, i)
}

// readThrough verifies a local image before a disk changes. An image from the network is
// verified only as it is written.
func (s *Service) readThrough(ctx context.Context, r *opRun, e *examined) error {
	if !e.image.Local() {
		return nil
	}
	for _, p := range r.State.Parts {
		if p.Done || e.read[p.File] {
			continue
		}
		from, err := p.in(e.image)
		if err != nil {
			return err
		}
		if _, err := from.Check(ctx); err != nil {
			return errkind.WithName(fmt.Errorf("read the image: %w", err), errkind.NameCorruptOsImage)
		}
	}
	return nil
}

// fits checks that image, configuration and host fit together, and plans the disks.
func (s *Service) fits(r *opRun, c *hostconfig.Config, i *image.Image) (*storage.Plan, error) {
	m := i.Metadata()
	if err := s.sameArch(m); err != nil {
		return nil, err
	}
	if m.Bootloader == nil || m.Bootloader.Type != image.SystemdBoot {
		err := errkind.Errorf(errkind.Unsupported, "the image boots by %s; this version can set up systemd-boot with unified kernel images only", loaderOf(m))
		return nil, errkind.WithName(err, errkind.NameInvalidBootConfiguration)
	}
	if err := s.sameOS(r, m); err != nil {
		return nil, err
	}
	plan, err := s.plan(r, c)
	if err != nil {
		return nil, err
	}
	if r.State.Parts, err = parts(c, m, i.Partitions(), plan, r.State.Purpose == installs); err != nil {
		return nil, err
	}
	r.State.Paths, r.State.Disks = fromMap(plan.Paths()), fromMap(plan.DiskUUIDs())
	if r.State.Purpose == installs {
		return plan, nil
	}
	return plan, s.otherUUIDs(m, r)
}

// sameArch refuses an image whose programs this machine cannot run.
func (s *Service) sameArch(m *image.Metadata) error {
	if arch := m.Arch.Go(); arch != s.Machine.Arch {
		return errkind.WithName(errkind.Errorf(errkind.Incompatible, "the image is for the architecture %s, and this host is %s", m.Arch, s.Machine.Arch), errkind.NameMismatchedArchitecture)
	}
	return nil
}

func loaderOf(m *image.Metadata) string {
	if m.Bootloader == nil {
		return "a boot loader that its metadata does not name"
	}
	return m.Bootloader.Type
}

// sameOS refuses an update to another OS.
func (s *Service) sameOS(r *opRun, m *image.Metadata) error {
	if r.State.Purpose == installs {
		return nil
	}
	host, err := hostinfo.Read(s.Root)
	if err != nil {
		return err
	}
	for key, has := range map[string]string{"ID": host.ID, "VARIANT_ID": host.VariantID} {
		if wants := m.OSRelease.Get(key); has != wants {
			return errkind.WithName(errkind.Errorf(errkind.Incompatible, "the image is of another system: its os-release has %s=%q, and this host's has %q", key, wants, has), errkind.NameMismatchedOsRelease)
		}
	}
	return nil
}

// otherUUIDs refuses an image with a file system whose UUID one in use has: a mount by
// UUID might find either of them.
func (s *Service) otherUUIDs(m *image.Metadata, r *opRun) error {
	inv, err := s.Machine.Inventory()
	if err != nil {
		return err
	}
	for _, f := range m.Filesystems {
		if f.UUID == "" || slices.ContainsFunc(r.State.Parts, func(p part) bool { return p.ESP && p.File == f.Image.Path }) {
			continue
		}
		for _, d := range inv.Disks {
			for _, p := range d.Partitions {
				if p.Use.InUse() && strings.EqualFold(p.Content.UUID, f.UUID) {
					err := errkind.Errorf(errkind.Invalid, "the image's file system for %s has the UUID %s, as has %s, which is %s", f.MountPoint, f.UUID, p.Path, p.Use)
					return errkind.WithName(errkind.WithHint(err, "Build the image again, with new UUIDs for its file systems."), errkind.NameDuplicateFsUuidAbUpdate)
				}
			}
		}
	}
	return nil
}

func fromMap(m map[string]string) []device {
	out := make([]device, 0, len(m))
	for id, p := range m {
		out = append(out, device{id, p})
	}
	slices.SortFunc(out, func(a, b device) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// plan returns the plan of the disks, the same one at each call of an operation.
func (s *Service) plan(r *opRun, c *hostconfig.Config) (*storage.Plan, error) {
	inv, err := s.Machine.Inventory()
	if err != nil {
		return nil, err
	}
	req := storage.Request{For: storage.Install, Slot: r.State.Slot, Seed: r.State.Seed, Arch: s.Machine.Arch}
	if r.State.Purpose != installs {
		st, err := s.Store.Status(context.Background())
		if err != nil {
			return nil, err
		}
		req.For, req.Paths = storage.Update, st.PartitionPaths
	}
	return storage.NewPlan(&c.Spec().Storage, inv, req)
}

// parts returns the images that will be written, with their devices.
func parts(c *hostconfig.Config, m *image.Metadata, images []image.Partition, plan *storage.Plan, install bool) ([]part, error) {
	spec := c.Spec()
	used := map[string]bool{}
	var out []part
	for j := range spec.Storage.Filesystems {
		f := &spec.Storage.Filesystems[j]
		if f.Source != hostconfig.FromImage || f.MountPoint == nil {
			continue
		}
		at := path.Clean(f.MountPoint.Path)
		k := slices.IndexFunc(m.Filesystems, func(x image.Filesystem) bool { return path.Clean(x.MountPoint) == at })
		if k < 0 {
			return nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "the image has no file system for %s", at), errkind.NameMissingOsImageFilesystem)
		}
		have := m.Filesystems[k]
		used[have.MountPoint] = true
		if have.Verity != nil {
			return nil, errkind.WithName(errkind.Errorf(errkind.Unsupported, "the image's file system for %s is verified by dm-verity, which this version cannot set up", at), errkind.NameVerityMismatch)
		}
		p := part{Name: at, Device: f.DeviceID, File: have.Image.Path, ESP: f.IsESP(), Size: have.Image.Compressed, SHA384: have.Image.SHA384, Type: have.Type, ReadOnly: f.MountPoint != nil && f.MountPoint.ReadOnly()}
		if !slices.ContainsFunc(images, func(i image.Partition) bool { return i.File.Path == p.File }) {
			return nil, errkind.WithName(errkind.Errorf(errkind.Corrupt, "the image has no file %s", p.File), errkind.NameCorruptOsImage)
		}
		if err := p.goesTo(spec, plan, have, install); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "no file system of the configuration comes from the image"), errkind.NameMissingOsImageFilesystem)
	}
	for _, f := range m.Filesystems {
		if f.MountPoint != "" && !used[f.MountPoint] && !change.Flag(c, "allowUnusedFilesystems") {
			return nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration has no place for the image's file system for %s", f.MountPoint), errkind.NameUnusedOsImageFilesystem)
		}
	}
	return out, nil
}

// goesTo checks that the device of a part can take it.
func (p part) goesTo(spec *hostconfig.Spec, plan *storage.Plan, have image.Filesystem, install bool) error {
	target, err := plan.Target(p.Device)
	if err != nil {
		return err
	}
	_, pair := storage.Pairs(&spec.Storage)[p.Device]
	switch {
	case p.ESP:
		return nil
	case !install && !pair:
		err := errkind.Errorf(errkind.Invalid, "%s comes from the image, but its device %q is not an A/B volume: ImageUpdateOnStandaloneBlockDevice", p.Name, p.Device)
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	case have.Image.Size > target.Size:
		err := errkind.Errorf(errkind.NoSpace, "the image's file system for %s has %d bytes, and its partition %q has %d", p.Name, have.Image.Size, target.ID, target.Size)
		return errkind.WithName(err, errkind.NameFilesystemSizeExceedsBlockDevice)
	case p.Name == "/boot" && have.Type != string(hostconfig.Ext4):
		return errkind.WithName(errkind.Errorf(errkind.Invalid, "the image's file system for /boot is %s, and must be ext4", have.Type), errkind.NameUnsupportedBootFileSystemType)
	}
	return nil
}

// overrideSafety is a file below / that disables safeToInstall.
const overrideSafety = "override-trident-safety-check"

// safeToInstall refuses an installation from an installed system, which does not know that
// Trident is about to replace it.
func (s *Service) safeToInstall() error {
	live := []string{"rootfs", "ramfs", "tmpfs", "overlay", "squashfs", "erofs", "iso9660"}
	if _, err := os.Stat(filepath.Join(s.Root, overrideSafety)); err == nil {
		return nil
	}
	table, err := inroot.FS(s.Root).ReadFile("proc/self/mountinfo", 16<<20)
	var mounts []*mountinfo.Info
	if err == nil {
		mounts, err = mountinfo.GetMountsFromReader(bytes.NewReader(table), nil)
	}
	if err != nil {
		return fmt.Errorf("find the type of the root file system: %w", err)
	}
	root := "unknown"
	for _, m := range mounts {
		if m.Mountpoint == "/" {
			root = m.FSType // the last one covers others
		}
	}
	if slices.Contains(live, root) {
		return nil
	}
	err = errkind.Errorf(errkind.Precondition, "this system runs from a disk (its root file system is %s), but an installation needs a live system", root)
	return errkind.WithName(errkind.WithHint(err, "Boot a live system, or create the file /%s to install from this one anyway.", overrideSafety), errkind.NameCleanInstallSafetyCheck)
}
