package hostinfo

import (
	"iter"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/linux/inroot"
)

// AvailableMemory returns how many bytes of memory this process can allocate before the
// kernel kills it or another process: the least of MemAvailable in /proc/meminfo and of
// the unused part of memory.max of each control group of the process (cgroup-v2.rst of
// the kernel). root is the root folder of the host. known is false if the function can
// read none of these values.
func AvailableMemory(root string) (bytes int64, known bool) {
	read := reader(root)
	least := int64(math.MaxInt64)
	if kib, ok := numberOf(read("proc/meminfo"), "MemAvailable:"); ok {
		least = kib << 10
	}
	for dir, most := range bounds(read) {
		used, err := strconv.ParseInt(strings.TrimSpace(read(dir+"memory.current")), 10, 64)
		if err != nil {
			continue
		}
		// The kernel frees pages of files when a process needs memory.
		stat := read(dir + "memory.stat")
		for _, key := range []string{"inactive_file", "active_file"} {
			n, _ := numberOf(stat, key)
			used -= n
		}
		least = min(least, most-max(used, 0))
	}
	if least == math.MaxInt64 {
		return 0, false
	}
	return max(least, 0), true
}

// MemoryLimit returns the least memory.max of the control groups of this process, in bytes.
// known is false if they have none. root is the root folder of the host.
func MemoryLimit(root string) (bytes int64, known bool) {
	for _, most := range bounds(reader(root)) {
		if !known || most < bytes {
			bytes, known = most, true
		}
	}
	return bytes, known
}

// reader returns a function that reads small files of the host; "" for those that it
// cannot read.
func reader(root string) func(name string) string {
	fsys := inroot.FS(root)
	return func(name string) string {
		text, err := fsys.ReadFile(name, 1<<20)
		if err != nil {
			return ""
		}
		return string(text)
	}
}

// bounds returns the folder and the memory.max of each control group of this process that
// has a limit.
func bounds(read func(string) string) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for line := range strings.Lines(read("proc/self/cgroup")) {
			group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
			if !ok {
				continue
			}
			for group = path.Clean("/" + group); group != "/"; group = path.Dir(group) {
				dir := "sys/fs/cgroup" + group + "/"
				most, err := strconv.ParseInt(strings.TrimSpace(read(dir+"memory.max")), 10, 64)
				if err != nil { // "max", or the root of a container
					continue
				}
				if !yield(dir, most) {
					return
				}
			}
		}
	}
}

// numberOf returns the number after word on the line that begins with word.
func numberOf(text, word string) (int64, bool) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == word {
			n, err := strconv.ParseInt(f[1], 10, 53)
			return n, err == nil
		}
	}
	return 0, false
}
