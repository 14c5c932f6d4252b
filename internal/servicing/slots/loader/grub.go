package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/boot/grubcfg"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// paramAnyGrub is the internal parameter that allows an image whose GRUB has an ordinary
// name.
const paramAnyGrub = "disableGrubNoprefixCheck"

// bootRoot is the folder on which Loader mounts the file system with /boot of the slot while
// it reads the kernel's place.
const bootRoot = "run/trident/boot"

// grubTypes are the file systems that GRUB of the images reads.
var grubTypes = []string{"ext4", "xfs", "btrfs"}

// checkBootType fails if GRUB cannot read the image's file system with /boot.
func checkBootType(r *record.Run, e *record.Examined) error {
	id, _ := record.BootID(&e.Config.Spec().Storage)
	i := slices.IndexFunc(r.State.Parts, func(p record.Part) bool { return p.Device == id && !p.ESP })
	if r.State.HasSealedKernel() || i >= 0 && slices.Contains(grubTypes, r.State.Parts[i].Type) {
		return nil
	}
	if i < 0 {
		err := errkind.Errorf(errkind.Invalid, "the image boots by GRUB, and the configuration does not take the file system with /boot from the image")
		return errkind.WithName(err, errkind.NameInvalidBootConfiguration)
	}
	p := r.State.Parts[i]
	err := errkind.Errorf(errkind.Invalid, "the image's file system for %s has /boot and is %s; GRUB needs one of %s", p.Name, p.Type, strings.Join(grubTypes, ", "))
	return errkind.WithName(err, errkind.NameUnsupportedBootFileSystemType)
}

// CheckBoot fails if the folder /boot of an image that boots by GRUB does not name a kernel.
func (l *Loader) CheckBoot(e *record.Examined, dir string) error {
	if e.Record.HasSealedKernel() {
		return nil
	}
	k, err := kernelIn(dir)
	if err != nil {
		return err
	}
	e.Uname = k.Uname()
	// The root file system and its UUID come later; the arguments can be too long already.
	args, err := added(e.Record, e.Plan.Paths(), e.Config, "/dev/root")
	if err != nil {
		return err
	}
	_, err = k.With(dropped(e.Config), args).Config("uuid", "/")
	return errkind.WithName(err, errkind.NameUpdateGrubConfigs)
}

// kernelIn returns the kernel of the image whose /boot is the folder dir.
func kernelIn(dir string) (grubcfg.Kernel, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return grubcfg.Kernel{}, errkind.WithName(fmt.Errorf("read the image's /boot: %w", err), errkind.NameUpdateGrubConfigs)
	}
	k, err := grubcfg.Find(root.FS())
	if err = errors.Join(err, root.Close()); err != nil {
		err = errkind.WithHint(fmt.Errorf("find the kernel that the image boots by GRUB: %w", err), "Build the image with one menu entry, or with entries in /boot/loader/entries.")
	}
	return k, errkind.WithName(err, errkind.NameUpdateGrubConfigs)
}

// grubConfig returns the configuration of GRUB that boots the slot, from /boot of the slot, or
// "" for an image with another boot loader.
func (l *Loader) grubConfig(r *record.Run, c *hostconfig.Config) (config string, err error) {
	if r.State.HasSealedKernel() {
		return "", nil
	}
	spec := &c.Spec().Storage
	root, err := r.State.Path(c, record.RootID(spec))
	if err != nil {
		return "", err
	}
	id, folder := record.BootID(spec)
	device, err := r.State.Path(c, id)
	if err != nil {
		return "", err
	}
	content, err := l.Machine.Content(device)
	if err != nil {
		return "", err
	}
	args, err := added(&r.State, r.State.Paths.Map(), c, root)
	if err != nil {
		return "", err
	}
	at := filepath.Join(l.Root, bootRoot)
	err = l.Machine.WithMount(l.Touch, device, content.Type, at, func() error {
		k, err := kernelIn(filepath.Join(at, folder))
		if err != nil {
			return err
		}
		if len(k.Initrds) == 0 {
			r.Logf(slog.LevelWarn, "the image boots without an initrd; Trident makes none")
		}
		k = k.With(dropped(c), args)
		r.Logf(slog.LevelInfo, "GRUB of %s boots /boot/%s with: %s", r.State.Slot, k.Linux, strings.Join(k.Args, " "))
		config, err = k.Config(content.UUID, folder)
		return errkind.WithName(err, errkind.NameUpdateGrubConfigs)
	})
	return config, err
}

// dropped returns the keys of the kernel's arguments that the image has for its own disk, or
// that the configuration replaces.
func dropped(c *hostconfig.Config) []string {
	keys := []string{
		"root", "roothash", "rd.systemd.verity", "systemd.verity", "systemd.verity_root_data",
		"systemd.verity_root_hash", "systemd.verity_root_options", "rd.overlayfs",
	}
	for _, v := range c.Spec().Storage.Verity {
		if names, ok := storage.VerityArgumentsOf(v.Name); ok {
			for _, name := range []string{names.RootHash, names.Data, names.Hash, names.Options, names.Mount} {
				keys = append(keys, strings.TrimSuffix(name, "="))
			}
		}
	}
	if c.Spec().OS.SELinux.Mode != "" {
		keys = append(keys, "security", "selinux", "enforcing")
	}
	if c.Spec().OS.Netplan != nil {
		keys = append(keys, "network-config")
	}
	return keys
}

// added returns the arguments that the kernel needs for the root file system on a device and
// for verified file systems, and those that the configuration adds. The latter are last: the
// kernel takes the last value.
func added(r *record.Record, paths map[string]string, c *hostconfig.Config, device string) ([]string, error) {
	root := device
	if id, ok := strings.CutPrefix(device, storage.ByPartUUID); ok {
		root = "PARTUUID=" + id
	}
	var args []string
	spec := &c.Spec().Storage
	if storage.RootVerity(spec) == nil { // else it has its own
		args = append(args, "root="+root)
	}
	for i := range spec.Verity {
		v := &spec.Verity[i]
		at := slices.IndexFunc(r.Parts, func(p record.Part) bool { return p.Tree != nil && p.Tree.Device == v.HashDeviceID })
		if at < 0 {
			return nil, errkind.Errorf(errkind.Internal, "no hash tree of the image is for verity device %q", v.ID)
		}
		more, err := storage.VerityArguments(spec, paths, r.Slot, v, r.Parts[at].Tree.RootHash)
		if err != nil {
			return nil, err
		}
		args = append(args, more...)
	}
	switch c.Spec().OS.SELinux.Mode {
	case hostconfig.SELinuxEnforcing:
		args = append(args, "security=selinux", "selinux=1", "enforcing=1")
	case hostconfig.SELinuxPermissive:
		args = append(args, "security=selinux", "selinux=1", "enforcing=0")
	case hostconfig.SELinuxDisabled:
		args = append(args, "selinux=0")
	}
	if c.Spec().OS.Netplan != nil {
		args = append(args, "network-config=disabled") // cloud-init leaves the network to netplan
	}
	for _, extra := range c.Spec().OS.KernelCommandLine.ExtraCommandLine {
		args = append(args, grubcfg.SplitArgs(extra)...)
	}
	return args, nil
}
