package hostconfig

import (
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

type (
	// PartitionTableType is a kind of partition table.
	PartitionTableType string
	// PartitionType is the purpose of a partition: a name below, or a UUID in lower case.
	PartitionType string
	// RAIDLevel is how an array distributes data.
	RAIDLevel string
	// FilesystemSource is the origin of the content of a file system.
	FilesystemSource string
	// FilesystemType is a kind of file system.
	FilesystemType string
	// ESPMount says whether a file system is the EFI system partition to use.
	ESPMount string
	// CorruptionOption is what the kernel does when data does not match its hash.
	CorruptionOption string
	// SELinuxMode is a mode of SELinux.
	SELinuxMode string
	// PasswordType is a kind of password.
	PasswordType string
	// SSHMode says whether a user may log in over SSH.
	SSHMode string
	// LoadMode says whether a module is loaded at boot.
	LoadMode string
	// UEFIFallback says which boot files \EFI\BOOT has.
	UEFIFallback string
)

const (
	GPT PartitionTableType = "gpt"

	PartitionESP          PartitionType = "esp"
	PartitionRoot         PartitionType = "root"
	PartitionSwap         PartitionType = "swap"
	PartitionRootVerity   PartitionType = "root-verity"
	PartitionHome         PartitionType = "home"
	PartitionVar          PartitionType = "var"
	PartitionUsr          PartitionType = "usr"
	PartitionUsrVerity    PartitionType = "usr-verity"
	PartitionTmp          PartitionType = "tmp"
	PartitionLinuxGeneric PartitionType = "linux-generic"
	PartitionSrv          PartitionType = "srv"
	PartitionXbootldr     PartitionType = "xbootldr"

	RAID0  RAIDLevel = "raid0"  // striping
	RAID1  RAIDLevel = "raid1"  // mirroring
	RAID5  RAIDLevel = "raid5"  // striping with parity
	RAID6  RAIDLevel = "raid6"  // striping with double parity
	RAID10 RAIDLevel = "raid10" // striping over mirrors

	FromImage   FilesystemSource = "image"   // the content comes from the OS image
	FromNew     FilesystemSource = "new"     // Trident makes an empty file system
	FromAdopted FilesystemSource = "adopted" // the file system exists, on an adopted partition

	Ext4  FilesystemType = "ext4"
	XFS   FilesystemType = "xfs"
	VFAT  FilesystemType = "vfat"
	NTFS  FilesystemType = "ntfs"
	Tmpfs FilesystemType = "tmpfs" // in memory, without a device
	Auto  FilesystemType = "auto"  // detected by mount(8)

	Overlay FilesystemType = "overlay" // in memory, over other file systems; upstream has it, and no version of Trident sets it up
	ISO9660 FilesystemType = "iso9660" // of an adopted partition

	ESPDefault  ESPMount = "use-default" // if it is mounted at /boot/efi
	ESPOverride ESPMount = "override"    // yes
	ESPBlock    ESPMount = "block"       // no

	CorruptionIOError CorruptionOption = "io-error" // the read fails
	CorruptionIgnore  CorruptionOption = "ignore"   // only a message is logged
	CorruptionPanic   CorruptionOption = "panic"    // the kernel panics
	CorruptionRestart CorruptionOption = "restart"  // the host restarts

	SELinuxDisabled   SELinuxMode = "disabled"
	SELinuxPermissive SELinuxMode = "permissive" // violations of the policy are logged
	SELinuxEnforcing  SELinuxMode = "enforcing"  // violations of the policy are refused

	PasswordLocked PasswordType = "locked" // no password lets the user in

	SSHBlock   SSHMode = "block"    // no login over SSH
	SSHKeyOnly SSHMode = "key-only" // login with a key

	LoadAlways  LoadMode = "always"  // loaded at boot
	LoadAuto    LoadMode = "auto"    // loaded when the kernel needs it
	LoadDisable LoadMode = "disable" // never loaded
	LoadInherit LoadMode = "inherit" // as the OS image has set it

	FallbackConservative UEFIFallback = "conservative" // EFI/BOOT has the boot files of the OS that was kept last
	FallbackOptimistic   UEFIFallback = "optimistic"   // EFI/BOOT has the boot files of the OS that was written last
	FallbackDisabled     UEFIFallback = "disabled"     // Trident does not change EFI/BOOT
)

func (PartitionTableType) Values() form.Values {
	return form.Words(GPT)
}

func (PartitionType) Values() form.Values {
	v := form.Words(PartitionESP, PartitionRoot, PartitionSwap, PartitionRootVerity, PartitionHome, PartitionVar, PartitionUsr,
		PartitionUsrVerity, PartitionTmp, PartitionLinuxGeneric, PartitionSrv, PartitionXbootldr)
	v.Pattern = uuidPattern
	return v
}

// IsName reports whether p is one of the names, and not a UUID.
func (p PartitionType) IsName() bool { return slices.Contains(p.Values().Words, string(p)) }

func (p *PartitionType) parse(text, _ string) error {
	if *p = PartitionType(text); p.IsName() {
		return nil
	}
	id, err := parseUUID(text)
	*p = PartitionType(id)
	if err != nil {
		return fmt.Errorf("%s, or a UUID", notOneOf(text, p.Values().Words))
	}
	return nil
}

func (RAIDLevel) Values() form.Values {
	return form.Words(RAID0, RAID1, RAID5, RAID6, RAID10)
}

func (FilesystemSource) Values() form.Values {
	return form.Words(FromImage, FromNew, FromAdopted)
}

func (FilesystemType) Values() form.Values {
	return form.Words(Ext4, XFS, VFAT, NTFS, Tmpfs, Auto, Overlay, ISO9660)
}

func (ESPMount) Values() form.Values {
	return form.Words(ESPDefault, ESPOverride, ESPBlock)
}

func (CorruptionOption) Values() form.Values {
	return form.Words(CorruptionIOError, CorruptionIgnore, CorruptionPanic, CorruptionRestart)
}

func (SELinuxMode) Values() form.Values {
	return form.Words(SELinuxDisabled, SELinuxPermissive, SELinuxEnforcing)
}

func (PasswordType) Values() form.Values {
	return form.Words(PasswordLocked)
}

func (SSHMode) Values() form.Values {
	return form.Words(SSHBlock, SSHKeyOnly)
}

func (LoadMode) Values() form.Values {
	return form.Words(LoadAlways, LoadAuto, LoadDisable, LoadInherit)
}

func (UEFIFallback) Values() form.Values {
	return form.Words(FallbackConservative, FallbackOptimistic, FallbackDisabled)
}
