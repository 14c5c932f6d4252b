package system

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Version names the host and its kernel.
type Version struct {
	Hostname                              string
	Kernel, Release, KernelBuild, Machine string
}

// Version returns the name of the host and its kernel (uname(2)).
func (r *Reader) Version() (Version, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Version{}, failed("read the version of the kernel", err)
	}
	text := func(field []byte) string { return unix.ByteSliceToString(field) }
	return Version{text(u.Nodename[:]), text(u.Sysname[:]), text(u.Release[:]), text(u.Version[:]), text(u.Machine[:])}, nil
}

// An Uptime says when the host has booted.
type Uptime struct {
	Since  time.Duration // the boot, with the time of suspension
	Boot   time.Time     // by the clock as it is now
	BootID string
}

// Uptime returns when the host has booted.
func (r *Reader) Uptime() (Uptime, error) {
	const doing = "read the uptime"
	since, err := r.uptime(doing)
	if err != nil {
		return Uptime{}, err
	}
	return Uptime{Since: since, Boot: r.now().Add(-since), BootID: r.line("proc/sys/kernel/random/boot_id")}, nil
}

func (r *Reader) uptime(doing string) (time.Duration, error) {
	const file = "proc/uptime"
	text, err := r.read(file, smallFile)
	if err != nil {
		return 0, failed(doing, err)
	}
	first, _, _ := strings.Cut(text, " ")
	whole, part, _ := strings.Cut(first, ".")
	seconds, err := strconv.ParseUint(whole, 10, 33) // 272 years
	hundredths, err2 := strconv.ParseUint(part, 10, 7)
	if err != nil || err2 != nil || len(part) != 2 {
		return 0, malformed(doing, file, text)
	}
	return time.Duration(seconds)*time.Second + time.Duration(hundredths)*10*time.Millisecond, nil //nolint:gosec // 33 and 7 bits
}

// A Load has the load averages.
type Load struct {
	Load1, Load5, Load15 float64
	Runnable, Tasks      uint64
}

// Load returns the load averages (proc_loadavg(5)).
func (r *Reader) Load() (Load, error) {
	const doing, file = "read the load", "proc/loadavg"
	text, err := r.read(file, smallFile)
	if err != nil {
		return Load{}, failed(doing, err)
	}
	l, ok := parseLoad(text)
	if !ok {
		return Load{}, malformed(doing, file, text)
	}
	return l, nil
}

func parseLoad(text string) (l Load, ok bool) {
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return l, false
	}
	for i, to := range []*float64{&l.Load1, &l.Load5, &l.Load15} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil || !(n >= 0 && n < 1e9) {
			return l, false
		}
		*to = n
	}
	running, all, ok := strings.Cut(fields[3], "/")
	var err, err2 error
	l.Runnable, err = strconv.ParseUint(running, 10, 64)
	l.Tasks, err2 = strconv.ParseUint(all, 10, 64)
	return l, ok && err == nil && err2 == nil
}

// Memory has the fields of /proc/meminfo by their names there, in bytes; those without a
// unit are numbers of pages.
type Memory map[string]uint64

// Memory returns the use of the memory (proc_meminfo(5)).
func (r *Reader) Memory() (Memory, error) {
	const doing, file = "read the memory", "proc/meminfo"
	text, err := r.read(file, smallFile)
	if err != nil {
		return nil, failed(doing, err)
	}
	m := parseMemory(text)
	if _, ok := m["MemTotal"]; !ok {
		return nil, malformed(doing, file, text)
	}
	return m, nil
}

// parseMemory skips lines with another form.
func parseMemory(text string) Memory {
	m := make(Memory, 64)
	for l := range strings.Lines(text) {
		name, rest, ok := strings.Cut(l, ":")
		if !ok {
			continue
		}
		value, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			continue
		}
		if unit == "kB" {
			n = scaled(n, 1024)
		}
		m[name] = n
	}
	return m
}
