package disks

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// CheckDevices checks that the plan, the image's file systems and the tools of this host fit
// together.
func (d *Disks) CheckDevices(ctx context.Context, r *record.Run, e *record.Examined) error {
	for _, check := range []Check{d.checkKept, d.checkContents, d.checkTools} {
		if err := check(ctx, r, e); err != nil {
			return err
		}
	}
	return nil
}

// checkKept fails if a kept file system that the new system mounts is of unknown type.
func (d *Disks) checkKept(_ context.Context, r *record.Run, e *record.Examined) error {
	inv, err := d.Machine.Inventory()
	if err != nil {
		return err
	}
	formats := e.Plan.Describe().Formats
	for _, f := range storage.MountOrder(&e.Config.Spec().Storage) {
		written := slices.ContainsFunc(r.State.Parts, func(p record.Part) bool {
			return p.Device == storage.DataID(&e.Config.Spec().Storage, f.DeviceID) && !p.ESP
		}) ||
			slices.ContainsFunc(formats, func(n storage.Format) bool { return n.ID == f.DeviceID })
		if f.DeviceID == "" || written {
			continue
		}
		target, err := e.Plan.Target(f.DeviceID)
		if err != nil {
			return err
		}
		if n, ok := inv.Node(target.Path); ok && target.Action != storage.Create && n.Content.Type == "" {
			err := errkind.Errorf(errkind.Precondition, "device %q (%s), for %s, has no file system that is known", target.ID, target.Path, f.MountPoint.Path)
			return errkind.WithName(err, errkind.NameMountNewroot)
		}
	}
	return nil
}

// checkContents checks the first bytes of the image's file systems. They are not verified
// yet, so wrong bytes can only make it refuse an image that "write" would accept.
func (d *Disks) checkContents(ctx context.Context, r *record.Run, e *record.Examined) error {
	for _, p := range r.State.Parts {
		if p.ESP || p.Type == record.HashTree { // see CheckVerity
			continue
		}
		head, err := headOf(ctx, p, e.Image)
		if err == nil {
			e.Whole[p.File], err = e.Plan.CheckContent(p.Device, head)
		}
		if err == nil {
			err = d.checkWritable(p, e)
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("the image's %s: %w", p.What(), err), errkind.NameDeployImages)
		}
	}
	return nil
}

func headOf(ctx context.Context, p record.Part, i *image.Image) ([]byte, error) {
	from, err := p.In(i)
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
func (d *Disks) checkWritable(p record.Part, e *record.Examined) error {
	if p.Tree != nil { // what Trident writes goes to the overlay on /etc
		return nil
	}
	if !slices.Contains([]string{"erofs", "squashfs", "iso9660", "cramfs"}, p.Type) {
		return nil
	}
	in := "/etc"
	for _, f := range storage.MountOrder(&e.Config.Spec().Storage) {
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
func (d *Disks) checkTools(_ context.Context, r *record.Run, e *record.Examined) error {
	if err := e.Plan.CheckTools(d.tools(r)); err != nil {
		return err
	}
	tools := e.Plan.Tools()
	if d.Machine.Disks.Udev && r.State.Purpose == record.Installs {
		tools = append(tools, "udevadm")
	}
	for _, p := range r.State.Parts {
		if !p.ESP && !p.ReadOnly && !e.Whole[p.File] {
			tools = append(tools, storage.ResizeTools(p.Type)...)
		}
	}
	return d.Machine.FindTools(tools)
}

// CheckFormats has mkfs try the new file systems without effect.
func (d *Disks) CheckFormats(ctx context.Context, _ *record.Run, e *record.Examined) error {
	return e.Plan.Rehearse(ctx, d.Machine.Disks.Runner, d.StagedDir())
}
