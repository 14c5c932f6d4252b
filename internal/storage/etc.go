package storage

import (
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/slot"
)

// Crypttab returns the whole /etc/crypttab (crypttab(5)) of the OS in a slot, or "" if the
// configuration has no encrypted volume. paths has the devices of the partitions, by id.
//
// The TPM unlocks all volumes, those of the other slot too, because an update writes them.
// That includes swap, which keeps its LUKS header, so that its key slots stay as Trident
// has bound them.
func Crypttab(s *hostconfig.Storage, paths map[string]string, in slot.Slot) (string, error) {
	if s.Encryption == nil || len(s.Encryption.Volumes) == 0 {
		return "", nil
	}
	var b strings.Builder
	b.WriteString(madeByTrident)
	for _, v := range s.Encryption.Volumes {
		device, err := Device(s, paths, in, v.DeviceID)
		if err != nil {
			return "", errkind.WithName(fmt.Errorf("make crypttab: %w", err), errkind.NameCreateCrypttab)
		}
		fmt.Fprintf(&b, "%s %s none luks,tpm2-device=auto\n", v.DeviceName, device)
	}
	return b.String(), nil
}

// MdadmConf returns the whole mdadm.conf(5) of an OS, or "" if the configuration has no
// array. It names the arrays of the configuration by the UUIDs that they have in inv, a
// present inventory, and no others.
func MdadmConf(s *hostconfig.Storage, inv *blockdev.Inventory) (string, error) {
	if len(s.RAID.Software) == 0 {
		return "", nil
	}
	var b strings.Builder
	b.WriteString(madeByTrident)
	b.WriteString("HOMEHOST any\n")
	for _, r := range s.RAID.Software {
		o, ok := inv.Other(arrayPath(r.Name))
		if !ok || o.UUID == "" {
			err := errkind.Errorf(errkind.NotFound, "make mdadm.conf: array %q: the host has no %s", r.ID, arrayPath(r.Name))
			return "", errkind.WithName(err, errkind.NameCreateMdadmConf)
		}
		fmt.Fprintf(&b, "ARRAY %s UUID=%s\n", arrayPath(r.Name), arrayUUID(o.UUID))
	}
	return b.String(), nil
}

// arrayUUID returns the UUID of an array as mdadm(8) writes it.
func arrayUUID(id string) string {
	digits := strings.ReplaceAll(id, "-", "")
	if len(digits) != 32 {
		return id
	}
	return strings.Join([]string{digits[:8], digits[8:16], digits[16:24], digits[24:]}, ":")
}
