package system

import (
	"slices"
	"strconv"
	"strings"
)

// A CPUModel describes CPUs. Texts are those of /proc/cpuinfo.
type CPUModel struct {
	Vendor, Name, Family, Model, Stepping, Microcode string
	Cache                                            uint64 // bytes
	Flags, Bugs                                      []string

	flags, bugs string // as one text each, to compare
}

// A CPU is one logical CPU.
type CPU struct {
	Number        uint32
	Model         int     // index in CPUs.Models
	Package, Core *uint32 // nil if the architecture does not have them
	// In hertz, 0 if not known.
	Current, Min, Max uint64
	Governor          string
}

// CPUs are the CPUs that are online.
type CPUs struct {
	All    []CPU
	Models []CPUModel
}

// CPUs returns the CPUs that are online, with their frequencies.
func (r *Reader) CPUs() (CPUs, error) {
	const doing, file = "read the CPUs", "proc/cpuinfo"
	text, err := r.read(file, largeFile)
	if err != nil {
		return CPUs{}, failed(doing, err)
	}
	all := parseCPUs(text)
	if len(all.All) == 0 {
		return CPUs{}, malformed(doing, file, text)
	}
	for i := range all.All {
		c := &all.All[i]
		dir := "sys/devices/system/cpu/cpu" + strconv.FormatUint(uint64(c.Number), 10) + "/cpufreq/"
		governor := r.line(dir + "scaling_governor")
		if governor == "" {
			continue
		}
		c.Governor = governor
		c.Min, c.Max = scaled(r.number(dir+"scaling_min_freq"), 1000), scaled(r.number(dir+"scaling_max_freq"), 1000)
		if now := r.number(dir + "scaling_cur_freq"); now > 0 {
			c.Current = scaled(now, 1000)
		}
	}
	return all, nil
}

// parseCPUs returns the CPUs of a cpuinfo: blocks of "name : value" that each begin with the
// number of the CPU.
func parseCPUs(text string) (all CPUs) {
	var c *CPU
	var m CPUModel
	end := func() {
		if c != nil {
			c.Model = all.model(m)
			all.All = append(all.All, *c)
		}
		c, m = nil, CPUModel{}
	}
	for l := range strings.Lines(text) {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if name == "processor" {
			end()
			if n, err := strconv.ParseUint(value, 10, 32); err == nil {
				c = &CPU{Number: uint32(n)}
			}
			continue
		}
		if c != nil {
			c.set(name, value)
			m.set(name, value)
		}
	}
	end()
	return all
}

// model returns the index of a model, and adds it if it is new. Few hosts have more than two.
func (all *CPUs) model(m CPUModel) int {
	for i, known := range all.Models {
		if known.flags == m.flags && known.bugs == m.bugs && known.Vendor == m.Vendor && known.Name == m.Name && known.Family == m.Family &&
			known.Model == m.Model && known.Stepping == m.Stepping && known.Microcode == m.Microcode && known.Cache == m.Cache {
			return i
		}
	}
	m.Flags, m.Bugs = strings.Fields(m.flags), strings.Fields(m.bugs)
	all.Models = append(all.Models, m)
	return len(all.Models) - 1
}

func (c *CPU) set(name, value string) {
	switch name {
	case "physical id":
		c.Package = small(value)
	case "core id":
		c.Core = small(value)
	case "cpu MHz":
		if mhz, err := strconv.ParseFloat(value, 64); err == nil && mhz > 0 && mhz < 1e9 {
			c.Current = uint64(mhz * 1e6)
		}
	}
}

func small(value string) *uint32 {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return nil
	}
	out := uint32(n)
	return &out
}

// set stores a field of x86, or the corresponding one of ARM and RISC-V.
func (m *CPUModel) set(name, value string) {
	switch name {
	case "vendor_id", "CPU implementer", "mvendorid":
		m.Vendor = value
	case "model name", "uarch":
		m.Name = value
	case "cpu family", "CPU architecture":
		m.Family = value
	case "model", "CPU part", "marchid":
		m.Model = value
	case "stepping", "CPU revision", "mimpid":
		m.Stepping = value
	case "microcode":
		m.Microcode = value
	case "flags", "Features", "isa":
		m.flags = value
	case "bugs":
		m.bugs = value
	case "cache size":
		if n, unit, _ := strings.Cut(value, " "); slices.Contains([]string{"KB", "K"}, unit) {
			m.Cache = scaled(parseNumber(n), 1024)
		}
	}
}
