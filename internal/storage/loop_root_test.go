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
	if err := Resize(t.Context(), run.Host{}, "ext4", dev); err != nil {
		t.Fatal(err)
	}
	at, _ := mount(t, dev, "ext4")
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil || int64(st.Blocks)*st.Bsize < 48*mib {
		t.Errorf("it has %d blocks of %d bytes, %v", st.Blocks, st.Bsize, err)
	}
}
