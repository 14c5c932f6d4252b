package servicing

import (
	"testing"

	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/linux/mount/mounttest"
)

// What the made-up machine shows of mounts is what a host shows of them.
func TestTheMadeUpMachinePassesTheSuiteOfMounts(t *testing.T) {
	t.Parallel()
	w := newOSWorld(t, nil)
	table := &gpt.Disk{ID: gpt.GUID{1}, Size: w.disk.Size(), SectorSize: w.disk.SectorSize(), Entries: []gpt.Entry{
		{Number: 1, Type: gpt.GUID{2}, ID: gpt.GUID{3}, Offset: 1 << 20, Size: 1 << 20, Name: "one"},
		{Number: 2, Type: gpt.GUID{2}, ID: gpt.GUID{4}, Offset: 4 << 20, Size: 1 << 20, Name: "two"},
	}}
	if err := table.Write(w.disk, func(_ string, change func() error) error { return change() }); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{theDisk + "1", theDisk + "2"} {
		w.pack(mounted{device: device, at: tempDir(t)}) // an empty file system
	}
	mounttest.Suite(t, mounttest.Rig{
		Mounter: w, Dir: tempDir(t),
		One:  mount.FileSystem{Source: theDisk + "1", Type: "ext4"},
		Two:  mount.FileSystem{Source: theDisk + "2", Type: "ext4"},
		None: mount.FileSystem{Source: theDisk + "3", Type: "ext4"},
	})
}
