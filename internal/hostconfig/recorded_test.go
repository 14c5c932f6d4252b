package hostconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
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
		{"osImage", "osImage: {url: 'file:///x', sha384: " + hash + "}", "image: {url: 'file:///x', sha384: " + hash + "}"},
		{"network of the OS", "os: {network: {version: 2}}", "os: {netplan: {version: 2}}"},
		{"network of the management OS", "managementOs: {network: {version: 2}}", "managementOs: {netplan: {version: 2}}"},
		{"selfUpgrade", "trident: {selfUpgrade: true, disable: true}", "trident: {disable: true}"},
		{"verityFilesystems",
			"storage: {verityFilesystems: [{name: root, dataDeviceId: d, hashDeviceId: h, fsType: ext4, mountPoint: {path: /, options: ro}}]}",
			"storage: {verity: [{id: root, name: root, dataDeviceId: d, hashDeviceId: h}], filesystems: [{deviceId: root, mountPoint: {path: /, options: ro}}]}"},
		{"verityFilesystems with ids",
			"storage: {verityFilesystems: [{id: v, name: root, dataDeviceId: d, hashDeviceId: h}]}",
			"storage: {verity: [{id: v, name: root, dataDeviceId: d, hashDeviceId: h}]}"},
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

func TestWhatIsNotKnownIsKeptAndWrittenAgain(t *testing.T) {
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
	golden(t, "unknown.yaml", once)
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
