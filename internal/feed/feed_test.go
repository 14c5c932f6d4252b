package feed

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAPathIsReadBackAsItWasMade(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"2.0.0", "2.0.0-rc.1", "2.0.0-a-b.c-d", "1.2.3+build-7", "1.2.3-rc.1+x"} {
		image := ImageName{"stable", "x86-64", v}
		if got, err := ParseImagePath(ImagePath("stable", "x86-64", v)); err != nil || got != image {
			t.Errorf("image of %s: %v, %v", v, got, err)
		}
		patch := PatchName{"beta-2", "arm64", "1.0.0", v}
		if got, err := ParsePatchPath(PatchPath("beta-2", "arm64", "1.0.0", v)); err != nil || got != patch {
			t.Errorf("patch to %s: %v, %v", v, got, err)
		}
	}
	if got, want := ImagePath("stable", "x86-64", "2.0.0-rc.1"), "stable/x86-64/trident_2.0.0~rc.1_x86-64.raw"; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
	if got, want := PatchPath("stable", "arm64", "1.0.0", "2.0.0"), "stable/arm64/trident_1.0.0_2.0.0_arm64.patch"; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
}

func TestAPathThatNobodyMadeIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", "/", "stable/x86-64/", "stable/x86-64/trident.raw",
		"stable/x86-64/trident_2.0.0_arm64.raw", "stable/amd64/trident_2.0.0_amd64.raw", "stable/riscv/trident_2.0.0_riscv.raw",
		"stable/x86-64/trident_2.0.0-rc.1_x86-64.raw", "stable/x86-64/trident_v2.0.0_x86-64.raw", "stable/x86-64/other_2.0.0_x86-64.raw",
		"../x86-64/trident_2.0.0_x86-64.raw", "tuf/x86-64/trident_2.0.0_x86-64.raw", "/stable/x86-64/trident_2.0.0_x86-64.raw",
		"stable/x86-64/../x86-64/trident_2.0.0_x86-64.raw", "stable/x86-64/trident_2.0.0_x86-64.patch",
		"stable/x86-64/trident_2.0.0_2.0.0_x86-64.patch", "stable/x86-64/trident_2.0.0_x86-64.raw\n",
		"stable/x86-64/trident_" + strings.Repeat("1", 600) + ".0.0_x86-64.raw",
	} {
		if got, err := ParseImagePath(name); errkind.Of(err) != errkind.Invalid {
			t.Errorf("ParseImagePath(%q) = %v, %v", name, got, err)
		}
		if got, err := ParsePatchPath(name); errkind.Of(err) != errkind.Invalid {
			t.Errorf("ParsePatchPath(%q) = %v, %v", name, got, err)
		}
	}
	if v, err := ParseImageFile("trident_2.0.0~rc.1_arm64.raw", "arm64"); v != "2.0.0-rc.1" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
}

func TestNamesOfChannels(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"stable": true, "lts-2": true, "9": true, "": false, "Stable": false, "a/b": false, "..": false, "-a": false, "a-": false, "a--b": false,
		"root": false, "targets": false, "snapshot": false, "timestamp": false, "tuf": false, "a.b": false, "1.stable": false, strings.Repeat("a", 33): false,
	} {
		if err := CheckChannel(name); (err == nil) != ok {
			t.Errorf("CheckChannel(%q): %v", name, err)
		}
	}
}

func sum(c string) string { return strings.Repeat(c, 64) }

func TestSumsAreReadBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	want := Sums{"b.raw": sum("1"), "a b.raw": sum("f")}
	data, err := want.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if text := sum("f") + "  a b.raw\n" + sum("1") + "  b.raw\n"; string(data) != text {
		t.Errorf("text %q", data)
	}
	got, err := ParseSums(data)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if got, err := ParseSums([]byte(sum("0") + " *x\n")); err != nil || got["x"] != sum("0") {
		t.Errorf("binary mark: %v, %v", got, err)
	}
}

func TestSumsThatAReaderCouldMistakeAreRefused(t *testing.T) {
	t.Parallel()
	h := sum("a")
	for fault, text := range map[string]string{
		"slash":            h + "  x86-64/a\n",
		"CRLF":             h + "  a\r\n",
		"control":          h + "  a\x00b\n",
		"control char":     h + "  a\tb\n",
		"UTF-8":            h + "  a\xff\n",
		"backslash":        `\` + h + "  a\n",
		"no newline":       h + "  a",
		"two spaces":       h + " a\n",
		"64 lower":         sum("A") + "  a\n",
		"empty":            h + "  \n",
		"twice":            h + "  a\n" + h + "  a\n",
		". or ..":          h + "  ..\n",
		"255":              h + "  " + strings.Repeat("a", 256) + "\n",
		"separated":        "\n",
		"separated by two": "# comment\n",
	} {
		_, err := ParseSums([]byte(text))
		if errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: error %v", fault, err)
		}
	}
	if _, err := ParseSums(make([]byte, MaxSums+1)); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("oversize: %v", err)
	}
	for _, s := range []Sums{{"a/b": h}, {"a\n": h}, {"a": "xyz"}, {"": h}} {
		if _, err := s.Bytes(); errkind.Of(err) != errkind.Invalid {
			t.Errorf("Bytes of %v: %v", s, err)
		}
	}
}

func FuzzSums(f *testing.F) {
	f.Add([]byte(sum("a") + "  trident_2.0.0_x86-64.raw\n"))
	f.Add([]byte(sum("a") + " *x\n" + sum("b") + "  y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSums(data)
		if err != nil {
			return
		}
		out, err := s.Bytes()
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		again, err := ParseSums(out)
		if d := cmp.Diff(s, again); d != "" || err != nil {
			t.Fatalf("%v\n%s", err, d)
		}
	})
}

func date(day int) time.Time { return time.Date(2026, 12, day, 0, 0, 0, 0, time.UTC) }

func release() Release {
	return Release{
		Version: "2.0.0", Architecture: "x86-64", RootHash: sum("a"), OS: OS{ID: "_any"}, Published: date(1), After: "1.0.0",
		Wave:    &Wave{Begin: date(1), End: date(8), First: 100},
		Patches: []Patch{{From: "1.0.0", Path: PatchPath("stable", "x86-64", "1.0.0", "2.0.0"), Size: 1, SHA256: sum("b")}},
	}
}

func TestAReleaseIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	custom, err := release().Custom()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRelease(custom)
	if d := cmp.Diff(release(), got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if _, err := ParseRelease(json.RawMessage(strings.Replace(string(custom), `{"version"`, `{"new":{"x":[1]},"version"`, 1))); err != nil {
		t.Errorf("unknown field: %v", err)
	}
}

func TestAWrongFieldOfAReleaseIsNamed(t *testing.T) {
	t.Parallel()
	for field, spoil := range map[string]func(*Release){
		"version":           func(r *Release) { r.Version = "v2" },
		"architecture":      func(r *Release) { r.Architecture = "amd64" },
		"rootHash":          func(r *Release) { r.RootHash = "00" },
		"os.id":             func(r *Release) { r.OS.ID = "a\x1bb" },
		"published":         func(r *Release) { r.Published = time.Time{} },
		"after":             func(r *Release) { r.After = "2.0.0" },
		"wave.first":        func(r *Release) { r.Wave.First = 10_001 },
		"wave.end":          func(r *Release) { r.Wave.End = date(1).Add(-1) },
		"wave.begin":        func(r *Release) { r.Wave.Begin, r.Wave.End = time.Time{}, time.Time{} },
		"patches":           func(r *Release) { r.Patches = make([]Patch, MaxPatches+1) },
		"patches[0].path":   func(r *Release) { r.Patches[0].Path = "../../etc/passwd" },
		"patches[0].size":   func(r *Release) { r.Patches[0].Size = 0 },
		"patches[0].sha256": func(r *Release) { r.Patches[0].SHA256 = "" },
		"patches[1].from":   func(r *Release) { r.Patches = append(r.Patches, r.Patches[0]) },
	} {
		r := release()
		spoil(&r)
		custom, err := r.Custom()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRelease(custom); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "field "+field+":") {
			t.Errorf("%s: error %v", field, err)
		}
	}
	for _, custom := range []string{"", "null", "[]", "{}", `{"trident":3}`, `{"trident":{"published":"x"}}`} {
		if _, err := ParseRelease(json.RawMessage(custom)); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%q: error %v", custom, err)
		}
	}
	if _, err := ParseRelease(make(json.RawMessage, maxCustom+1)); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("oversize: error %v", err)
	}
}

func FuzzRelease(f *testing.F) {
	custom, err := release().Custom()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(custom))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRelease(data)
		if err != nil {
			return
		}
		if at := r.Wave.Reaches("host", r.Version); r.Wave != nil && (at.Before(r.Wave.Begin) || at.After(r.Wave.End)) {
			t.Fatalf("turn at %v of wave %v", at, r.Wave)
		}
		again, err := r.Custom()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRelease(again); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAWaveReachesHostsEvenly(t *testing.T) {
	t.Parallel()
	w := &Wave{Begin: date(1), End: date(11), First: 1000}
	var atOnce, half int
	const hosts = 4000
	for i := range hosts {
		at := w.Reaches(strings.Repeat("h", i), "2.0.0")
		if at.Before(w.Begin) || at.After(w.End) {
			t.Fatalf("host %d at %v", i, at)
		}
		if at.Equal(w.Begin) {
			atOnce++
		}
		if !at.After(date(6)) {
			half++
		}
	}
	// Expected are 10 % and 55 % of the hosts. The hash is fixed, and so are the numbers.
	if atOnce < hosts*8/100 || atOnce > hosts*12/100 || half < hosts*52/100 || half > hosts*58/100 {
		t.Errorf("%d of %d at once, %d in half of the time", atOnce, hosts, half)
	}
}

func TestTheTurnOfAHostIsFixed(t *testing.T) {
	t.Parallel()
	w := &Wave{Begin: date(1), End: date(11), First: 0}
	if a, b := w.Reaches("a", "2.0.0"), w.Reaches("a", "2.0.1"); a.Equal(b) {
		t.Error("a host has the same turn for two versions")
	}
	if at := (&Wave{Begin: date(1), End: date(11), First: 10_000}).Reaches("a", "2.0.0"); !at.Equal(date(1)) {
		t.Errorf("all at once: %v", at)
	}
	if at := (*Wave)(nil).Reaches("a", "2.0.0"); !at.IsZero() {
		t.Errorf("no wave: %v", at)
	}
	// The SHA-256 of "a", NUL, "2.0.0" begins with 1067d55768e47db4, which is 436 modulo 10,000.
	if got, want := w.Reaches("a", "2.0.0"), date(1).Add(10*24*time.Hour*437/10_000); !got.Equal(want) {
		t.Errorf("turn at %v, want %v", got, want)
	}
}
