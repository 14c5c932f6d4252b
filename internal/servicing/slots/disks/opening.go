package disks

import (
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// An opening is how the initrd of a UKI opens a verified part, by the command line that is
// sealed in the UKI (systemd-veritysetup-generator(8)).
type opening struct {
	run      *record.Run
	examined *record.Examined
	part     *record.Part
	cmdline  cmdline
	treeUUID string
}

// check fails if the initrd would not open the part, or would open another root hash or
// other devices. It sets Immutable.
func (o *opening) check() error {
	s := &o.examined.Config.Spec().Storage
	i := slices.IndexFunc(s.Verity, func(v hostconfig.Verity) bool { return v.HashDeviceID == o.part.Tree.Device })
	names, ok := storage.VerityArgumentsOf(s.Verity[i].Name)
	if !ok {
		return errkind.Errorf(errkind.Internal, "the initrd opens no verity device %q", s.Verity[i].Name)
	}
	for _, check := range []func(storage.VerityArgumentNames) error{o.checkRootHash, o.checkMount, o.checkDevices} {
		if err := check(names); err != nil {
			return errkind.WithName(fmt.Errorf("the command line sealed in the image's UKI %w", err), errkind.NameInvalidBootConfiguration)
		}
	}
	if err := o.checkCorruption(names, i); err != nil {
		return err
	}
	if o.part.Name != "/" {
		return nil
	}
	mounts, err := o.mountsEtc()
	o.run.State.Immutable = !mounts
	return err
}

func (o *opening) checkRootHash(names storage.VerityArgumentNames) error {
	got, is := o.cmdline.last(names.RootHash)
	switch want := o.part.Tree.RootHash; {
	case !is:
		return errkind.Errorf(errkind.Invalid, "has no %s for %s, so the kernel would not verify it; the image's metadata has %s", names.RootHash, o.part.Name, want)
	case !strings.EqualFold(got, want):
		return errkind.Errorf(errkind.Invalid, "has %s%s for %s, and the image's metadata has %s", names.RootHash, got, o.part.Name, want)
	}
	return nil
}

// checkMount fails if the initrd would open the verified device and mount another one.
func (o *opening) checkMount(names storage.VerityArgumentNames) error {
	for _, name := range []string{"systemd.verity=", "rd.systemd.verity="} {
		if v, is := o.cmdline.last(name); is && slices.Contains([]string{"0", "no", "n", "false", "f", "off"}, strings.ToLower(v)) {
			return errkind.Errorf(errkind.Invalid, "has %s%s, so the initrd would not open %s", name, v, o.part.Name)
		}
	}
	wants := "/dev/mapper/" + strings.TrimSuffix(strings.TrimPrefix(names.Mount, "mount."), "=")
	if v, is := o.cmdline.last(names.Mount); is && v != wants {
		return errkind.Errorf(errkind.Invalid, "has %s%s, so the kernel would mount %s without verifying it; with %s it must be %s", names.Mount, v, o.part.Name, names.RootHash, wants)
	}
	return nil
}

// checkDevices checks that the partitions for data and hash tree are those that the initrd
// looks for. An argument that is missing means a partition UUID that is half of the root hash.
func (o *opening) checkDevices(names storage.VerityArgumentNames) error {
	half := len(o.part.Tree.RootHash) / 2
	fsUUID := ""
	for _, f := range o.examined.Image.Metadata().Filesystems {
		if f.Image.Path == o.part.File {
			fsUUID = f.UUID
		}
	}
	for _, d := range []struct{ name, id, uuid, half string }{
		{names.Data, o.part.Device, fsUUID, o.part.Tree.RootHash[:half]},
		{names.Hash, o.part.Tree.Device, o.treeUUID, o.part.Tree.RootHash[half:]},
	} {
		value, is := o.cmdline.last(d.name)
		if !is {
			value = "PARTUUID=" + uuidText(d.half)
		}
		if err := o.names(d.name, value, d.id, d.uuid); err != nil {
			return err
		}
	}
	return nil
}

// names fails unless value names the partition for the device id, whose content has a UUID.
func (o *opening) names(arg, value, id, uuid string) error {
	target, err := o.examined.Plan.Target(id)
	if err != nil {
		return err
	}
	has := map[string]string{"UUID": uuid}
	if p := target.Partitions[0]; p.ID == target.ID { // not on an array
		has["PARTUUID"], has["PARTLABEL"] = p.UUID, p.Label
	}
	by, wanted, tagged := strings.Cut(value, "=")
	if dir, ok := strings.CutPrefix(value, "/dev/disk/by-"); ok {
		by, wanted, tagged = strings.Cut(dir, "/")
		by = strings.ToUpper(by)
	}
	actual, known := has[by]
	switch {
	case !tagged || !known:
		err := errkind.Errorf(errkind.Unsupported, "has %s%s, which may be another device at the next boot", arg, value)
		return errkind.WithHint(err, "Build the image with UUID=, which fits both slots.")
	case !strings.EqualFold(wanted, strings.ReplaceAll(actual, " ", `\x20`)):
		err := errkind.Errorf(errkind.Invalid, "makes the initrd look for %s%s=%s, and device %q for %s will have %s", arg, by, wanted, target.ID, o.part.Name, actual)
		return errkind.WithHint(err, "Build the image with UUID=, which fits both slots; or give the partition that UUID in storage.disks.")
	}
	return nil
}

// checkCorruption fails if the configuration wants another reaction to corrupt data than the
// sealed command line.
func (o *opening) checkCorruption(names storage.VerityArgumentNames, i int) error {
	wants := storage.CorruptionArgument(o.examined.Config.Spec().Storage.Verity[i].CorruptionOption)
	options, _ := o.cmdline.last(names.Options)
	has := strings.Split(options, ",")
	if wants == "" {
		return nil
	}
	if !slices.Contains(has, wants) {
		field := fmt.Sprintf("storage.verity[%d].corruptionOption", i)
		err := errkind.Errorf(errkind.Unsupported, "%s: the command line sealed in the image's UKI does not have %s%s, and Trident cannot add to it", field, names.Options, wants)
		err = errkind.WithHint(errkind.WithField(err, field), "Build the image with this argument, or remove corruptionOption.")
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	if _, is := o.cmdline.last("panic="); wants == "panic-on-corruption" && !is {
		o.run.Logf(slog.LevelWarn, "the command line sealed in the image's UKI has panic-on-corruption and no panic=: the host will stay as it is when data is corrupt")
	}
	return nil
}

// mountsEtc reports whether the sealed command line has the initrd mount the overlay on /etc
// that has Trident's changes of it. The error is that of an overlay on another partition.
func (o *opening) mountsEtc() (bool, error) {
	value, _ := o.cmdline.last("rd.overlayfs=")
	id, folder := storage.OverlayVolume(&o.examined.Config.Spec().Storage)
	for overlay := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == ';' }) {
		fields := strings.Split(overlay, ",") // lower, upper, work, partition, and maybe ro or rw
		if len(fields) < 4 || path.Clean("/"+fields[0]) != "/etc" {
			continue
		}
		if path.Clean("/"+fields[1]) != folder+"/upper" {
			o.run.Logf(slog.LevelWarn, "the overlay on /etc of the image's UKI keeps its changes in the folder %s of its partition, and Trident's are in %s", fields[1], folder+"/upper")
			return false, nil
		}
		uuid := o.uuidOf(id)
		if err := o.names("rd.overlayfs=", fields[3], id, uuid); err != nil {
			return false, errkind.WithName(fmt.Errorf("the command line sealed in the image's UKI %w", err), errkind.NameInvalidBootConfiguration)
		}
		return true, nil
	}
	return false, nil
}

// uuidOf returns the UUID that the file system on the device id will have.
func (o *opening) uuidOf(id string) (uuid string) {
	for _, f := range o.examined.Plan.Describe().Formats {
		if f.ID == id {
			uuid = f.UUID
		}
	}
	for _, p := range o.run.State.Parts {
		for _, f := range o.examined.Image.Metadata().Filesystems {
			if p.Device == id && p.File == f.Image.Path {
				uuid = f.UUID
			}
		}
	}
	return uuid
}

// uuidText returns 32 digits in the form of a UUID.
func uuidText(digits string) string {
	return fmt.Sprintf("%s-%s-%s-%s-%s", digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
}
