package servicing

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/operation"
)

// region returns region i of the disk of an image.
func region(all fields, i int) fields { return all["disk"].(fields)["gptRegions"].([]any)[i].(fields) }

// swap has two regions of the disk of an image exchange one of their values.
func swap(i, j int, key string) func(fields) {
	return func(all fields) {
		a, b := region(all, i), region(all, j)
		a[key], b[key] = b[key], a[key]
	}
}

// probedAs changes what the machine finds of its disk.
func probedAs(change func(d *blockdev.Disk)) func(w *osWorld) {
	return func(w *osWorld) {
		w.inventory()
		d := w.found[theDisk]
		change(&d)
		w.found[theDisk] = d
	}
}

func rootOn(fstype string) func(w *osWorld) {
	return func(w *osWorld) {
		write(w.t, filepath.Join(w.live, "proc/self/mountinfo"), "22 1 0:5 / / rw - "+fstype+" /dev/vda rw\n")
	}
}

// A disk is only overwritten by an image that fits on it, from a live system.
func TestADiskIsNotLostForAnImageThatDoesNotFit(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	uneven := assembled(t, "uneven", "dd", boottest.ESP(boot.AMD64, "x"), nil, "", func(fs []byte) []byte { return append(fs, make([]byte, 2<<20)...) })
	const corrupt, noDisk = "CorruptOsImage", "no unused disk of this host has at least"
	for n, c := range []struct {
		title string
		image func(fields)
		world func(w *osWorld)
		kind  errkind.Kind
		named string // upstream's name
		says  string
	}{
		{title: "no live system", world: rootOn("ext4"), kind: errkind.Precondition, named: "CleanInstallSafetyCheck", says: "this system runs from a disk (its root file system is ext4)"},
		{title: "a format without disks", image: func(all fields) { older(all, "1.1") }, kind: errkind.Unsupported, named: "DeriveHostConfiguration",
			says: "the image (COSI 1.1) does not describe a disk; version 1.2 or later does"},
		{title: "another architecture", image: func(all fields) { all["osArch"] = "arm64" }, kind: errkind.Incompatible, named: "MismatchedArchitecture", says: "for the architecture arm64"},
		{title: "a disk that is too small", image: func(all fields) { all["disk"].(fields)["size"] = diskSize + 512 }, kind: errkind.Precondition, named: "NoSuitableDisk",
			says: fmt.Sprint(noDisk, " ", diskSize+512, " bytes in sectors of 512 bytes")},
		{title: "a disk of other sectors", world: probedAs(func(d *blockdev.Disk) { d.SectorSize = 4096 }), kind: errkind.Precondition, named: "NoSuitableDisk", says: noDisk},
		{title: "a read-only disk", world: probedAs(func(d *blockdev.Disk) { d.ReadOnly = true }), kind: errkind.Precondition, named: "NoSuitableDisk", says: noDisk},
		{title: "a disk in use", world: probedAs(func(d *blockdev.Disk) { d.Use.Mounts = []string{"/mnt"} }), kind: errkind.Precondition, named: "NoSuitableDisk", says: noDisk},
		{title: "a partition in use", world: probedAs(func(d *blockdev.Disk) {
			d.Partitions = []blockdev.Partition{{Number: 1, Use: blockdev.Use{Mounts: []string{"/mnt"}}}}
		}), kind: errkind.Precondition, named: "NoSuitableDisk", says: noDisk},
		{title: "a device that is not a disk", world: probedAs(func(d *blockdev.Disk) { d.Name = "ram0" }), kind: errkind.Precondition, named: "NoSuitableDisk", says: noDisk},
		{title: "a table without an entry", image: func(all fields) { region(all, 2)["number"] = 7 }, kind: errkind.Corrupt, named: corrupt, says: "the image's partition table has no entry 7"},
		{title: "a partition larger than its entry", image: swap(1, 2, "number"), kind: errkind.Corrupt, named: corrupt, says: "in the image's partition table"},
		{title: "a table that is not one", image: func(all fields) {
			swap(0, 1, "image")(all)
			filesystem(all, "/boot/efi")["image"] = region(all, 1)["image"]
		}, kind: errkind.Corrupt, named: corrupt, says: "read the image's partition table"},
	} {
		t.Run(c.title, func(t *testing.T) {
			t.Parallel()
			image := uneven
			if c.image != nil {
				image = described(t, uneven, fmt.Sprintf("s%d", n), c.image)
			}
			before := ""
			w, op := streamed(t, a, StreamRequest{URL: "file:///srv/image.cosi", SHA384: image.sha}, func(w *osWorld) {
				write(t, filepath.Join(w.root, "srv/image.cosi"), fileText(t, image.path))
				before = w.state()
				if c.world != nil {
					c.world(w)
				}
			})
			if op.Phase != operation.Undone || op.Reached != "image" || op.Failure.Kind != c.kind || op.Failure.Name != c.named || !strings.Contains(op.Failure.Message, c.says) {
				t.Errorf("%s at %q: %+v", op.Phase, op.Reached, op.Failure)
			}
			if w.state() != before {
				t.Errorf("the disk has changed: %v", w.Trace)
			}
		})
	}
}

// Of several disks that are large enough, the smallest is overwritten.
func TestAnImageIsWrittenToTheSmallestDiskThatItFitsOn(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	for _, first := range []bool{true, false} {
		w, op := streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha}, func(w *osWorld) {
			larger := blockdev.Disk{Name: "vdc", Path: "/dev/vdc", Size: 2 * diskSize, SectorSize: 512}
			smaller := blockdev.Disk{Name: "vdd", Path: "/dev/vdd", Size: 1 << 20, SectorSize: 512}
			s := w.daemon.service
			s.disk.Disks.Machine.Inventory = func() (*blockdev.Inventory, error) {
				all := append(w.inventory().Disks, larger, smaller)
				if !first {
					slices.Reverse(all)
				}
				return &blockdev.Inventory{Disks: all}, nil
			}
		})
		if op.Waiting != operation.Reboot || !strings.Contains(w.says(op.ID), "the disk is /dev/vdb,") {
			t.Errorf("%s: %+v: %s", op.Phase, op.Failure, w.says(op.ID))
		}
	}
}

// The caller reboots the host into the written disk if it asks for that, and the operation
// has ended if the live system boots once more.
func TestACallerMayRebootIntoTheWrittenDisk(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	w, op := streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha, CallerReboots: true}, func(*osWorld) {})
	if out, ok := w.daemon.service.Outcome(op); !ok || !out.RebootNeeded || out.Kind != CleanInstall || w.reboots {
		t.Errorf("%+v, %v: %+v, Trident reboots: %v", out, ok, op, w.reboots)
	}
	w.stopDaemon()
	w.boots++
	w.startDaemon()
	if op := w.waiting(op.ID); op.Phase != operation.Done || w.reboots {
		t.Errorf("%s: %+v, Trident reboots: %v", op.Phase, op.Failure, w.reboots)
	}
}
