package system

import (
	"strconv"
	"strings"
	"time"
)

// Times is the time that a CPU spent in each mode. Guest and GuestNice are contained in
// User and Nice.
type Times struct {
	User, Nice, System, Idle, Iowait, IRQ, SoftIRQ, Steal, Guest, GuestNice time.Duration
}

// A CPUTimes has the times of one CPU.
type CPUTimes struct {
	Number uint32
	Times  Times
}

// Stat has the counters of the kernel since the boot.
type Stat struct {
	Total                                              Times
	CPUs                                               []CPUTimes
	Interrupts, SoftInterrupts, ContextSwitches, Forks uint64
	Running, Blocked                                   uint64
	Boot                                               time.Time
}

// Stat returns the counters of the kernel (proc_stat(5)).
func (r *Reader) Stat() (Stat, error) {
	const doing, file = "read the counters of the kernel", "proc/stat"
	text, err := r.read(file, largeFile)
	if err != nil {
		return Stat{}, failed(doing, err)
	}
	s, ok := parseStat(text)
	if !ok {
		return Stat{}, malformed(doing, file, text)
	}
	return s, nil
}

// parseStat reports whether text has the times of all CPUs. Other lines may be missing.
func parseStat(text string) (s Stat, ok bool) {
	for l := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		if number, isCPU := strings.CutPrefix(name, "cpu"); isCPU {
			times := parseTimes(rest)
			if number == "" {
				s.Total, ok = times, true
			} else if n, err := strconv.ParseUint(number, 10, 32); err == nil {
				s.CPUs = append(s.CPUs, CPUTimes{uint32(n), times})
			}
			continue
		}
		first, _, _ := strings.Cut(rest, " ")
		n := parseNumber(first)
		switch name {
		case "intr":
			s.Interrupts = n
		case "softirq":
			s.SoftInterrupts = n
		case "ctxt":
			s.ContextSwitches = n
		case "processes":
			s.Forks = n
		case "procs_running":
			s.Running = n
		case "procs_blocked":
			s.Blocked = n
		case "btime":
			s.Boot = time.Unix(int64(min(n, 1<<40)), 0).UTC() //nolint:gosec // at most 2^40
		}
	}
	return s, ok
}

func parseTimes(text string) (t Times) {
	to := [...]*time.Duration{&t.User, &t.Nice, &t.System, &t.Idle, &t.Iowait, &t.IRQ, &t.SoftIRQ, &t.Steal, &t.Guest, &t.GuestNice}
	i := 0
	for word := range strings.FieldsSeq(text) {
		if i == len(to) {
			break
		}
		*to[i] = ofTicks(parseNumber(word))
		i++
	}
	return t
}
