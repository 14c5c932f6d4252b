package storage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

// What the tools make for a disk of small sectors is refused on one of large ones, and
// what they make for large ones goes onto both.
func TestAFileSystemThatTheSectorsCannotCarryIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		unit string // in which it is read, if that is too small; "": it goes onto any disk
	}{
		{[]string{"mkfs.ext4", "-q", "-F", "-b", "1024"}, "ext4 in blocks of 1024 bytes"},
		{[]string{"mkfs.ext4", "-q", "-F", "-b", "4096"}, ""},
		{[]string{"mkfs.xfs", "-q", "-f", "-s", "size=512"}, "xfs in blocks of 512 bytes"},
		{[]string{"mkfs.xfs", "-q", "-f", "-s", "size=4096"}, ""},
		{[]string{"mkfs.vfat", "-S", "512"}, "vfat in blocks of 512 bytes"},
		{[]string{"mkfs.vfat", "-S", "4096"}, ""},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(c.args[0]); err != nil {
				t.Skip(err)
			}
			file := filepath.Join(t.TempDir(), "fs")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, 512<<20); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(c.args[0], append(c.args[1:], file)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			head := make([]byte, ContentHead)
			if _, err := f.ReadAt(head, 0); err != nil {
				t.Fatal(err)
			}
			for _, sector := range []int64{512, 4096} {
				disk := emptyDisk("sda", 16*gib)
				disk.SectorSize = sector
				plan, err := NewPlan(parse(t, abConfig), inventory(disk), request(Install))
				if err != nil {
					t.Fatal(err)
				}
				says := ""
				if sector == 4096 && c.unit != "" {
					says = "it is " + c.unit + ", and its disk has sectors of 4096"
				}
				_, err = plan.CheckContent("root", head)
				if (err == nil) != (says == "") || err != nil && (!strings.Contains(err.Error(), says) || errkind.Of(err) != errkind.Incompatible) {
					t.Errorf("sectors of %d: %v, want %q", sector, err, says)
				}
				_, err = plan.CheckContent("overlay", head) // of 16 MiB
				if (err == nil) != (says == "" && strings.HasPrefix(c.args[0], "mkfs.vfat")) {
					t.Errorf("in a partition that is too small: %v", err)
				}
			}
		})
	}
}

func TestUnknownAndUnsupportedFileSystemsAreRefused(t *testing.T) {
	t.Parallel()
	plan, err := NewPlan(parse(t, abConfig), inventory(emptyDisk("sda", 16*gib)), request(Install))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.CheckContent("root", []byte("no file system")); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("what is no file system: %v", err)
	}
	head := make([]byte, ContentHead)
	copy(head[1024:], "\xe2\xe1\xf5\xe0\x00\x00\x00\x00\x00\x00\x00\x00\x0c")
	if _, err := plan.CheckContent("root", head); err != nil {
		t.Errorf("erofs in blocks of 4096 bytes: %v", err)
	}
	if got := fmt.Sprint(plan.Tools()); got != "[mkfs.xfs mkfs.vfat mkfs.ext4 mkswap]" {
		t.Errorf("tools: %s", got)
	}
	text := strings.Replace(abConfig, "{deviceId: home, source: new, type: xfs", "{source: new, type: overlay", 1)
	_, err = NewPlan(parse(t, text), inventory(emptyDisk("sda", 16*gib)), request(Install))
	if errkind.Of(err) != errkind.Unsupported || !strings.Contains(fmt.Sprint(err), "file systems of type overlay") {
		t.Errorf("an overlay: %v", err)
	}
}

func TestAnXFSThatItsToolDoesNotMakeIsKnownBefore(t *testing.T) {
	t.Parallel()
	if err := (run.Host{}).Find("mkfs.xfs"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, c := range []struct {
		size, sector int64
		says         string
	}{
		{16 * gib, 512, ""}, {16 * gib, 4096, ""}, {5*gib + 10*mib, 512, "mkfs.xfs: Filesystem"},
	} {
		disk := emptyDisk("sda", c.size)
		disk.SectorSize = c.sector
		plan, err := NewPlan(parse(t, abConfig), inventory(disk), request(Install))
		if err != nil {
			t.Fatal(err)
		}
		err = plan.Rehearse(t.Context(), run.Host{}, dir)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("a disk of %d bytes: %v, want %q", c.size, err, c.says)
		}
	}
	if stale, err := os.ReadDir(dir); err != nil || len(stale) > 0 {
		t.Errorf("there are still %v, %v", stale, err)
	}
}
