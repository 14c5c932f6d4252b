package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// tree returns a Reader of a root folder with these files. A name that begins with "@" is a
// link to its content.
func tree(t *testing.T, files map[string]string) *Reader {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		link, isLink := strings.CutPrefix(name, "@")
		path := filepath.Join(root, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(content, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r := New(root)
	r.now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	return r
}

func TestLoadAndUptimeAreRead(t *testing.T) {
	r := tree(t, map[string]string{
		"proc/loadavg": "0.20 1.05 12.40 3/1210 4711\n", "proc/uptime": "3600.25 7000.00\n",
		"proc/sys/kernel/random/boot_id": "2f5c38a0-5a1c-4f0e-a9c5-3d6cf8a30d11\n",
	})
	l, err := r.Load()
	if diff := cmp.Diff(Load{0.2, 1.05, 12.4, 3, 1210}, l); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	u, err := r.Uptime()
	want := Uptime{3600*time.Second + 250*time.Millisecond, time.Date(2026, 3, 4, 4, 6, 6, 75e7, time.UTC), "2f5c38a0-5a1c-4f0e-a9c5-3d6cf8a30d11"}
	if diff := cmp.Diff(want, u); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// Every call has one clear error for a missing file and for one with another form.
func TestFilesThatAreMissingOrMalformedAreUnsupported(t *testing.T) {
	calls := map[string]func(*Reader) error{
		"loadavg": func(r *Reader) error { _, err := r.Load(); return err },
		"uptime":  func(r *Reader) error { _, err := r.Uptime(); return err },
		"meminfo": func(r *Reader) error { _, err := r.Memory(); return err },
		"cpuinfo": func(r *Reader) error { _, err := r.CPUs(); return err },
		"stat":    func(r *Reader) error { _, err := r.Stat(); return err },
		"self/mountinfo": func(r *Reader) error {
			_, err := r.Mounts(t.Context())
			return err
		},
	}
	for name, call := range calls {
		err := call(tree(t, nil))
		if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), "/proc/"+name) {
			t.Errorf("without /proc/%s: %v", name, err)
		}
		for _, content := range []string{"", "\x00\xff", "nonsense\n", strings.Repeat("a b ", 1000)} {
			err := call(tree(t, map[string]string{"proc/" + name: content}))
			if content == "" && name == "self/mountinfo" { // no mount is a list
				continue
			}
			if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), "/proc/"+name) || len(err.Error()) > 500 {
				t.Errorf("/proc/%s with %.20q: %v", name, content, err)
			}
		}
		folder := tree(t, map[string]string{"proc/" + name + "/x": ""})
		if err := call(folder); err == nil {
			t.Errorf("/proc/%s may be a folder", name)
		}
	}
}

func TestFilesAreBoundedAndAFIFODoesNotBlock(t *testing.T) {
	r := tree(t, map[string]string{"proc/loadavg": strings.Repeat("x", smallFile+1)})
	if _, err := r.Load(); errkind.Of(err) != errkind.TooLarge {
		t.Error(err)
	}
	r = tree(t, map[string]string{"proc/x": ""})
	if err := unix.Mkfifo(r.path("proc/loadavg"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(); errkind.Of(err) != errkind.Unsupported {
		t.Error(err)
	}
}

func TestMemoryHasTheFieldsOfTheKernelInBytes(t *testing.T) {
	// Linux 2.6.32 has no MemAvailable; a host without swap has 0.
	m, err := tree(t, map[string]string{"proc/meminfo": "MemTotal:        2048 kB\nActive(anon):       7 kB\nSwapTotal:          0 kB\nHugePages_Total:    3\nBroken: x kB\nHuge: 18446744073709551615 kB\n"}).Memory()
	want := Memory{"MemTotal": 2 << 20, "Active(anon)": 7168, "SwapTotal": 0, "HugePages_Total": 3, "Huge": 1<<64 - 1}
	if diff := cmp.Diff(want, m); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCPUsOfSeveralArchitecturesAreRead(t *testing.T) {
	const x86 = "processor\t: %d\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Xeon\nstepping\t: 7\nmicrocode\t: 0x1\ncpu MHz\t\t: 2500.5\ncache size\t: 36608 KB\nphysical id\t: 1\ncore id\t\t: %d\nflags\t\t: fpu vme\nbugs\t\t: mds\n\n"
	var thousand strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&thousand, x86, i, i)
	}
	all, err := tree(t, map[string]string{
		"proc/cpuinfo": thousand.String(), "sys/devices/system/cpu/cpu7/cpufreq/scaling_governor": "powersave\n",
		"sys/devices/system/cpu/cpu7/cpufreq/scaling_cur_freq": "1200000\n", "sys/devices/system/cpu/cpu7/cpufreq/scaling_max_freq": "3000000\n",
	}).CPUs()
	if err != nil || len(all.All) != 1000 || len(all.Models) != 1 {
		t.Fatalf("%d CPUs of %d models, %v", len(all.All), len(all.Models), err)
	}
	package1, core7 := uint32(1), uint32(7)
	want := CPU{Number: 7, Package: &package1, Core: &core7, Current: 1_200_000_000, Max: 3_000_000_000, Governor: "powersave"}
	if diff := cmp.Diff(want, all.All[7]); diff != "" {
		t.Error(diff)
	}
	if m := all.Models[0]; m.Cache != 36608<<10 || !slices.Equal(m.Flags, []string{"fpu", "vme"}) || m.Name != "Xeon" || m.Microcode != "0x1" {
		t.Errorf("%+v", m)
	}
	arm, err := tree(t, map[string]string{"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\nCPU implementer\t: 0x51\n\n"}).CPUs()
	if err != nil || len(arm.All) != 2 || len(arm.Models) != 2 || arm.All[1].Model != 1 || arm.Models[0].Vendor != "0x41" || arm.All[0].Core != nil {
		t.Errorf("%+v, %v", arm, err)
	}
}

func TestStatOfOldAndLargeHostsIsRead(t *testing.T) {
	var large strings.Builder
	large.WriteString("cpu  100 2 3 400 5 6 7 8 9 10\n")
	for i := range 1000 {
		fmt.Fprintf(&large, "cpu%d 1 2 3 4 5 6 7 8 9 10\n", i)
	}
	large.WriteString("intr 999" + strings.Repeat(" 0", 20_000) + "\nctxt 12\nbtime 1700000000\nprocesses 34\nprocs_running 5\nprocs_blocked 6\nsoftirq 78 1 2\n")
	s, err := tree(t, map[string]string{"proc/stat": large.String()}).Stat()
	if err != nil || len(s.CPUs) != 1000 || s.CPUs[999].Number != 999 || s.Total.User != time.Second || s.Total.GuestNice != 100*time.Millisecond {
		t.Errorf("%d CPUs, %+v, %v", len(s.CPUs), s.Total, err)
	}
	if s.Interrupts != 999 || s.SoftInterrupts != 78 || s.ContextSwitches != 12 || s.Forks != 34 || s.Running != 5 || s.Blocked != 6 || s.Boot.Unix() != 1_700_000_000 {
		t.Errorf("%+v", s)
	}
	// Linux 2.6.11 has seven times, and no softirq.
	s, err = tree(t, map[string]string{"proc/stat": "cpu 1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7\n"}).Stat()
	if err != nil || len(s.CPUs) != 1 || s.CPUs[0].Times.SoftIRQ != 70*time.Millisecond || s.CPUs[0].Times.Steal != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestDisksHaveTheirPartitionsAndMounts(t *testing.T) {
	r := tree(t, map[string]string{
		"@sys/class/block/sda":    "../../devices/pci/sda",
		"@sys/class/block/sda2":   "../../devices/pci/sda/sda2",
		"@sys/class/block/sda10":  "../../devices/pci/sda/sda10",
		"@sys/class/block/dm-0":   "../../devices/virtual/dm-0",
		"@sys/class/block/gone":   "../../devices/gone",
		"sys/devices/pci/sda/dev": "8:0\n", "sys/devices/pci/sda/size": "2048\n", "sys/devices/pci/sda/ro": "0\n", "sys/devices/pci/sda/removable": "1\n",
		"sys/devices/pci/sda/queue/logical_block_size": "4096\n", "sys/devices/pci/sda/queue/rotational": "1\n",
		"sys/devices/pci/sda/device/model": "Disk of tests  \n", "sys/devices/pci/sda/wwid": "t10.x\n",
		"sys/devices/pci/sda/sda2/dev": "8:2\n", "sys/devices/pci/sda/sda2/partition": "2\n", "sys/devices/pci/sda/sda2/size": "8\n", "sys/devices/pci/sda/sda2/ro": "1\n",
		"sys/devices/pci/sda/sda10/dev": "8:10\n", "sys/devices/pci/sda/sda10/partition": "10\n",
		"sys/devices/virtual/dm-0/dev": "253:0\n", "sys/devices/virtual/dm-0/dm/name": "root\n", "sys/devices/virtual/dm-0/slaves/sda2/dev": "8:2\n",
		// Linux 4.17, 4.18 and 5.5.
		"proc/diskstats":      "   8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n   8 2 sda2 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n 253 0 dm-0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n short\n",
		"proc/self/mountinfo": "1 0 253:0 / / rw - ext4 /dev/mapper/root rw\n2 1 0:44 /x /var\\040a rw - btrfs /dev/sda10 rw\n3 1 253:0 /home /home rw - ext4 /dev/mapper/root rw\n",
	})
	all, err := r.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := DiskStatistics{
		Reads: 1, ReadsMerged: 2, BytesRead: 1536, ReadTime: 4e6, Writes: 5, WritesMerged: 6, BytesWritten: 3584, WriteTime: 8e6,
		InFlight: 9, BusyTime: 10e6, WeightedTime: 11e6,
	}
	middle := old
	middle.Discards, middle.DiscardsMerged, middle.BytesDiscarded, middle.DiscardTime = 12, 13, 14*512, 15e6
	full := middle
	full.Flushes, full.FlushTime = 16, 17e6
	want := []Disk{
		{Name: "dm-0", Kind: Mapped, Major: 253, MapperName: "root", Members: []string{"sda2"}, MountPoints: []string{"/", "/home"}, Statistics: full},
		{Name: "sda", Kind: PlainDisk, Major: 8, Size: 1 << 20, LogicalBlockSize: 4096, Removable: true, Rotating: true, Model: "Disk of tests", WWID: "t10.x", Statistics: old},
		{Name: "sda2", Kind: Partition, Major: 8, Minor: 2, Parent: "sda", Size: 4096, ReadOnly: true, Statistics: middle},
		{Name: "sda10", Kind: Partition, Major: 8, Minor: 10, Parent: "sda", MountPoints: []string{"/var a"}},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

const cifs = "40 1 0:50 / /mnt rw,relatime - cifs //user:geheim@server/share rw,username=user,password=geheim,vers=3.0\n"

func TestMountsHaveNoSecrets(t *testing.T) {
	all, err := parseMounts(cifs)
	want := []Mount{{
		Source: "//user:…@server/share", Target: "/mnt", Type: "cifs", Root: "/", Minor: 50,
		Options: []string{"rw", "relatime", "username=user", "password=…", "vers=3.0"},
	}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	_, err = tree(t, map[string]string{"proc/self/mountinfo": strings.Replace(cifs, " - ", " ", 1)}).Mounts(t.Context())
	if errkind.Of(err) != errkind.Unsupported || strings.Contains(err.Error(), "geheim") {
		t.Errorf("a line of another form: %v", err)
	}
}

func TestNamesAndOptionsOfMountsAreUnescaped(t *testing.T) {
	all, err := parseMounts(`41 1 8:17 /a\040b /mnt\040x rw shared:7 master:1 - ext4 /dev/disk\134one rw,context=a\054b,x\0` + "\n")
	want := []Mount{{
		Source: `/dev/disk\one`, Target: "/mnt x", Type: "ext4", Root: "/a b", Major: 8, Minor: 17, Options: []string{"rw", "context=a,b", `x\0`},
	}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// A server that does not answer costs one call at a time, and only its own mount.
func TestAServerThatIsAwayDoesNotHoldTheOthers(t *testing.T) {
	r := tree(t, map[string]string{"proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / /nfs rw - nfs4 server:/x rw\n3 1 0:10 / /auto rw - autofs systemd-1 rw\n"})
	r.serverTime = 50 * time.Millisecond
	calls := make(chan string, 10)
	release := make(chan struct{})
	r.statfs = func(path string, out *unix.Statfs_t) error {
		calls <- strings.TrimPrefix(path, r.root)
		if strings.HasSuffix(path, "/nfs") {
			<-release
		}
		out.Blocks, out.Bfree, out.Bavail, out.Frsize = 10, 5, 4, 4096
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		all, err := r.Mounts(ctx)
		if err != nil || len(all) != 3 {
			t.Fatalf("%d mounts, %v", len(all), err)
		}
		if s := all[0].Space; s == nil || *s != (Space{Size: 40960, Free: 20480, Available: 16384}) {
			t.Errorf("%+v", s)
		}
		if !all[1].Unresponsive || all[1].Space != nil || all[2].Unresponsive || all[2].Space != nil {
			t.Errorf("%+v", all[1:])
		}
	}
	cancel()
	close(release)
	var paths []string
	for range 3 { // the second call asks the server no more
		paths = append(paths, <-calls)
	}
	slices.Sort(paths)
	if !slices.Equal(paths, []string{"", "", "/nfs"}) || len(calls) > 0 {
		t.Errorf("%q, and %d more", paths, len(calls))
	}
	if _, err := r.Mounts(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestProcessesThatEndMeanwhileAreNoError(t *testing.T) {
	r := tree(t, map[string]string{
		"proc/uptime":  "100.00 1.00\n",
		"proc/1/stat":  "1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 200 170000000 3000 18446744073709551615\n",
		"@proc/1/exe":  "/usr/lib/systemd/systemd",
		"proc/2/stat":  "2 (kthreadd) I 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0 0\n",
		"proc/10/stat": "10 (a ) b) R\n) Z 1 10 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0 0\n",
		"proc/3/other": "it has ended", "proc/self/stat": "", "proc/10x/stat": "",
	})
	var all []Process
	if err := r.Processes(t.Context(), nil, func(p Process) error { all = append(all, p); return nil }); err != nil {
		t.Fatal(err)
	}
	boot, uid := r.now().Add(-100*time.Second), uint32(os.Getuid())
	want := []Process{
		{PID: 1, State: StateSleeping, Threads: 1, CPU: 2 * time.Second, Virtual: 170_000_000, Resident: 3000 * uint64(os.Getpagesize()), Command: "systemd", Executable: "/usr/lib/systemd/systemd", Start: boot.Add(2 * time.Second), UID: uid},
		{PID: 2, State: StateIdle, Threads: 1, Command: "kthreadd", Start: boot.Add(30 * time.Millisecond), UID: uid, IsKernel: true},
		{PID: 10, PPID: 1, State: StateZombie, Threads: 1, Command: "a ) b) R\n", Start: boot.Add(30 * time.Millisecond), UID: uid},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	stop := errors.New("enough")
	if err := r.Processes(t.Context(), []int32{2, 99, 1}, func(p Process) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestArgumentsAreCutAndProcessesWithoutThemAreEmpty(t *testing.T) {
	r := tree(t, map[string]string{"proc/1/cmdline": "a\x00\x00b c\x00", "proc/2/cmdline": "", "proc/3/cmdline": strings.Repeat("x", maxArguments+1)})
	var all []Arguments
	if err := r.Arguments(t.Context(), []int32{1, 2, 3, 4}, func(a Arguments) error { all = append(all, a); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []Arguments{{PID: 1, Words: []string{"a", "", "b c"}}, {PID: 2}, {PID: 3, Words: []string{strings.Repeat("x", maxArguments)}, Truncated: true}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheRunningKernelIsRead(t *testing.T) {
	r := New("/")
	v, err := r.Version()
	if host, _ := os.Hostname(); err != nil || v.Kernel != "Linux" || v.Hostname != host {
		t.Errorf("%+v, %v", v, err)
	}
	l, err := r.Load()
	if err != nil || l.Tasks == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	u, err := r.Uptime()
	if err != nil || u.Since <= 0 || len(u.BootID) != 36 {
		t.Errorf("%+v, %v", u, err)
	}
	m, err := r.Memory()
	if err != nil || m["MemTotal"] < 1<<20 || m["MemTotal"] < m["MemFree"] {
		t.Errorf("%v, %v", m, err)
	}
	c, err := r.CPUs()
	s, err2 := r.Stat()
	if err != nil || err2 != nil || len(c.All) == 0 || len(s.CPUs) == 0 || s.Total.User == 0 || s.Boot.Year() < 2020 {
		t.Errorf("%d CPUs, %d times, %v, %v", len(c.All), len(s.CPUs), err, err2)
	}
	if _, err := r.Disks(t.Context()); err != nil {
		t.Error(err)
	}
	mounts, err := r.Mounts(t.Context())
	if err != nil || !slices.ContainsFunc(mounts, func(m Mount) bool { return m.Target == "/" && m.Space != nil }) {
		t.Errorf("%d mounts, %v", len(mounts), err)
	}
	self := int32(os.Getpid())
	found := false
	err = r.Processes(t.Context(), nil, func(p Process) error {
		if p.PID == self {
			program, _ := os.Executable()
			found = p.Executable == program && p.PPID == int32(os.Getppid()) && p.UID == uint32(os.Geteuid()) && p.Resident > 1<<20 && time.Since(p.Start) < time.Hour
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("this process was not found: %v", err)
	}
}
