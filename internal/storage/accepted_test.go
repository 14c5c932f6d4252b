package storage

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// verdicts has documents that upstream Trident accepts or refuses.
const verdicts = "../../../shared/testdata/hostconfig-verdicts.jsonl.gz"

// refusals are the reasons for which a document that upstream accepts is not planned, on disks
// that are large enough.
var refusals = []struct{ because, says string }{
	{"mdadm(8) refuses such a name since version 4.3, so the array could not be made", `mdadm\(8\) does not accept the name`},
	{"device-mapper or crypttab(5) cannot have such a name", `crypttab\(5\) cannot have the name`},
	{"an overlay has no device, and upstream's own installation fails with it", `cannot set up file systems of type overlay`},
	{"a GUID partition table has room for 36 characters of a label", `longer than the 36 characters`},
	{"a LUKS2 header takes 16 MiB, as cryptsetup(8) makes it", `encrypted volume "[^"]*" has no room for data`},
	{"a new partition would have the UUID of a partition that stays", `and that partition stays`},
}

// madeToMeasure returns a host with the disks that a configuration names, just large enough for
// its partitions, and with those that it adopts.
func madeToMeasure(t testing.TB, s *hostconfig.Storage) *blockdev.Inventory {
	t.Helper()
	out := &blockdev.Inventory{}
	seen := map[string]bool{}
	for i, d := range s.Disks {
		device := filepath.Clean(d.Device)
		if seen[device] {
			continue
		}
		seen[device] = true
		size := int64(4 * mib)
		for _, p := range d.Partitions {
			if p.Size.Fixed() {
				size += alignUp(int64(p.Size), mib)
			} else {
				size += 64 * mib
			}
		}
		disk := emptyDisk(fmt.Sprintf("sd%c", 'a'+i), 0, device)
		if len(d.AdoptedPartitions) > 0 {
			table := &gpt.Disk{ID: derive(seed, "old disk", d.ID), SectorSize: 512}
			for n, p := range d.AdoptedPartitions {
				e := gpt.Entry{Number: n + 1, Type: guid(t, "0fc63daf-8483-4772-8e79-3d69d8477de4"), ID: derive(seed, "old", p.ID), Name: p.MatchLabel, Offset: mib + int64(n)*64*mib, Size: 64 * mib}
				if p.MatchUUID != "" {
					e.ID = guid(t, string(p.MatchUUID))
				}
				table.Entries = append(table.Entries, e)
				name := blockdev.PartitionName(disk.Name, e.Number)
				disk.Partitions = append(disk.Partitions, blockdev.Partition{Number: e.Number, Name: name, Path: "/dev/" + name, Offset: e.Offset, Size: e.Size,
					Type: e.Type.String(), UUID: e.ID.String(), Label: e.Name, Content: blockdev.Content{Type: "ext4"}})
				size += 64 * mib
			}
			disk.GPT, disk.Table, disk.TableID = table, blockdev.TableGPT, table.ID.String()
		}
		if disk.Size = size; disk.GPT != nil {
			disk.GPT.Size = size
		}
		out.Disks = append(out.Disks, disk)
	}
	return out
}

// isBeyondDisks reports whether partitions of a configuration are too large for any disk.
func isBeyondDisks(s *hostconfig.Storage) bool {
	const pib = 1 << 50
	for _, d := range s.Disks {
		for _, p := range d.Partitions {
			if size := int64(p.Size); p.Size.Fixed() && (size > pib || size < 0) {
				return true
			}
		}
	}
	return false
}

// What upstream accepts is planned on disks made to measure; what is not planned is refused for a reason of the list.
func TestDocumentsThatUpstreamAcceptsArePlanned(t *testing.T) {
	t.Parallel()
	file, err := os.Open(verdicts)
	if err != nil {
		t.Skip("there are no documents with upstream's verdict: ", err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(packed)
	lines.Buffer(nil, 1<<20)
	planned, stacked, huge := 0, 0, 0
	refused := make([]int, len(refusals))
	for lines.Scan() {
		var d struct{ ID, Verdict, YAML string }
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if d.Verdict != "accept" {
			continue
		}
		config, _ := hostconfig.Parse([]byte(d.YAML), rules.Check)
		if config == nil || len(config.Spec().Storage.Disks) == 0 { // docs/host-configuration-differences.md
			continue
		}
		s := &config.Spec().Storage
		if isBeyondDisks(s) {
			huge++
			continue
		}
		plan, err := NewPlan(s, madeToMeasure(t, s), request(Install))
		if err != nil {
			known := false
			for i, r := range refusals {
				if regexp.MustCompile(r.says).MatchString(err.Error()) {
					refused[i]++
					known = true
				}
			}
			if !known {
				t.Errorf("%s: %v", d.ID, err)
			}
			continue
		}
		planned++
		if len(plan.Describe().Layers) > 0 {
			stacked++
		}
		for _, f := range s.Filesystems {
			if f.DeviceID == "" {
				continue
			}
			if target, err := plan.Target(f.DeviceID); err != nil || !strings.HasPrefix(target.Path, "/dev/") || target.Size <= 0 {
				t.Errorf("%s: device %q is %+v, %v", d.ID, f.DeviceID, target, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d documents are planned, %d with layers", planned, stacked)
	t.Logf("%d documents have partitions of more than 1 PiB", huge)
	for i, r := range refusals {
		t.Logf("%d documents are refused: %s", refused[i], r.because)
		if refused[i] == 0 {
			t.Errorf("no document is refused because %s", r.because)
		}
	}
	if planned < 100 || stacked < 50 {
		t.Errorf("only %d documents are planned, %d with layers", planned, stacked)
	}
}
