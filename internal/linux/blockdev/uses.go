package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxMountInfo = 8 << 20
	maxDepth     = 16 // of devices that rest on devices
)

// uses returns the use of every block device, by its kernel name.
func (h host) uses() (map[string]Use, error) {
	direct, err := h.directUses()
	if err != nil {
		return nil, err
	}
	names, err := h.list("sys/class/block")
	if err != nil {
		return nil, err
	}
	out := map[string]Use{}
	for _, name := range names {
		u, err := h.use(name, direct, 0)
		if err != nil {
			return nil, err
		}
		if u.InUse() {
			out[name] = u
		}
	}
	return out, nil
}

// use returns the direct use of a device together with the uses of all devices above it.
func (h host) use(name string, direct map[string]Use, depth int) (Use, error) {
	if depth == maxDepth {
		return Use{}, errkind.Errorf(errkind.TooLarge, "more than %d devices are stacked on each other", maxDepth)
	}
	u := direct[name]
	u.Mounts = slices.Clone(u.Mounts)
	holders, err := h.list("sys/class/block/" + name + "/holders")
	if err != nil {
		return Use{}, err
	}
	u.Holders = holders
	for _, holder := range holders {
		above, err := h.use(holder, direct, depth+1)
		if err != nil {
			return Use{}, err
		}
		u.Swap = u.Swap || above.Swap
		u.Mounts = append(u.Mounts, above.Mounts...)
	}
	slices.Sort(u.Mounts)
	u.Mounts = slices.Compact(u.Mounts)
	return u, nil
}

// directUses returns mounts and swap: the mounts of this process and those of PID 1.
func (h host) directUses() (map[string]Use, error) {
	numbers, err := h.deviceNumbers()
	if err != nil {
		return nil, err
	}
	out := map[string]Use{}
	for _, file := range []string{"proc/self/mountinfo", "proc/1/mountinfo"} {
		table, err := h.readProc(file)
		if err != nil {
			return nil, err
		}
		mounts, err := mountinfo.GetMountsFromReader(bytes.NewReader(table), nil)
		if err != nil {
			return nil, errkind.Errorf(errkind.Corrupt, "read /%s: %w", file, err)
		}
		for _, m := range mounts {
			name := numbers[fmt.Sprintf("%d:%d", m.Major, m.Minor)]
			if name == "" && strings.HasPrefix(m.Source, "/dev/") {
				name = path.Base(m.Source) // a file system with a number of its own, such as btrfs
			}
			if name != "" {
				u := out[name]
				u.Mounts = append(u.Mounts, m.Mountpoint)
				out[name] = u
			}
		}
	}
	swaps, err := h.readProc("proc/swaps")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(swaps)) {
		if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "/dev/") {
			u := out[path.Base(name)]
			u.Swap = true
			out[path.Base(name)] = u
		}
	}
	return out, nil
}

// deviceNumbers maps "8:1" to sda1.
func (h host) deviceNumbers() (map[string]string, error) {
	names, err := h.list("sys/class/block")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range names {
		out[h.text("sys/class/block/"+name+"/dev")] = name
	}
	delete(out, "")
	return out, nil
}

// readProc returns the content of a file of /proc; nothing if the file does not exist or
// this process may not read it. A file of more than maxMountInfo bytes is an error: the
// rest could have a mount.
func (h host) readProc(name string) ([]byte, error) {
	f, err := h.root.Open(name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMountInfo+1))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	if len(data) > maxMountInfo {
		return nil, errkind.Errorf(errkind.TooLarge, "/%s has more than %d bytes", name, maxMountInfo)
	}
	return data, nil
}

const maxLinks = 10000

// links returns the links in /dev to block devices, by the kernel name of the device.
func (h host) links() (map[string][]string, error) {
	to := map[string]string{}
	if err := h.collect("dev", 0, to); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for from := range to {
		at := from
		for range maxDepth {
			next, ok := to[at]
			if !ok {
				break
			}
			at = next
		}
		if dir, name := path.Split(at); dir == "/dev/" && to[at] == "" && h.exists("sys/class/block/"+name) {
			out[name] = append(out[name], from)
		}
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out, nil
}

func (h host) collect(dir string, depth int, to map[string]string) error {
	names, err := h.list(dir)
	if err != nil || depth > 4 {
		return err
	}
	for _, name := range names {
		file := path.Join(dir, name)
		info, err := h.root.Lstat(file)
		switch {
		case err != nil: // removed since list
		case info.IsDir() && !slices.Contains([]string{"dev/shm", "dev/pts", "dev/mqueue", "dev/hugepages"}, file):
			if err := h.collect(file, depth+1, to); err != nil {
				return err
			}
		case info.Mode()&os.ModeSymlink != 0:
			target, err := h.root.Readlink(file)
			if err != nil {
				continue
			}
			if !path.IsAbs(target) {
				target = path.Join("/", dir, target)
			}
			if to["/"+file] = path.Clean(target); len(to) > maxLinks {
				return errkind.Errorf(errkind.TooLarge, "/dev has more than %d links", maxLinks)
			}
		}
	}
	return nil
}

func (h host) exists(name string) bool {
	_, err := h.root.Lstat(name)
	return err == nil
}
