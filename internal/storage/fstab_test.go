package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/slot"
)

func TestFstabHasAllThatIsMounted(t *testing.T) {
	t.Parallel()
	spec := parse(t, abConfig)
	plan, err := NewPlan(spec, inventory(emptyDisk("sda", 16*gib)), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []slot.Slot{slot.A, slot.B} {
		got, err := Fstab(spec, plan.Paths(), s)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "fstab-"+s.String(), []byte(got))
	}
}

// Upstream's samples also have what cannot be planned yet; their fstab can be
// made.
func TestFstabOfUpstreamsSamples(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob(filepath.Join(samples, "*.yaml"))
	if len(files) == 0 {
		t.Skip("there are no samples in ", samples)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		config, report := hostconfig.Parse(text, rules.Check)
		if config == nil {
			t.Fatal(report.Err())
		}
		spec, paths := &config.Spec().Storage, map[string]string{}
		for _, d := range spec.Disks {
			for _, p := range d.Partitions {
				paths[p.ID] = "/dev/disk/by-partuuid/" + p.ID
			}
		}
		got, err := Fstab(spec, paths, slot.A)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		golden(t, "fstab-"+strings.TrimSuffix(filepath.Base(file), ".yaml"), []byte(got))
	}
}

func TestFstabIsRefusedWithoutADevice(t *testing.T) {
	t.Parallel()
	spec := parse(t, abConfig)
	for name, s := range map[string]slot.Slot{"no paths": slot.A, "no slot": 0} {
		paths := map[string]string{}
		if s == 0 {
			paths = map[string]string{"esp": "x", "root-a": "x", "root-b": "x"}
		}
		if got, err := Fstab(spec, paths, s); errkind.Variant(err) != "GenerateFstab" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func mountedAt(id, path, options string) hostconfig.Filesystem {
	return hostconfig.Filesystem{DeviceID: id, MountPoint: &hostconfig.MountPoint{Path: path, Options: options}}
}

func TestFieldsOfFstabStayFields(t *testing.T) {
	t.Parallel()
	spec := &hostconfig.Storage{Filesystems: []hostconfig.Filesystem{mountedAt("a", "/with space\tand\\\n#/", "")}}
	got, err := Fstab(spec, map[string]string{"a": "/dev/a"}, slot.A)
	if err != nil || !strings.HasSuffix(got, "\n/dev/a /with\\040space\\011and\\134\\012\\043 auto defaults 0 2\n") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAMountFollowsTheMountThatContainsIt(t *testing.T) {
	t.Parallel()
	spec := &hostconfig.Storage{Filesystems: []hostconfig.Filesystem{
		mountedAt("4", "/boot/efi/", ""), mountedAt("6", "/var/lib/x", ""), {DeviceID: "not mounted"}, mountedAt("2", "/boot", ""),
		mountedAt("1", "/", ""), mountedAt("5", "/var/lib", ""), mountedAt("3", "/var", ""),
	}}
	var got []string
	for _, f := range MountOrder(spec) {
		got = append(got, f.DeviceID)
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5", "6"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDevicesOfASlot(t *testing.T) {
	t.Parallel()
	spec := parse(t, abConfig)
	paths := map[string]string{"root-a": "/dev/a", "root-b": "/dev/b", "esp": "/dev/e"}
	for _, tt := range []struct {
		in       slot.Slot
		id, want string
	}{{slot.A, "root", "/dev/a"}, {slot.B, "root", "/dev/b"}, {slot.B, "esp", "/dev/e"}, {0, "esp", "/dev/e"}, {0, "root", ""}, {slot.A, "home", ""}, {slot.A, "overlay", ""}} {
		got, err := Device(spec, paths, tt.in, tt.id)
		if got != tt.want || (tt.want == "") != (errkind.Variant(err) == "GetBlockDevicePath") {
			t.Errorf("%s in %s: %q, %v", tt.id, tt.in, got, err)
		}
	}
	if got := Pairs(spec)["root"]; got != (slot.Pair[string]{A: "root-a", B: "root-b"}) || len(Pairs(spec)) != 2 {
		t.Errorf("%v", Pairs(spec))
	}
}
