package hostconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

func recorded(t *testing.T, text string) *Config {
	t.Helper()
	c, err := ParseRecorded([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOlderShapesGetTheirPresentPlace(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 48)
	for _, c := range []struct{ name, old, now string }{
		{"osImage", "osImage: {url: 'file:///x', type: cosi, sha384: " + hash + "}", "image: {url: 'file:///x', sha384: ignored}"},
		{"osImage beside image", "osImage: {url: 'file:///x'}\nimage: {url: 'file:///y', sha384: " + hash + "}",
			"image: {url: 'file:///y', sha384: " + hash + "}\nosImage: {url: 'file:///x'}"},
		{"network of the OS", "os: {network: {version: 2}}", "os: {netplan: {version: 2}}"},
		{"network of the management OS", "managementOs: {network: {version: 2}}", "managementOs: {netplan: {version: 2}}"},
		{"selfUpgrade", "trident: {selfUpgrade: true, enableGrpc: true, disable: true}", "trident: {disable: true}"},
		{"verityFilesystems",
			"storage: {verityFilesystems: [{name: root, dataDeviceId: d, hashDeviceId: h, type: ext4, dataImage: {url: 'file:///d'}, hashImage: {url: 'file:///h'}, mountPoint: {path: /, options: ro}}]}",
			"storage: {verity: [{id: verity0, name: root, dataDeviceId: d, hashDeviceId: h}], filesystems: [{deviceId: verity0, mountPoint: {path: /, options: ro}}]}"},
		{"verityFilesystems after other file systems",
			"storage: {filesystems: [{deviceId: b, type: ext4, mountPoint: /boot}], verityFilesystems: [{name: usr, dataDeviceId: d, hashDeviceId: h, mountPoint: {path: /usr, options: ro}}]}",
			"storage: {verity: [{id: verity0, name: usr, dataDeviceId: d, hashDeviceId: h}], filesystems: [{deviceId: b, mountPoint: /boot}, {deviceId: verity0, mountPoint: {path: /usr, options: ro}}]}"},
		{"verityFilesystems with ids",
			"storage: {verityFilesystems: [{id: v, name: root, dataDeviceId: d, hashDeviceId: h}]}",
			"storage: {verity: [{id: v, name: root, dataDeviceId: d, hashDeviceId: h}]}"},
		{"a source with its file",
			"storage: {filesystems: [{deviceId: e, type: vfat, source: {type: esp-image, url: 'file:///e', sha256: ignored, format: raw-zst}}]}",
			"storage: {filesystems: [{deviceId: e}]}"},
		{"a source that makes a file system", "storage: {filesystems: [{deviceId: d, type: xfs, source: {type: create}}]}",
			"storage: {filesystems: [{deviceId: d, type: xfs, source: new}]}"},
		{"a source that adopts", "storage: {filesystems: [{deviceId: d, type: ntfs, source: {type: adopted}}]}",
			"storage: {filesystems: [{deviceId: d, type: ntfs, source: adopted}]}"},
		{"the type of what is in an image", "storage: {filesystems: [{deviceId: d, type: ext4}, {deviceId: e, type: xfs, source: image}]}",
			"storage: {filesystems: [{deviceId: d}, {deviceId: e}]}"},
		{"uefiFallback rollback", "os: {uefiFallback: rollback}", "os: {uefiFallback: conservative}"},
		{"uefiFallback rollforward", "os: {uefiFallback: rollforward}", "os: {uefiFallback: optimistic}"},
		{"uefiFallback none", "os: {uefiFallback: none}", "os: {uefiFallback: disabled}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, want := recorded(t, c.old), recorded(t, c.now)
			if diff := cmp.Diff(want.Spec(), got.Spec()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(string(want.YAML()), string(got.YAML())); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownKeysAreKeptAndWrittenAgain(t *testing.T) {
	t.Parallel()
	const text = `storage:
  disks:
  - id: d
    device: /dev/sda
    partitionTableType: gpt
    partitions:
    - id: p
      size: 8M
      speed: 1.50
    wipe:
    - yes
    - 0x10
    - true
    - null
os:
  hostname: h
  uefiFallback: eager
future:
  deep: {}
`
	c := recorded(t, text)
	once := string(c.YAML())
	hostconfigtest.Golden(t, "unknown.yaml", once)
	if again := string(recorded(t, once).YAML()); again != once {
		t.Errorf("not stable:\n%s", cmp.Diff(once, again))
	}
	if c.Spec().OS.UEFIFallback != "eager" || c.Spec().OS.Hostname != "h" {
		t.Errorf("got %+v", c.Spec().OS)
	}
	if amended := string(c.Amend(func(s *Spec) { s.OS.Hostname = "other" }).YAML()); amended != strings.Replace(once, "hostname: h\n", "hostname: other\n", 1) {
		t.Errorf("amended:\n%s", cmp.Diff(once, amended))
	}
}

func TestARecordedDocumentNeedNotBeWhole(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "null", "{}", "storage: {disks: [{id: d}], raid: {software: [{}]}}", "image: {url: null}", "health: {checks: [{}]}"} {
		c := recorded(t, text)
		if again := string(recorded(t, string(c.YAML())).YAML()); again != string(c.YAML()) {
			t.Errorf("%q is written as:\n%s", text, c.YAML())
		}
	}
}

func TestARecordedDocumentWithAValueOfAnotherTypeIsCorrupt(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"[]", "image: []", "os: {users: x}", "a: [", "\xff", "storage: {disks: [{partitions: [{size: huge}]}]}"} {
		if _, err := ParseRecorded([]byte(text)); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%q: %v", text, err)
		}
	}
}
