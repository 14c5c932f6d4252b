package blockdev_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/linux/blockdev"
)

func TestFileSystemsAreKnownByWhatTheirToolsWrite(t *testing.T) {
	t.Parallel()
	const id = "7fe3efd3-9e3a-4aee-8cf6-4ab9a5d2d5c3"
	for _, tt := range []struct {
		tool []string
		size int64
		want blockdev.Content
	}{
		{[]string{"mkfs.ext4", "-q", "-F", "-U", id, "-L", "data"}, 8 << 20, blockdev.Content{Type: "ext4", UUID: id, Label: "data"}},
		{[]string{"mkfs.ext3", "-q", "-F", "-U", id}, 8 << 20, blockdev.Content{Type: "ext3", UUID: id}},
		{[]string{"mkfs.ext2", "-q", "-F", "-U", id}, 8 << 20, blockdev.Content{Type: "ext2", UUID: id}},
		{[]string{"mkfs.xfs", "-q", "-f", "-m", "uuid=" + id, "-L", "data"}, 400 << 20, blockdev.Content{Type: "xfs", UUID: id, Label: "data"}},
		{[]string{"mkfs.vfat", "-F", "32", "-i", "0123abcd", "-n", "ESP"}, 64 << 20, blockdev.Content{Type: "vfat", UUID: "0123-ABCD", Label: "ESP"}},
		{[]string{"mkfs.vfat", "-F", "16", "-i", "0123abcd"}, 32 << 20, blockdev.Content{Type: "vfat", UUID: "0123-ABCD"}},
		{[]string{"mkswap", "-q", "-U", id, "-L", "s"}, 4 << 20, blockdev.Content{Type: "swap", UUID: id, Label: "s"}},
	} {
		t.Run(tt.want.Type, func(t *testing.T) {
			t.Parallel()
			tool, err := exec.LookPath(tt.tool[0])
			if err != nil {
				t.Skip("needs ", tt.tool[0])
			}
			path := filepath.Join(t.TempDir(), "fs")
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, tt.size)); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool, append(tt.tool[1:], path)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if diff := cmp.Diff(tt.want, blockdev.Probe(f, tt.size)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProbeReturnsNothingForUnknownContent(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 511, 4096, 100 << 10} {
		if got := blockdev.Probe(bytes.NewReader(make([]byte, size)), int64(size)); got != (blockdev.Content{}) {
			t.Errorf("%d zeros are %v", size, got)
		}
	}
	raid := make([]byte, 1<<20)
	copy(raid[1<<20-16*512:], []byte{0xfc, 0x4e, 0x2b, 0xa9})
	if got := blockdev.Probe(bytes.NewReader(raid), 1<<20); got.Type != "linux_raid_member" {
		t.Errorf("a member of an array is %v", got)
	}
}
