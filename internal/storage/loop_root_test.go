//go:build root

package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/run"
)

func loop(t *testing.T, size int64, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", append(options, "--show", "-P", "-f", path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { tool(t, "losetup", "-d", dev) })
	return dev
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("needs ", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// mount mounts a file system until the end of the test, or until it is told.
func mount(t *testing.T, device, typ string) (at string, unmount func()) {
	t.Helper()
	at = t.TempDir()
	if err := unix.Mount(device, at, typ, 0, ""); err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
	done := false
	unmount = func() {
		if err := unix.Unmount(at, 0); err != nil && !done {
			t.Error(err)
		}
		done = true
	}
	t.Cleanup(unmount)
	return at, unmount
}

func planFor(t *testing.T, config string) *Plan {
	t.Helper()
	inv, err := blockdev.Read("/")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(parse(t, config), inv, request(Install))
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func apply(t *testing.T, plan *Plan) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := plan.Apply(ctx, Tools{Runner: run.Host{}}, nil); err != nil {
		t.Fatal(err)
	}
}

// dump is what sfdisk says of a disk.
type dump struct {
	PartitionTable struct {
		SectorSize int64
		Partitions []struct {
			Node, UUID, Name, Type string
			Start, Size            int64
		}
	}
}

func agree(t *testing.T, plan *Plan, dev string) {
	t.Helper()
	if out := tool(t, "sgdisk", "-v", dev); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	var got dump
	if err := json.Unmarshal([]byte(tool(t, "sfdisk", "-J", dev)), &got); err != nil {
		t.Fatal(err)
	}
	want := plan.Describe().Disks[0]
	if len(got.PartitionTable.Partitions) != len(want.Partitions) {
		t.Fatalf("sfdisk has %+v", got)
	}
	sector := got.PartitionTable.SectorSize
	for i, p := range got.PartitionTable.Partitions {
		w := want.Partitions[i]
		if p.Node != w.Path || p.Start*sector != w.Offset || p.Size*sector != w.Size || p.Name != w.Label ||
			!strings.EqualFold(p.UUID, w.UUID) || !strings.EqualFold(p.Type, w.typeID.String()) {
			t.Errorf("sfdisk has %+v, want %+v", p, w)
		}
		sys, err := os.ReadFile(fmt.Sprintf("/sys/class/block/%s/size", filepath.Base(w.Path)))
		if err != nil || strings.TrimSpace(string(sys)) != fmt.Sprint(w.Size/512) {
			t.Errorf("the kernel has %s sectors for %s: %v", sys, w.Path, err)
		}
	}
}

func TestAPlanIsAppliedToARealDisk(t *testing.T) {
	for name, options := range map[string][]string{"512": nil, "4096": {"-b", "4096"}} {
		t.Run(name, func(t *testing.T) {
			dev := loop(t, 8*gib, options...)
			config := strings.Replace(abConfig, "/dev/sda", dev, 1)
			plan := planFor(t, config)
			apply(t, plan)
			agree(t, plan, dev)
			apply(t, plan)
			again := planFor(t, config)
			apply(t, again)
			agree(t, plan, dev)
			home, err := plan.Target("home")
			if err != nil {
				t.Fatal(err)
			}
			at, unmount := mount(t, home.Path, "xfs")
			inv, err := blockdev.Read("/")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := NewPlan(parse(t, config), inv, request(Install)); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "mounted at "+at) {
				t.Errorf("a disk in use is planned: %v", err)
			}
			if err := plan.Apply(t.Context(), Tools{Runner: run.Host{}}, nil); errkind.Of(err) != errkind.Precondition {
				t.Errorf("a disk in use is written: %v", err)
			}
			unmount()
			trident, err := plan.Target("trident")
			if err != nil {
				t.Fatal(err)
			}
			tool(t, "e2fsck", "-f", "-n", trident.Path)
		})
	}
}

func TestAMountedPartitionIsAdopted(t *testing.T) {
	dev := loop(t, 8*gib)
	first := planFor(t, strings.Replace(abConfig, "/dev/sda", dev, 1))
	apply(t, first)
	at, unmount := mount(t, dev+"p7", "ext4")
	if err := os.WriteFile(filepath.Join(at, "kept"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("/dev/nvme0n1", dev, "matchLabel: data", "matchLabel: trident", "aa000000-0000-4000-8000-000000000003", first.Describe().Disks[0].Partitions[7].UUID).Replace(adoptConfig)
	plan := planFor(t, config)
	apply(t, plan)
	agree(t, plan, dev)
	if data, err := os.ReadFile(filepath.Join(at, "kept")); string(data) != "content" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	unmount()
	tool(t, "e2fsck", "-f", "-n", dev+"p7")
	if tool(t, "xfs_repair", "-n", dev+"p8"); plan.Describe().Disks[0].Partitions[3].Action != Adopt {
		t.Errorf("%s", plan)
	}
}

func TestAFileSystemGrowsToItsPartition(t *testing.T) {
	dev := loop(t, 64*mib)
	tool(t, "mkfs.ext4", "-q", dev, "16M")
	if err := Resize(t.Context(), Tools{Runner: run.Host{}}, "ext4", dev); err != nil {
		t.Fatal(err)
	}
	sum := tool(t, "sha256sum", dev)
	if err := Resize(t.Context(), Tools{Runner: run.Host{}}, "ext4", dev); err != nil {
		t.Fatal(err)
	}
	if again := tool(t, "sha256sum", dev); again != sum {
		t.Errorf("a file system that fits was changed: %s, then %s", sum, again)
	}
	at, _ := mount(t, dev, "ext4")
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil || int64(st.Blocks)*st.Bsize < 48*mib {
		t.Errorf("it has %d blocks of %d bytes, %v", st.Blocks, st.Bsize, err)
	}
}

// smallConfig leaves most of a disk free.
const smallConfig = `
storage:
  disks:
  - id: os
    device: DEVICE
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 16M}
    - {id: root, type: root, size: 16M}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
`

// What a former use of the whole disk has left is found, named by the plan, and gone
// after an installation: blkid(8) and wipefs(8) find nothing but the new table.
func TestSignaturesOfAFormerUseAreNamedAndWiped(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(t *testing.T, dev string)
		says  string
	}{
		"MD 0.90": {func(t *testing.T, dev string) {
			// The superblock is in the last whole 64 KiB but one (linux/raid/md_p.h).
			put(t, dev, 256*mib-64<<10, "\xfc\x4e\x2b\xa9\x00\x00\x00\x00\x5a\x00\x00\x00")
		}, "linux_raid_member"},
		"ISO 9660": {func(t *testing.T, dev string) { put(t, dev, 32769, "CD001\x01") }, "iso9660"},
		"btrfs":    {func(t *testing.T, dev string) { put(t, dev, 64<<10+64, "_BHRfS_M") }, "btrfs"},
		"ZFS": {func(t *testing.T, dev string) {
			for _, label := range []int64{0, 256 << 10, 256*mib - 512<<10, 256*mib - 256<<10} {
				for n := range int64(8) {
					put(t, dev, label+128<<10+n<<10, "\x0c\xb1\xba\x00\x00\x00\x00\x00")
				}
			}
		}, "zfs_member"},
	} {
		for _, table := range []string{"", "beside a table", "with adopted partitions"} {
			t.Run(name+" "+table, func(t *testing.T) {
				dev := loop(t, 256*mib)
				config := strings.ReplaceAll(smallConfig, "DEVICE", dev)
				if table != "" {
					table1(t, dev)
				}
				c.leave(t, dev)
				if table == "with adopted partitions" {
					config = strings.Replace(config, "    partitions:\n", "    adoptedPartitions: [{id: kept, matchLabel: kept}]\n    partitions:\n", 1)
					config += "  - {deviceId: kept, source: adopted, mountPoint: /srv}\n"
				}
				plan := planFor(t, config)
				if text := plan.String(); !strings.Contains(text, c.says) {
					t.Errorf("the plan does not name %s:\n%s", c.says, text)
				}
				apply(t, plan)
				if out := tool(t, "wipefs", "--noheadings", "--output", "TYPE", dev); strings.TrimSpace(strings.NewReplacer("gpt", "", "PMBR", "").Replace(out)) != "" {
					t.Errorf("wipefs still finds %s", out)
				}
				inv, err := blockdev.Read("/")
				if err != nil {
					t.Fatal(err)
				}
				if d, ok := inv.Find(dev); !ok || d.Leftover.Type != "" || d.Table != blockdev.TableGPT {
					t.Errorf("%+v", d)
				}
			})
		}
	}
}

// table1 writes a GPT with one partition, labelled kept, behind 100 MiB of nothing.
func table1(t *testing.T, dev string) {
	t.Helper()
	tool(t, "sh", "-c", `printf 'label: gpt\nstart=100MiB, size=8MiB, name=kept\n' | sfdisk -q "$0"`, dev)
}

func put(t *testing.T, dev string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(text), at)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestATableOfWhichOnlyTheBackupIsLeftIsNamed(t *testing.T) {
	dev := loop(t, 256*mib)
	table1(t, dev)
	put(t, dev, 0, string(make([]byte, mib)))
	inv, err := blockdev.Read("/")
	if err != nil {
		t.Fatal(err)
	}
	d, ok := inv.Find(dev)
	if !ok || d.Table != blockdev.TableGPT || !strings.Contains(d.Problem, "only the backup") {
		t.Errorf("%+v", d)
	}
}
