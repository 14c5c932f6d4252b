package load

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// sysBlock has a folder for each block device.
	sysBlock = "/sys/block"
	// sectorSize is the unit of the statistics, whatever the sectors of the disk are.
	sectorSize = 512
)

// traffic is what all disks have read and written, in bytes, since they appeared.
type traffic struct{ read, written uint64 }

// readTraffic reads the statistics of the disks below a folder such as sysBlock
// (Documentation/block/stat.rst of the kernel). Devices without hardware, such as loop devices and
// mappings, are left out: what they do is done by disks.
func readTraffic(folder string) (t traffic, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return t, fmt.Errorf("read the traffic of the disks: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(folder, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // the disk has gone
		}
		fields := strings.Fields(string(text))
		if len(fields) < 7 {
			return t, fmt.Errorf("read the traffic of the disks: %s/stat has %d fields", dir, len(fields))
		}
		for at, sum := range map[int]*uint64{2: &t.read, 6: &t.written} {
			n, err := strconv.ParseUint(fields[at], 10, 64)
			if err != nil {
				return t, fmt.Errorf("read the traffic of the disks: %s/stat: %w", dir, err)
			}
			*sum += n * sectorSize
		}
	}
	return t, nil
}

// since returns how many bytes a second were read and written since an earlier traffic; 0 if
// a disk has gone meanwhile, and its numbers with it.
func (t traffic) since(before traffic, took time.Duration) (read, written int64) {
	rate := func(now, then uint64) int64 {
		if now < then || took <= 0 {
			return 0
		}
		return int64(float64(now-then) / took.Seconds())
	}
	return rate(t.read, before.read), rate(t.written, before.written)
}
