// Package newos fills the new OS in a slot: it mounts the file systems of the OS, writes
// the files and settings of the configuration, and runs scripts in the OS. It finds
// faults before the operation changes a disk.
package newos

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

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/newext"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// OS is the new OS of one host.
type OS struct {
	*change.Host
	Machine machine.Machine
	// LinkTrident chooses the newer Trident for the OS below root: its own, or the extension
	// of this host. It returns the version of the extension, or "".
	LinkTrident func(root string) (version string, err error)
	// CheckBoot checks the folder /boot of an image before a disk changes.
	CheckBoot func(e *record.Examined, dir string) error
	// HandOverLogs copies the logs of this host, and of the operation so far, to a folder of
	// the installed system.
	HandOverLogs func(ctx context.Context, operationID, dir string) error
	// Reopen opens the encrypted volumes of the new OS, if a reboot has closed them.
	Reopen func(ctx context.Context, r *record.Run, c *hostconfig.Config) error
}

func (o *OS) extensions() *newext.Extensions { return &newext.Extensions{Host: o.Host} }

// newRoot is the folder on which a step mounts the OS in the slot while it needs that. Only
// root can enter the folder above it: nobody has tried that OS yet.
const newRoot = "run/trident/newroot/tree"

// tree is where the new OS is mounted, as this host sees it.
const tree = "/" + newRoot

// withTree mounts all file systems of the OS in the slot while use runs. whole makes the
// tree fit to run programs: without noexec, and with /dev, /proc and others.
func (o *OS) withTree(ctx context.Context, r *record.Run, whole bool, use func(c *hostconfig.Config, root string) error) (err error) {
	c, err := r.State.Config()
	if err != nil {
		return err
	}
	root := filepath.Join(o.Root, newRoot)
	if err := o.Machine.Clear(o.Touch, filepath.Dir(root)); err != nil {
		return err
	}
	if err := o.Reopen(ctx, r, c); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Unmount(ctx, r)) }()
	if err := o.Touch("mount newroot", func() error { return o.mountTree(r, c, root, whole) }); err != nil {
		return errkind.WithName(err, errkind.NameMountNewroot)
	}
	return use(c, root)
}

// Unmount unmounts the new OS, also from the folder above newRoot, where older releases
// mounted it.
func (o *OS) Unmount(context.Context, *record.Run) error {
	above := filepath.Dir(filepath.Join(o.Root, newRoot))
	return errkind.WithName(o.Touch("unmount newroot", func() error { return o.Machine.Mounts.Unmount(above) }), errkind.NameUnmountNewroot)
}

func (o *OS) mountTree(r *record.Run, c *hostconfig.Config, root string, whole bool) error {
	spec := &c.Spec().Storage
	for _, f := range storage.MountOrder(spec) {
		at, device, verified := path.Clean(f.MountPoint.Path), "", storage.VerityOf(spec, f.DeviceID) != nil
		if f.Type != hostconfig.Tmpfs {
			var err error
			if device, err = r.State.Path(c, storage.DataID(spec, f.DeviceID)); err != nil {
				return err
			}
		}
		mount := o.Machine.MountIn
		if verified {
			mount = o.Machine.MountVerified
		}
		if err := mount(root, at, device, !whole); err != nil {
			return err
		}
	}
	if storage.RootVerity(spec) != nil && !r.State.Immutable {
		if err := o.Machine.MountOverlay(root, "/etc", storage.EtcOverlay, !whole); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	return o.Machine.MountSystem(root)
}

// PostProvision runs the scripts that see the new OS from outside.
func (o *OS) PostProvision(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	return o.runScripts(ctx, r, hooks.Provision(c, r.State.Purpose.On()))
}

// PostConfigure runs the scripts that run in the new OS.
func (o *OS) PostConfigure(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	point := hooks.Configure(c, r.State.Purpose.On())
	point.Inside = true
	return o.runScripts(ctx, r, point)
}

func (o *OS) runScripts(ctx context.Context, r *record.Run, point hooks.Point) error {
	if len(hooks.Of(point.Scripts, point.On)) == 0 {
		return nil
	}
	point.Tree = tree
	return o.withTree(ctx, r, true, func(*hostconfig.Config, string) error { return hooks.Run(ctx, o.Host, r, r.ID, point) })
}

// Configure writes the files and settings of the configuration into the new OS. It may run
// again. Of an immutable OS it writes only files on other file systems than the root.
func (o *OS) Configure(ctx context.Context, r *record.Run) error {
	type part = func(context.Context, *record.Run, *hostconfig.Config, string) error
	parts := []part{o.checkSignatures, o.writeFstab, o.writeLayers, o.carryIdentity, o.setUpOS, o.placeFiles, o.extensions().Place, o.setUpTrident, o.guard}
	if r.State.Immutable {
		r.Logf(slog.LevelWarn, "the new system is immutable: it keeps the fstab, the machine ID and the name of its image, and no timer ends its trial if its Trident does not start")
		parts = []part{o.checkSignatures, o.placeFiles}
	}
	return o.withTree(ctx, r, false, func(c *hostconfig.Config, root string) error {
		for _, part := range parts {
			if err := part(ctx, r, c, root); err != nil {
				if ctx.Err() != nil {
					return errkind.With(errkind.Cancelled, err)
				}
				return err
			}
		}
		return nil
	})
}

func (o *OS) writeFstab(_ context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	text, err := storage.Fstab(&c.Spec().Storage, r.State.Paths.Map(), r.State.Slot)
	if err != nil {
		return err
	}
	return errkind.WithName(o.put(root, "/etc/fstab", 0o644, text), errkind.NameGenerateFstab)
}

// put writes a short file into a tree.
func (o *OS) put(root, name string, mode fs.FileMode, text string) error {
	return o.Touch("write "+path.Base(name), func() error {
		return osconfig.Write(root, name, mode, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
	})
}

// carryIdentity gives the new OS this host's identity, or, in an installation, none.
func (o *OS) carryIdentity(_ context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	return o.Touch("carry identity", func() error {
		if r.State.Purpose == record.Installs {
			return osconfig.ResetMachineID(root)
		}
		return osconfig.Carry(o.Root, root, c.Spec().OS.Hostname == "" && !change.Flag(c, "disableHostnameCarryOver"))
	})
}

func (o *OS) setUpOS(ctx context.Context, _ *record.Run, c *hostconfig.Config, root string) error {
	return osconfig.Setup(ctx, root, &c.Spec().OS, o.Tools, o.Touch)
}

func (o *OS) placeFiles(_ context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	if err := o.CheckResolved(root, c.Spec().OS.AdditionalFiles); err != nil {
		return err
	}
	for _, f := range c.Spec().OS.AdditionalFiles {
		mode, err := o.ModeOf(f)
		if err == nil {
			err = o.Touch("write file", func() error {
				return osconfig.Write(root, change.Absolute(f.Destination), mode, func(out io.Writer) error { return o.WriteContent(f, out) })
			})
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("write %s: %w", f.Destination, err), errkind.NameWriteAdditionalFile)
		}
		r.Logf(slog.LevelInfo, "%s is written", f.Destination)
	}
	return nil
}

// setUpTrident writes the path of the datastore into the new OS, and in an update chooses
// the newer Trident for it: its own or this host's extension.
func (o *OS) setUpTrident(ctx context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	if at, isDefault := change.DatastorePath(c); !isDefault {
		if err := o.put(root, "/etc/trident/trident.conf", 0o644, "DatastorePath="+at+"\n"); err != nil {
			return errkind.WithName(err, errkind.NameCreateConfigurationFile)
		}
	}
	if r.State.Purpose == record.Installs {
		return nil
	}
	if at := verifiedBelow(&c.Spec().Storage, change.OwnPath); at != "" {
		r.Logf(slog.LevelInfo, "the new system runs the trident of its image: %s is on the file system at %s, which is verified", change.OwnPath, at)
		return nil
	}
	version, err := o.LinkTrident(root)
	if err != nil || version == "" {
		return err
	}
	r.Logf(slog.LevelInfo, "the new system runs trident %s, which is newer than the version in its image", version)
	return o.Touch("enable systemd-sysext.service", func() error {
		return osconfig.Systemctl(ctx, o.Tools, root, "enable", "systemd-sysext.service")
	})
}

// ConfigureEffects describes what Configure does.
func ConfigureEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	spec := p.Config.Spec()
	o := &spec.OS
	if p.Record.Immutable {
		for _, f := range o.AdditionalFiles {
			out.Add("write-file", f.Destination, "write %s", f.Destination)
		}
		return out
	}
	out.Add("write-fstab", "/etc/fstab", "write /etc/fstab of the new system")
	if len(spec.Storage.RAID.Software) > 0 {
		out.Add("write-mdadm-conf", mdadmConf, "write the arrays of the new system to %s", mdadmConf)
	}
	if e := spec.Storage.Encryption; e != nil && len(e.Volumes) > 0 {
		out.Add("write-crypttab", crypttab, "write the encrypted volumes of the new system to %s", crypttab)
	}
	if p.Record.Purpose == record.Installs {
		out.Add("reset-machine-id", "/etc/machine-id", "have the new system make a machine ID at its first boot")
	} else {
		out.Add("carry-identity", "/etc/machine-id", "give the new system the identity of this host")
	}
	for _, u := range o.Users {
		out.Add("set-up-user", u.Name, "set up the user %s", u.Name)
	}
	if o.Hostname != "" {
		out.Add("set-hostname", o.Hostname, "set the name of the host to %s", o.Hostname)
	}
	for _, m := range o.Modules {
		out.Add("set-up-module", m.Name, "set up the kernel module %s", m.Name)
	}
	for _, s := range o.Services.Enable {
		out.Add("enable-service", s, "enable %s", s)
	}
	for _, s := range o.Services.Disable {
		out.Add("disable-service", s, "disable %s", s)
	}
	if o.SELinux.Mode != "" {
		out.Add("set-selinux-mode", string(o.SELinux.Mode), "set the mode of SELinux to %s", o.SELinux.Mode)
	}
	if o.Netplan != nil {
		out.Add("write-netplan", "", "write the network configuration")
	}
	for _, f := range o.AdditionalFiles {
		out.Add("write-file", f.Destination, "write %s", f.Destination)
	}
	for _, e := range o.Sysexts {
		out.Add("add-sysext", change.ExtensionName(e), "add the sysext %s", change.ExtensionName(e))
	}
	for _, e := range o.Confexts {
		out.Add("add-confext", change.ExtensionName(e), "add the confext %s", change.ExtensionName(e))
	}
	for _, c := range p.Record.Carried {
		out.Add("add-"+string(c.Class), c.File, "add the %s %s that the image carries", c.Class, c.File)
	}
	if p.Record.Purpose != record.Installs {
		out.Add("arm-guard", guardTimer, "have the new system reboot into this one unless Trident confirms it in time")
	}
	return out
}

// LabelEffects describes what Label does.
func LabelEffects(*record.Examined) []change.Effect {
	var out change.Effects
	out.Add("label-files", "", "label the files of the new system, if SELinux is on in it")
	return out
}
