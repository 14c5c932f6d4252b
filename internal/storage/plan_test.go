package storage

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

func printed(t *testing.T, name string, plan *Plan) {
	t.Helper()
	data, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name+".txt", []byte(plan.String()))
	golden(t, name+".json", append(data, '\n'))
}

func TestAPlanSaysWhatIsMadeAndWhatIsDestroyed(t *testing.T) {
	t.Parallel()
	ab := inventory(usedDisk(t, "sda", 16*gib, []old{{"EFI", mib, 512 * mib, "vfat", blockdev.Use{}}, {"", gib, 15*gib - mib, "ext4", blockdev.Use{}}}))
	dos := emptyDisk("sda", 8*gib)
	dos.Table, dos.Removable, dos.SectorSize = blockdev.TableDOS, true, 4096
	tests := []struct {
		name, config string
		inv          *blockdev.Inventory
		req          Request
	}{
		{"ab-install", abConfig, ab, request(Install)},
		{"ab-install-dos-4k", abConfig, inventory(dos), request(Install)},
		{"adopt", adoptConfig, adoptHost(t), request(Install)},
		{"ab-update", abConfig, installed(t, abConfig, inventory(emptyDisk("sda", 16*gib))), request(Update)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan, err := NewPlan(parse(t, tt.config), tt.inv, tt.req)
			if err != nil {
				t.Fatal(err)
			}
			printed(t, tt.name, plan)
			again, err := NewPlan(parse(t, tt.config), tt.inv, tt.req)
			if err != nil || again.String() != plan.String() {
				t.Errorf("made again it is another: %v", err)
			}
		})
	}
}

func TestTheWritingOfAWholeDiskIsDescribed(t *testing.T) {
	t.Parallel()
	d := usedDisk(t, "sda", 16*gib, []old{{"EFI", mib, 512 * mib, "vfat", blockdev.Use{}}, {"", gib, 15*gib - mib, "ext4", blockdev.Use{}}})
	table := usedDisk(t, "sda", 16*gib, []old{{"esp", mib, 64 * mib, "", blockdev.Use{}}, {"root-a", 65 * mib, gib, "", blockdev.Use{}}}).GPT
	golden(t, "stream.txt", []byte(WholeDisk(&d, table).String()))
}

// installed is the host after the plan for it was applied, running from A.
func installed(t *testing.T, config string, inv *blockdev.Inventory) *blockdev.Inventory {
	t.Helper()
	plan, err := NewPlan(parse(t, config), inv, request(Install))
	if err != nil {
		t.Fatal(err)
	}
	out := *inv
	out.Disks = nil
	for i, d := range inv.Disks {
		w := plan.disks[i]
		d.GPT, d.Table, d.TableID, d.Partitions = w.table, blockdev.TableGPT, w.table.ID.String(), nil
		for _, p := range plan.described.Disks[i].Partitions {
			part := blockdev.Partition{Number: p.Number, Name: strings.TrimPrefix(p.Path, "/dev/"), Path: p.Path, Offset: p.Offset, Size: p.Size,
				Type: p.typeID.String(), UUID: p.UUID, Label: p.Label}
			switch p.ID {
			case "root-a":
				part.Use.Mounts = []string{"/"}
			case "root-b":
				part.Content.Type = "ext4"
			}
			d.Partitions = append(d.Partitions, part)
		}
		out.Disks = append(out.Disks, d)
	}
	return &out
}

const samples = "../../../shared/testdata/hostconfig"

func TestUpstreamsSamplesArePlanned(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob(filepath.Join(samples, "*.yaml"))
	if len(files) == 0 {
		t.Skip("there are no samples in ", samples)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config, report := hostconfig.Parse(text, rules.Check)
			if config == nil {
				t.Fatal(report.Err())
			}
			inv := inventory(emptyDisk("sda", 40*gib, byPath1, "/dev/disk/by-path/pci-0000:00:1f.2-ata-2"),
				emptyDisk("sdb", 40*gib, "/dev/disk/by-path/pci-0000:00:1f.2-ata-3"))
			plan, err := NewPlan(&config.Spec().Storage, inv, request(Install))
			if err != nil {
				t.Fatal(err)
			}
			printed(t, "sample-"+name, plan)
		})
	}
}

func TestAPlanKnowsItsDevices(t *testing.T) {
	t.Parallel()
	plan, err := NewPlan(parse(t, abConfig), inventory(emptyDisk("sda", 16*gib)), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"root": "/dev/sda2", "root-b": "/dev/sda3", "esp": "/dev/sda1", "overlay": "/dev/sda4"} {
		if got, err := plan.Target(id); err != nil || got.Path != want {
			t.Errorf("%s is %s, %v", id, got.Path, err)
		}
	}
	if _, err := plan.Target("nothing"); errkind.Variant(err) != "GetBlockDevicePath" {
		t.Errorf("got %v", err)
	}
	if got := plan.Paths()["trident"]; got != "/dev/disk/by-partuuid/11111111-2222-4333-8444-555555555555" {
		t.Error(got)
	}
	if len(plan.Paths()) != 8 || len(plan.DiskUUIDs()["os"]) != 36 {
		t.Errorf("%v %v", plan.Paths(), plan.DiskUUIDs())
	}
}

func TestAnUpdateFindsPartitionsWhereTheHostStatusSays(t *testing.T) {
	t.Parallel()
	inv := installed(t, abConfig, inventory(emptyDisk("sda", 16*gib)))
	inv.Disks[0].Name, inv.Disks[0].Path = "sdz", "/dev/sdz" // it was sda
	for i := range inv.Disks[0].Partitions {
		p := &inv.Disks[0].Partitions[i]
		p.Label = "renamed"
	}
	req := request(Update)
	install, err := NewPlan(parse(t, abConfig), inventory(emptyDisk("sda", 16*gib)), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	req.Paths = install.Paths()
	plan, err := NewPlan(parse(t, abConfig), inv, req)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := plan.Target("root"); err != nil || p.ID != "root-b" || p.Action != Write {
		t.Errorf("%+v, %v", p, err)
	}
	if d := plan.Describe().Disks[0]; d.Path != "/dev/sdz" || len(plan.disks) != 0 {
		t.Errorf("%+v", d)
	}
}
