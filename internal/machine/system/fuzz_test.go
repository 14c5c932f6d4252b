package system

import (
	"slices"
	"testing"
)

// FuzzParse feeds all parsers. They must not fail, and what they return is within bounds.
func FuzzParse(f *testing.F) {
	f.Add("0.20 1.05 12.40 3/1210 4711\n")
	f.Add("MemTotal: 2048 kB\nHugePages_Total: 3\n")
	f.Add("processor : 0\ncpu MHz : 1e300\ncache size : 1 KB\nflags : a b\n")
	f.Add("cpu 1 2 3\ncpu0 18446744073709551615\nbtime 99999999999999999999\n")
	f.Add("8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n")
	f.Add(cifs)
	f.Add("10 (a ) b) Z 1 10 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if l, ok := parseLoad(text); ok && (l.Load1 < 0 || l.Load15 > 1e9) {
			t.Errorf("%+v", l)
		}
		parseMemory(text)
		for _, c := range parseCPUs(text).All {
			if c.Model < 0 {
				t.Errorf("%+v", c)
			}
		}
		if s, _ := parseStat(text); s.Total.User < 0 {
			t.Errorf("%+v", s)
		}
		for _, s := range parseDiskstats(text) {
			if s.ReadTime < 0 {
				t.Errorf("%+v", s)
			}
		}
		all, _ := parseMounts(text)
		for _, m := range all {
			if slices.Contains(m.Options, "password=geheim") {
				t.Errorf("%+v", m)
			}
		}
		if p, start, ok := parseProcess(text); ok && (p.CPU < 0 || start < 0) {
			t.Errorf("%+v", p)
		}
	})
}
