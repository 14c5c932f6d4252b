package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

type named struct {
	name, detail string
	path         string // of the finding
	doc          string
	bad          []change // what makes the fault
	good         []change // the nearest document without it; none is doc as it is
}

func (n named) test(t *testing.T) {
	t.Parallel()
	_, report := parse(hostconfigtest.Document(t, n.doc, n.bad...))
	i := slices.IndexFunc(report, func(f hostconfig.Finding) bool {
		return f.Name == n.name && f.Detail == n.detail && f.Severity == hostconfig.Error && f.Path == n.path
	})
	if i < 0 {
		t.Fatalf("no finding at %s, only:\n%v", n.path, report.Err())
	}
	if report[i].Line < 2 || report[i].Message == "" {
		t.Errorf("it has no place or no text: %s", report[i])
	}
	if hostconfig.Invalid(report.Err()).Name() != hostconfig.NameStatic {
		t.Errorf("as a whole it is %s", hostconfig.Invalid(report.Err()).Name())
	}
	if _, report := parse(hostconfigtest.Document(t, n.doc, n.good...)); report.Err() != nil {
		t.Errorf("the nearest good document is refused: %v", report.Err())
	}
}

func TestEachFaultOfADocumentIsFoundByItsName(t *testing.T) {
	var names []string
	for _, n := range staticNames() {
		names = append(names, n.name)
		t.Run(n.name, n.test)
	}
	names = append(names, "InvalidStorageGraph") // see the next test
	want := strings.Fields(`AdditionalFileBothContentAndSource AdditionalFileInvalidPermissions AdditionalFileNoContentOrSource
		DatastorePathInABUpdateVolume DatastorePathInvalidExtension DatastorePathNotInKnownVolume DuplicateExtensionImage
		DuplicateExtensionImagePath DuplicateUsernames EncryptedVolumeNotPartitionOrRaid EspMountPointNotFound ExpectedMountPointNotFound
		ExtensionImageInvalidDirectory ExtensionImageInvalidFileExtension ExtensionImageNotOnABVolume InvalidStorageGraph
		InvalidEncryptionRecoveryKeyUrlScheme InvalidInterfaceName InvalidNetplanVersion MountPointNotBackedByAbUpdateVolumePair
		MountPointNotBackedByBlockDevice MountPointNotBackedByImage VarTmpOnReadOnlyVolume OverlayOnReadOnlyVolume
		OverlayOnVerityProtectedVolume PathNotAbsolute VerityDeviceNameInvalid SelfUpgradeOnReadOnlyRootVerityFs
		UnsupportedEncryptionPcrs UnsupportedNetplanRenderer UnsupportedVerityDevices VerityFilesystemWithoutMountPoint
		VerityDeviceMountedReadWrite`)
	compareNames(t, want, names, 33)
}

func TestEachFaultOfStorageIsFoundByItsName(t *testing.T) {
	var names []string
	for _, n := range graphNames() {
		n.name = "InvalidStorageGraph"
		names = append(names, n.detail)
		t.Run(n.detail, n.test)
	}
	want := strings.Fields(`BasicCheckFailed DuplicateDeviceId DuplicateMountPoint DuplicateTargetId FilesystemEspMultiple
		FilesystemMissingBlockDeviceId FilesystemMissingMountPoint FilesystemUnexpectedBlockDeviceId
		InternalError InvalidPartitionType InvalidPartitionTypeSpecial InvalidRaidlevel InvalidReferenceKind InvalidSpecialReferenceKind
		InvalidTargetCount InvalidTargets InvalidVerityHashPartitionType MountPointPathNotAbsolute NonExistentReference
		PartitionSizeMismatch PartitionSizeNotFixed PartitionTypeMismatch PartitionTypeMismatchSpecial ReferenceKindMismatch
		UniqueFieldConstraintError ReferrerForbiddenSharing`)
	compareNames(t, want, names, 26)
}

func compareNames(t *testing.T, want, got []string, count int) {
	t.Helper()
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("names without a test, or unknown ones (-want +got):\n%s", diff)
	}
	if len(want) != count {
		t.Errorf("there are %d names, and not %d", len(want), count)
	}
}

func staticNames() []named {
	return []named{
		{"AdditionalFileBothContentAndSource", "", "os.additionalFiles[0]", "slots",
			[]change{{"content: hello", "content: hello, source: /motd"}}, []change{{"content: hello", "source: /motd"}}},
		{"AdditionalFileNoContentOrSource", "", "os.additionalFiles[0]", "slots",
			[]change{{"content: hello, ", ""}}, []change{{"content: hello", "content: ''"}}},
		{"AdditionalFileInvalidPermissions", "", "os.additionalFiles[0].permissions", "slots",
			[]change{{"'0644'", "'01777'"}}, []change{{"'0644'", "'0777'"}}},
		{"AdditionalFileInvalidPermissions", "", "os.additionalFiles[0].permissions", "slots",
			[]change{{"'0644'", "'644'"}}, []change{{"'0644'", "'0'"}}},
		{"DatastorePathInABUpdateVolume", "", "trident.datastorePath", "slots",
			[]change{{"datastorePath: /var/lib/trident/", "datastorePath: /var/lib/"}}, []change{{"datastorePath: /var/lib/trident/", "datastorePath: /srv/"}}},
		{"DatastorePathInvalidExtension", "", "trident.datastorePath", "slots",
			[]change{{"datastore.sqlite", "datastore.db"}}, []change{{"datastore.sqlite", "d.sqlite"}}},
		{"DatastorePathNotInKnownVolume", "", "trident.datastorePath", "slots",
			[]change{{"datastorePath: /var/lib/trident/", "datastorePath: /tmp/"}},
			[]change{{"datastorePath: /var/lib/trident/", "disable: true\n  datastorePath: /tmp/"}}},
		{"DuplicateExtensionImage", "", "os.sysexts[1].sha384", "slots",
			[]change{{strings.Repeat("2", 96), strings.Repeat("1", 96)}}, []change{{strings.Repeat("2", 96), "3" + strings.Repeat("1", 95)}}},
		{"DuplicateExtensionImagePath", "", "os.sysexts[1].path", "slots",
			[]change{{"/etc/extensions/two.raw", "/var/lib/extensions//one.raw"}}, []change{{"/etc/extensions/two.raw", "/var/lib/extensions/two.raw"}}},
		{"DuplicateUsernames", "", "os.users[1].name", "slots", []change{{"bob", "alice"}}, []change{{"bob", "Alice"}}},
		{"EncryptedVolumeNotPartitionOrRaid", "", "storage.encryption.volumes[0].deviceId", "slots",
			[]change{{"deviceId: secret", "deviceId: root"}}, []change{{"deviceId: secret", "deviceId: spare-a"}}},
		{"EspMountPointNotFound", "", "storage.filesystems", "slots",
			[]change{{"path: /boot/efi", "path: /efi"}}, []change{{"deviceId: esp, mountPoint: {path: /boot/efi", "deviceId: esp, overrideEspMount: override, mountPoint: {path: /efi"}}},
		{"EspMountPointNotFound", "", "storage.filesystems", "slots",
			[]change{{"{deviceId: esp,", "{deviceId: esp, overrideEspMount: block,"}}, nil},
		{"ExpectedMountPointNotFound", "", "storage.filesystems", "slots",
			[]change{{"mountPoint: /}", "mountPoint: /mnt}"}, {"datastorePath: /var/lib/trident/", "datastorePath: /srv/"}}, nil},
		{"ExpectedMountPointNotFound", "", "storage.filesystems", "verity",
			[]change{{"{deviceId: boot, mountPoint: /boot}", "{deviceId: boot}"}}, nil},
		{"ExtensionImageInvalidDirectory", "", "os.sysexts[0].path", "slots",
			[]change{{"/var/lib/extensions/one.raw", "/opt/one.raw"}}, []change{{"/var/lib/extensions/one.raw", "/.extra/sysext/one.raw"}}},
		{"ExtensionImageInvalidDirectory", "", "os.sysexts[0].path", "slots",
			[]change{{"/var/lib/extensions/one.raw", "one.raw"}}, nil},
		{"ExtensionImageInvalidFileExtension", "", "os.sysexts[0].path", "slots",
			[]change{{"extensions/one.raw", "extensions/one.img"}}, []change{{"extensions/one.raw", "extensions/one.img.raw"}}},
		{"ExtensionImageInvalidFileExtension", "", "os.sysexts[0].path", "slots",
			[]change{{"extensions/one.raw", "extensions/.raw"}}, []change{{"extensions/one.raw", "extensions/one.raw/"}}},
		{"ExtensionImageNotOnABVolume", "", "os.sysexts[0].path", "slots",
			[]change{{"mountPoint: /srv}", "mountPoint: /var}"}}, nil},
		{"ExtensionImageNotOnABVolume", "", "os.sysexts[0]", "slots",
			[]change{{"\n    path: /var/lib/extensions/one.raw", ""}, {"mountPoint: /srv}", "mountPoint: /var}"}},
			[]change{{"\n    path: /var/lib/extensions/one.raw", ""}}},
		{"InvalidEncryptionRecoveryKeyUrlScheme", "", "storage.encryption.recoveryKeyUrl", "slots",
			[]change{{"file:///recovery.key", "https://example.org/recovery.key"}}, []change{{"    recoveryKeyUrl: file:///recovery.key\n", ""}}},
		{"InvalidInterfaceName", "", "os.netplan.ethernets.eth*", "slots",
			[]change{{"eth0:", "eth*:"}}, []change{{"eth0:", "eth0.1:"}}},
		{"InvalidInterfaceName", "", `os.netplan.ethernets["eth 0"]`, "slots", []change{{"eth0:", "eth 0:"}}, nil},
		{"InvalidNetplanVersion", "", "os.netplan.version", "slots", []change{{"version: 2", "version: 1"}}, nil},
		{"MountPointNotBackedByAbUpdateVolumePair", "", "storage.filesystems[2]", "verity",
			[]change{{"{deviceId: overlay,", "{deviceId: overlay-a,"}, {"    - {id: overlay, volumeAId: overlay-a, volumeBId: overlay-b}\n", ""}}, nil},
		{"MountPointNotBackedByBlockDevice", "", "storage.filesystems[2]", "verity",
			[]change{{"{deviceId: overlay, source: new,", "{source: new, type: tmpfs,"}}, []change{{"{deviceId: overlay, source: new,", "{deviceId: overlay, source: new, type: ext4,"}}},
		{"MountPointNotBackedByImage", "", "storage.filesystems[1].type", "slots",
			[]change{{"{deviceId: root, ", "{source: new, type: tmpfs, "}}, nil},
		{"MountPointNotBackedByImage", "", "storage.filesystems[1].source", "slots",
			[]change{{"{deviceId: root, ", "{deviceId: root, source: new, "}}, []change{{"{deviceId: root, ", "{deviceId: root, source: image, "}}},
		{"MountPointNotBackedByImage", "", "storage.filesystems[0].source", "slots",
			[]change{{"{deviceId: esp, ", "{deviceId: esp, source: new, type: vfat, "}},
			[]change{{"{deviceId: esp, ", "{deviceId: old-esp, source: adopted, "}}},
		{"VarTmpOnReadOnlyVolume", "", "storage.filesystems[1].mountPoint.options", "slots",
			[]change{{"mountPoint: /}", "mountPoint: {path: /, options: 'ro,noatime'}}"}},
			[]change{{"mountPoint: /}", "mountPoint: {path: /, options: 'noatime,errors=remount-ro'}}"}}},
		{"OverlayOnReadOnlyVolume", "", "storage.filesystems[2].mountPoint", "verity",
			[]change{{"trident-overlay, options: 'defaults'", "trident-overlay, options: ro"}}, []change{{"trident-overlay, options: 'defaults'", "trident-overlay, options: rw"}}},
		{"MountPointNotBackedByAbUpdateVolumePair", "", "storage.filesystems[4]", "verity",
			[]change{{"  - {deviceId: overlay, source: new, mountPoint: {path: /var/lib/trident-overlay, options: 'defaults'}}\n", ""}, {"path: /var, ", "path: /data, "}},
			[]change{{"  - {deviceId: overlay, source: new, mountPoint: {path: /var/lib/trident-overlay, options: 'defaults'}}\n", ""}}},
		{"OverlayOnReadOnlyVolume", "", "storage.filesystems[2].mountPoint", "single",
			[]change{{"  - {deviceId: overlay, source: new, mountPoint: /var/lib/trident-overlay}\n", ""}}, nil},
		{"OverlayOnVerityProtectedVolume", "", "storage.filesystems[2]", "single",
			[]change{{"  - {deviceId: overlay, source: new, mountPoint: /var/lib/trident-overlay}\n", ""}, {"options: ro}", "options: rw}"}}, nil},
		{"PathNotAbsolute", "", "scripts.postConfigure[0].path", "slots",
			[]change{{"{name: hook, runOn: [all], content: \"true\"}", "{name: hook, runOn: [all], path: hook.sh}"}},
			[]change{{"{name: hook, runOn: [all], content: \"true\"}", "{name: hook, runOn: [all], path: /hook.sh}"}}},
		{"DatastorePathNotInKnownVolume", "", "trident.datastorePath", "slots", []change{{"datastorePath: /", "datastorePath: "}}, nil},
		{"VerityDeviceNameInvalid", "", "storage.verity[0].name", "verity", []change{{"name: root,", "name: usr,"}}, nil},
		{"VerityDeviceNameInvalid", "", "storage.verity[0].name", "usr", []change{{"name: usr,", "name: root,"}}, nil},
		{"SelfUpgradeOnReadOnlyRootVerityFs", "", "internalParams.selfUpgradeTrident", "verity",
			[]change{{"os:", "internalParams: {selfUpgradeTrident: true}\nos:"}}, []change{{"os:", "internalParams: {selfUpgradeTrident: false}\nos:"}}},
		{"SelfUpgradeOnReadOnlyRootVerityFs", "", "internalParams.selfUpgradeTrident", "verity",
			[]change{{"os:", "internalParams: {selfUpgradeTrident: true}\nos:"}}, nil},
		{"UnsupportedEncryptionPcrs", "", "storage.encryption.pcrs[1]", "slots", []change{{"[4, 11]", "[4, 9]"}}, []change{{"[4, 11]", "[secure-boot-policy, 4, kernel-boot]"}}},
		{"UnsupportedNetplanRenderer", "", "os.netplan.renderer", "slots",
			[]change{{"version: 2", "version: 2\n    renderer: NetworkManager"}}, []change{{"version: 2", "version: 2\n    renderer: networkd"}}},
		{"UnsupportedVerityDevices", "", "storage.verity[1]", "usr",
			[]change{{"  filesystems:", "  - {id: more, name: more, dataDeviceId: usr-data, hashDeviceId: usr-hash}\n  filesystems:"}}, nil},
		{"UnsupportedVerityDevices", "", "storage.verity[0]", "usr", []change{{"path: /usr,", "path: /opt,"}}, nil},
		{"UnsupportedVerityDevices", "", "storage.verity[0]", "usr", []change{{"{deviceId: usr, ", "{deviceId: usr-data, "}}, nil},
		{"VerityFilesystemWithoutMountPoint", "", "storage.filesystems[2]", "usr",
			[]change{{"{deviceId: usr, mountPoint: {path: /usr, options: 'defaults,ro'}}", "{deviceId: usr}"}}, nil},
		{"VerityDeviceMountedReadWrite", "", "storage.filesystems[2].mountPoint", "usr",
			[]change{{"'defaults,ro'", "'defaults'"}}, []change{{"'defaults,ro'", "'ro,noatime'"}}},
	}
}
