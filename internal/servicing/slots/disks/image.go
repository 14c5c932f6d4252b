// Package disks makes the partitions of a slot and fills them from an image. It finds
// faults before it changes a disk, and verifies every partition that it writes.
package disks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// Internal parameters that upstream does not have: bytes per second, and bytes in all, that
// one operation may fetch of an image.
const (
	paramRate   = "imageBytesPerSecond"
	paramBudget = "imageDataBudget"
)

// Disks writes the disks of one host.
type Disks struct {
	*change.Host
	Machine machine.Machine
	// Keys returns what gives the keys of the encrypted volumes of an operation, by their ids:
	// the same key at each call, until the operation ends. Without Keys, Disks makes no
	// encrypted volumes.
	Keys func(r *record.Run) storage.Keys
}

// tools returns how an operation reaches the disks.
func (d *Disks) tools(r *record.Run) storage.Tools {
	t := d.Machine.Disks
	if d.Keys != nil {
		t.Key = d.Keys(r)
	}
	return t
}

// openImage opens the image that the record pins, or else the present one.
func (d *Disks) openImage(ctx context.Context, r *record.Run, c *hostconfig.Config) (*image.Image, *fetch.Meter, error) {
	want := c.Spec().Image
	if want == nil {
		return nil, nil, errkind.WithName(errkind.Errorf(errkind.Invalid, "the configuration has no image"), errkind.NameMissingOsImage)
	}
	digest := string(want.SHA384)
	if r.State.SHA384 != "" {
		digest = r.State.SHA384
	}
	meter := fetch.NewMeter(change.Number(c, paramRate), change.Number(c, paramBudget), r.State.Used)
	i, err := d.Open(ctx, Source{string(want.URL), r.State.Pin, digest, change.Flag(c, "relaxedCosiValidation"), meter}, r)
	if err != nil {
		return nil, nil, err
	}
	i.LimitWindow(r.State.Window)
	return i, meter, nil
}

// A Check finds, before a disk changes, a fault that would make a later step fail.
type Check = func(context.Context, *record.Run, *record.Examined) error

// Examine opens the image, records its pin and digest, checks whether image, configuration
// and host fit together, and plans the disks. It returns the first fault of that and of the
// checks.
func (d *Disks) Examine(ctx context.Context, r *record.Run, checks ...Check) (e *record.Examined, err error) {
	c, err := r.State.Config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := fetch.WithTimeout(ctx, change.FetchTimeout(c))
	defer cancel()
	i, meter, err := d.openImage(ctx, r, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		r.State.Used = meter.Used()
		err = errors.Join(err, i.Close())
	}()
	if r.State.Window, err = d.FitMemory(ctx, i); err != nil {
		return nil, err
	}
	r.State.Pin, r.State.SHA384, r.State.Carried = i.Pin(), i.SHA384(), record.CarriedBy(i)
	c = c.Amend(func(spec *hostconfig.Spec) { spec.Image.SHA384 = hostconfig.ImageHash(i.SHA384()) })
	r.State.Asked = c.Recorded()
	for _, f := range i.Warnings() {
		r.Logf(slog.LevelWarn, "the image: %s", f)
	}
	if len(r.State.Seed) == 0 {
		r.State.Seed = newSeed()
	}
	plan, err := d.fits(r, c, i)
	if err != nil {
		return nil, err
	}
	e = &record.Examined{Record: &r.State, Config: c, Image: i, Plan: plan, Whole: map[string]bool{}, Read: map[string]bool{}}
	for _, check := range checks {
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

// FitMemory checks that this host has the memory to unpack an image, and returns the
// largest zstd window in bytes that fits; 0: any.
func (d *Disks) FitMemory(ctx context.Context, i *image.Image) (window int64, err error) {
	available, known := d.Machine.Available()
	if !known {
		return 0, nil
	}
	if err := i.FitMemory(ctx, available); err != nil {
		return 0, errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	return i.Window(), nil
}

// ReadThrough verifies a local image before a disk changes. An image from the network is
// verified only as it is written.
func (d *Disks) ReadThrough(ctx context.Context, r *record.Run, e *record.Examined) error {
	if !e.Image.Local() {
		return nil
	}
	for _, p := range r.State.Parts {
		if p.Done || e.Read[p.File] {
			continue
		}
		from, err := p.In(e.Image)
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
func (d *Disks) fits(r *record.Run, c *hostconfig.Config, i *image.Image) (*storage.Plan, error) {
	m := i.Metadata()
	if err := d.SameArch(m); err != nil {
		return nil, err
	}
	if m.Bootloader == nil {
		err := errkind.Errorf(errkind.Unsupported, "the image boots by a boot loader that its metadata does not name")
		return nil, errkind.WithName(errkind.WithHint(err, "Build the image with COSI 1.1 or later."), errkind.NameInvalidBootConfiguration)
	}
	r.State.Bootloader = m.Bootloader.Type
	if err := d.sameOS(r, m); err != nil {
		return nil, err
	}
	plan, err := d.plan(r, c)
	if err != nil {
		return nil, err
	}
	for _, w := range plan.Warnings() {
		r.Logf(slog.LevelWarn, "%s", w)
	}
	if r.State.Parts, err = parts(c, m, i.Partitions(), plan, r.State.Purpose == record.Installs); err != nil {
		return nil, err
	}
	r.State.Paths, r.State.Disks = record.DevicesOf(plan.Paths()), record.DevicesOf(plan.DiskUUIDs())
	return plan, d.otherUUIDs(m, r, plan)
}

// SameArch refuses an image whose programs this machine cannot run.
func (d *Disks) SameArch(m *image.Metadata) error {
	if arch := m.Arch.Go(); arch != d.Machine.Arch {
		return errkind.WithName(errkind.Errorf(errkind.Incompatible, "the image is for the architecture %s, and this host is %s", m.Arch, d.Machine.Arch), errkind.NameMismatchedArchitecture)
	}
	return nil
}

// sameOS refuses an update to another OS.
func (d *Disks) sameOS(r *record.Run, m *image.Metadata) error {
	if r.State.Purpose == record.Installs {
		return nil
	}
	host, err := hostinfo.Read(d.Root)
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

// otherUUIDs refuses an image with a file system whose UUID another one has that stays, since a
// search by UUID might find either of them: in an update one that is in use, in an
// installation that GRUB boots, or beside other systems, any.
func (d *Disks) otherUUIDs(m *image.Metadata, r *record.Run, plan *storage.Plan) error {
	name, stays := errkind.NameDuplicateFsUuidAbUpdate, func(p blockdev.Node) bool { return p.Use.InUse() }
	if r.State.Purpose == record.Installs {
		if r.State.HasSealedKernel() && !r.State.Beside {
			return nil
		}
		name, stays = errkind.NameDuplicateFsUuid, staying(plan)
	}
	inv, err := d.Machine.Inventory()
	if err != nil {
		return err
	}
	for _, f := range m.Filesystems {
		if f.UUID == "" || slices.ContainsFunc(r.State.Parts, func(p record.Part) bool { return p.ESP && p.File == f.Image.Path }) {
			continue
		}
		for _, n := range inv.Nodes() {
			if stays(n) && strings.EqualFold(n.Content.UUID, f.UUID) {
				err := errkind.Errorf(errkind.Invalid, "the image's file system for %s has the UUID %s, as has %s, which is %s", f.MountPoint, f.UUID, n.Path, useOf(n))
				return errkind.WithName(errkind.WithHint(err, "Build the image again, with new UUIDs for its file systems."), name)
			}
		}
	}
	return nil
}

// staying returns whether a partition is still there after an installation: an adopted one, or
// one of a disk that the plan does not change.
func staying(plan *storage.Plan) func(blockdev.Node) bool {
	planned := plan.Describe().Disks
	return func(p blockdev.Node) bool {
		for _, d := range planned {
			if slices.ContainsFunc(d.Destroys, func(l storage.Loss) bool { return l.Path == p.Path }) {
				return false
			}
		}
		return true
	}
}

func useOf(p blockdev.Node) string {
	if p.Use.InUse() {
		return p.Use.String()
	}
	return "a partition that stays"
}

// plan returns the plan of the disks, the same one at each call of an operation.
func (d *Disks) plan(r *record.Run, c *hostconfig.Config) (*storage.Plan, error) {
	inv, err := d.Machine.Inventory()
	if err != nil {
		return nil, err
	}
	req := storage.Request{For: storage.Install, Slot: r.State.Slot, Seed: r.State.Seed, Arch: d.Machine.Arch}
	if r.State.Purpose != record.Installs {
		st, err := d.Store.Status(context.Background())
		if err != nil {
			return nil, err
		}
		req.For, req.Paths = storage.Update, st.PartitionPaths
		if arrays := d.Machine.Disks.Arrays; arrays != nil && len(c.Spec().Storage.RAID.Software) > 0 {
			if req.Arrays, err = arrays.Arrays(context.Background()); err != nil {
				return nil, err
			}
		}
	}
	return storage.NewPlan(&c.Spec().Storage, inv, req)
}

// parts returns the images that will be written, with their devices.
func parts(c *hostconfig.Config, m *image.Metadata, images []image.Partition, plan *storage.Plan, install bool) ([]record.Part, error) {
	spec := c.Spec()
	used := map[string]bool{}
	var out []record.Part
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
		list, err := partsOf(&spec.Storage, f, have)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			k := slices.IndexFunc(images, func(i image.Partition) bool { return i.File.Path == p.File })
			if k < 0 {
				return nil, errkind.WithName(errkind.Errorf(errkind.Corrupt, "the image has no file %s", p.File), errkind.NameCorruptOsImage)
			}
			if err := goesTo(p, spec, plan, images[k].File.Size, install); err != nil {
				return nil, err
			}
		}
		out = append(out, list...)
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

// goesTo checks that the device of a part can take it, unpacked to size bytes.
func goesTo(p record.Part, spec *hostconfig.Spec, plan *storage.Plan, size int64, install bool) error {
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
	case size > target.Size:
		err := errkind.Errorf(errkind.NoSpace, "the image's %s has %d bytes, and its partition %q has %d", p.What(), size, target.ID, target.Size)
		return errkind.WithName(err, errkind.NameFilesystemSizeExceedsBlockDevice)
	case p.Name == "/boot" && p.Type != string(hostconfig.Ext4):
		return errkind.WithName(errkind.Errorf(errkind.Invalid, "the image's file system for /boot is %s, and must be ext4", p.Type), errkind.NameUnsupportedBootFileSystemType)
	}
	return nil
}

func newSeed() []byte {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed)
	return seed
}
