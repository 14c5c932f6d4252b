package hostinfo

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAvailableMemoryIsTheLeastOfAllLimits(t *testing.T) {
	t.Parallel()
	const meminfo = "MemTotal:        8000000 kB\nMemFree:  1 kB\nMemAvailable:    4000000 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
		known bool
		most  int64 // memory.max; 0 for none
	}{
		{"nothing says it", nil, 0, false, 0},
		{"of the host", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n"}, 4000000 << 10, true, 0},
		{"a group without a limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "1:name=x:/a\n0::/system.slice/tridentd.service\n",
			"sys/fs/cgroup/system.slice/tridentd.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/tridentd.service/memory.current": "5\n",
		}, 4000000 << 10, true, 0},
		{"of the unit, without its files", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/tridentd.service\n",
			"sys/fs/cgroup/system.slice/tridentd.service/memory.max": "1000000\n", "sys/fs/cgroup/system.slice/tridentd.service/memory.current": "700000\n",
			"sys/fs/cgroup/system.slice/tridentd.service/memory.stat": "anon 100000\nactive_file 200000\ninactive_file 400000\n",
		}, 900000, true, 1000000},
		{"of the slice, which is full", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/tridentd.service\n",
			"sys/fs/cgroup/system.slice/memory.max": "1000\n", "sys/fs/cgroup/system.slice/memory.current": "2000\n",
			"sys/fs/cgroup/system.slice/tridentd.service/memory.max": "5000\n",
		}, 0, true, 1000},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, known := AvailableMemory(root); got != c.want || known != c.known {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, got, known, c.want, c.known)
		}
		if got, known := MemoryLimit(root); got != c.most || known != (c.most > 0) {
			t.Errorf("%s: the limit is %d, %v; want %d", c.name, got, known, c.most)
		}
	}
	if n, known := AvailableMemory("/"); !known || n < 1<<20 {
		t.Errorf("this machine has %d, %v", n, known)
	}
}
