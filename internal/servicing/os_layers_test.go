package servicing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// measuredAlbum has images whose programs a TPM can measure.
func measuredAlbum(t testing.TB) *album {
	return albumOf(t, func(t testing.TB, version, id string, more fstest.MapFS) osImage {
		section := func(name, content string) tpmtest.Section {
			return tpmtest.Section{Name: name, Content: []byte(content)}
		}
		uki := tpmtest.PE(tpmtest.Section{Name: ".linux", Content: tpmtest.PE(section(".text", "kernel "+version))}, section(".osrel", "ID=test\nPRETTY_NAME=Test\n"),
			section(".cmdline", "quiet"), section(".initrd", "initrd"), section(".uname", version))
		return assembled(t, version, id, fstest.MapFS{
			"EFI/BOOT/BOOTX64.EFI":                {Data: tpmtest.PE(section(".sdmagic", "for "+version)), Mode: 0o755},
			"EFI/Linux/linux-" + version + ".efi": {Data: uki, Mode: 0o755},
		}, more, "", nil)
	})
}

// layout says what a host has below its file systems.
type layout struct {
	name            string
	raid, encrypted bool
	pcrs            string
}

func (l layout) world(t testing.TB, a *album) *osWorld {
	return newLayeredWorld(newOSWorld(t, a), l.raid, l.encrypted)
}

// host returns a configuration for an image.
func (l layout) host(i osImage, more string) string {
	ids := []string{"esp", "root-a", "root-b", "trident"}
	if l.raid && l.encrypted {
		ids = append(ids, "data-raw")
	}
	sizes := map[string]string{"esp": "type: esp, size: 32M", "root-a": "type: root, size: 8M", "root-b": "type: root, size: 8M", "trident": "size: 8M", "data-raw": "size: 24M"}
	var b strings.Builder
	disk := func(id, device, suffix string) {
		fmt.Fprintf(&b, "  - id: %s\n    device: %s\n    partitionTableType: gpt\n    partitions:\n", id, device)
		for _, p := range ids {
			fmt.Fprintf(&b, "    - {id: %s%s, %s}\n", p, suffix, sizes[p])
		}
		if l.encrypted && device == theDisk {
			b.WriteString("    - {id: swap-raw, type: swap, size: 24M}\n")
		}
		if l.encrypted && !l.raid {
			b.WriteString("    - {id: data-raw, size: 24M}\n")
		}
	}
	b.WriteString("storage:\n  disks:\n")
	if l.raid {
		disk("one", theDisk, "-1")
		disk("two", secondDisk, "-2")
		b.WriteString("  raid:\n    software:\n")
		for _, id := range ids {
			fmt.Fprintf(&b, "    - {id: %[1]s, name: %[1]s, level: raid1, devices: [%[1]s-1, %[1]s-2]}\n", id)
		}
	} else {
		disk("one", theDisk, "")
	}
	if l.encrypted {
		fmt.Fprintf(&b, `  encryption:
    recoveryKeyUrl: file:///root/recovery.key
    clearTpmOnInstall: true
    pcrs: %s
    volumes:
    - {id: data, deviceName: data, deviceId: data-raw}
    - {id: swap, deviceName: swap, deviceId: swap-raw}
  swap: [swap]
`, l.pcrs)
	}
	b.WriteString(`  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
`)
	if l.encrypted {
		b.WriteString("  - {deviceId: data, source: new, mountPoint: /data}\n")
	}
	text := hostOf(i, more)
	from, to := strings.Index(text, "storage:\n"), strings.Index(text, "os:\n")
	return text[:from] + b.String() + text[to:]
}

func rebuilding(*osWorld) (string, func(*Service) (string, error)) {
	return "rebuild-raid", func(s *Service) (string, error) { return s.RebuildRAID(context.Background()) }
}

// layouts are the hosts with layers.
func layouts() []layout {
	return []layout{
		{name: "RAID", raid: true},
		{name: "TPM", encrypted: true, pcrs: "[4, 7, 11]"},
		{name: "RAID and TPM", raid: true, encrypted: true, pcrs: "[7, 11]"},
	}
}

// However an operation goes on a host with arrays and encrypted volumes, and wherever the power
// is cut: each boot opens the volumes by the TPM, one system or the other runs, all arrays run,
// the recovery key opens the volumes, and no file has it.
func TestAHostWithLayersSurvivesPowerCuts(t *testing.T) {
	a := measuredAlbum(t)
	cases, number := 0, 0
	for _, l := range layouts() {
		text := func(i osImage, more string) func(*album) string {
			return func(*album) string { return l.host(i, more) }
		}
		v1, v2 := text(a.v1, ""), text(a.v2, "")
		var installed, updated *osWorld
		lives := []string{tempDir(t), tempDir(t)}
		synctest.Test(t, func(t *testing.T) {
			w := l.world(t, a)
			w.powerOn()
			w.must(installing(v1, true, true))
			w.checkLayers(l)
			w.rest()
			installed = w.copied(t, lives[0])
			w.powerOn()
			w.must(updating(v2, true, true))
			w.checkLayers(l)
			w.rest()
			updated = w.copied(t, lives[1])
		})
		type scenario struct {
			osScenario
			start  *osWorld
			change func(*osWorld) // before the first boot
			isRAID bool
		}
		replaced := func(w *osWorld) { w.second = blockdevtest.New(layeredSize, 512) }
		without := func(disk string) func(*osWorld) { return func(w *osWorld) { w.pulled = disk } }
		for n, c := range []scenario{
			{osScenario: osScenario{name: "install", do: installing(v1, true, true), want: operation.Done, runs: slot.A, version: "v1"}},
			{osScenario: osScenario{name: "update", do: updating(v2, true, true), want: operation.Done, runs: slot.B, version: "v2"}, start: installed},
			{osScenario: osScenario{name: "update again", do: updating(text(a.sick, ""), true, true), want: operation.Done, runs: slot.A, version: "v5"}, start: updated},
			{osScenario: osScenario{name: "an image that does not boot", do: updating(text(a.panics, ""), true, true),
				want: operation.Undone, kind: errkind.Unhealthy, named: "AbUpdateRebootCheck", runs: slot.A, version: "v1"}, start: installed},
			{osScenario: osScenario{name: "an update that is not healthy", do: updating(text(a.sick, failing), true, true),
				want: operation.Undone, kind: errkind.Unhealthy, named: "HealthChecksFailed", runs: slot.A, version: "v1"}, start: installed},
			{osScenario: osScenario{name: "rollback", do: rollingBack, want: operation.Done, runs: slot.A, version: "v1"}, start: updated},
			{osScenario: osScenario{name: "update without the second disk", do: updating(v2, true, true), want: operation.Done, runs: slot.B, version: "v2"}, start: installed, change: without(secondDisk), isRAID: true},
			{osScenario: osScenario{name: "update without the first disk", do: updating(v2, true, true), want: operation.Done, runs: slot.B, version: "v2"}, start: installed, change: without(theDisk), isRAID: true},
			{osScenario: osScenario{name: "rebuild", do: rebuilding, want: operation.Done, runs: slot.A, version: "v1"}, start: installed, change: replaced, isRAID: true},
		} {
			if c.isRAID && !l.raid || l.encrypted && strings.HasSuffix(c.name, "first disk") { // which has the only copy of swap
				continue
			}
			if l.raid && l.encrypted && !slices.Contains([]string{"install", "update", "an image that does not boot", "update without the second disk"}, c.name) {
				continue // the other hosts show it
			}
			var trace []string
			var rests map[int]bool
			play := func(t *testing.T, cut int, after bool) {
				synctest.Test(t, func(t *testing.T) {
					var w *osWorld
					if c.start == nil {
						w = l.world(t, a)
					} else {
						w = c.start.copied(t, tempDir(t))
					}
					if c.change != nil {
						c.change(w)
					}
					c.play(w, cut, after)
					if cut == 0 {
						trace, rests = slices.Clone(w.Trace), w.Rests()
						t.Logf("touches: %s", strings.Join(w.Trace, ", "))
					}
					w.powerOn()
					w.checkLayers(l)
					if w.pulled != "" { // the disk comes back, out of date
						w.rest()
						w.pulled = ""
						runs := w.slot
						w.powerOn()
						if w.slot != runs {
							t.Errorf("with the disk that was missing %s runs, want %s\ntouches: %v", w.slot, runs, w.Trace)
						}
						w.must(rebuilding)
						w.checkLayers(l)
					}
					w.rest()
				})
			}
			t.Run(l.name+", "+c.name, func(t *testing.T) {
				if !t.Run("no cut", func(t *testing.T) { play(t, 0, false) }) {
					return
				}
				number += n
				for cut := 1; cut <= len(trace); cut++ {
					for _, after := range []bool{false, true} {
						if !after && (rests[cut] || isInner(trace[cut-1])) {
							continue // the same as after the change before, or as before the outer change
						}
						number++
						if cases++; !hosttest.InTurnOf(number, 40) {
							continue
						}
						t.Run(fmt.Sprintf("cut at %d, after=%v", cut, after), func(t *testing.T) {
							t.Parallel()
							play(t, cut, after)
						})
					}
				}
			})
		}
	}
	t.Logf("%d cases", cases)
}

// isInner reports whether a change is a part of another one: of a header, or of a superblock.
func isInner(name string) bool {
	return slices.Contains([]string{"write header", "add key slot", "add token", "remove key slot", "remove token", "open volume", "close volume", "write superblock"}, name)
}

// checkLayers fails the test unless all arrays run with the members that the machine has, the
// recovery key opens all volumes, the tokens of both slots fit, and no file has the key.
func (w *osWorld) checkLayers(l layout) {
	w.t.Helper()
	ctx := context.Background()
	fault := func(format string, args ...any) {
		w.t.Helper()
		w.t.Errorf("%s\ntouches: %v", fmt.Sprintf(format, args...), w.Trace)
	}
	if l.raid {
		list, err := w.arrays.Arrays(ctx)
		want := 2 - len(w.pulled)/len(secondDisk)
		names := []string{}
		for _, a := range list {
			names = append(names, a.Name)
			if len(w.arrays.InSync(a.Name)) != want || a.Slots != 2 {
				fault("array %+v", a)
			}
		}
		slices.Sort(names)
		expected := []string{"esp", "root-a", "root-b", "trident"}
		if l.encrypted {
			expected = slices.Insert(expected, 0, "data-raw")
		}
		if err != nil || !slices.Equal(names, expected) {
			fault("the arrays are %v, %v", names, err)
		}
	}
	for id, at := range w.status().PartitionPaths {
		if _, ok := w.inventory().Partition(at); !ok && w.pulled == "" {
			fault("the status has %s for %s", at, id)
		}
	}
	for name, v := range w.crypt {
		if !w.isEncrypted(v.Device) { // of an earlier attempt
			continue
		}
		if err := w.luks.Test(ctx, v, luks.Key(theKey)); err != nil {
			fault("the recovery key does not open %s: %v", name, err)
		}
		head, err := w.luks.Header(ctx, v.Device)
		if err != nil || !slices.Equal(head.Bare(), []int{0}) || len(head.Tokens) > 20 {
			fault("the header of %s is %+v, %v", name, head, err)
		}
		for s, b := range w.bootable() {
			at := tpmtest.With(registersOf(w, b))
			if !w.luks.Unlocks(v.Device, at) {
				fault("the TPM does not open %s for %s: %+v", name, s, head)
			}
		}
	}
	for _, dir := range []string{w.root, w.live} {
		w.findKey(dir)
	}
}

// registersOf returns what the registers are after a boot, and those of them that are others when
// the system opens the volumes.
func registersOf(w *osWorld, b tpm.Boot) (map[int][]byte, map[int]tpm.Digest) {
	w.t.Helper()
	chip := &tpmtest.Chip{}
	if err := chip.Boot(b); err != nil {
		w.t.Fatal(err)
	}
	log, err := chip.Log(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return chip.All(), log.Until(tpm.AfterUnlock).Replay()
}

// bootable returns the programs of the slots that have boot files.
func (w *osWorld) bootable() map[slot.Slot]tpm.Boot {
	w.t.Helper()
	out := map[slot.Slot]tpm.Boot{}
	esp, ok := w.firmwareESP(w.inventory())
	if !ok {
		return out
	}
	dir := tempDir(w.t)
	w.unpackFrom(w.diskOf(esp.Path).Part(esp.Offset, esp.Size), esp.Label, dir)
	for s, name := range map[slot.Slot]string{slot.A: "AZLA", slot.B: "AZLB"} {
		loader, err := os.ReadFile(filepath.Join(dir, "EFI", name, "bootx64.efi"))
		found, gerr := filepath.Glob(filepath.Join(dir, "EFI/Linux/*-"+strings.ToLower(name)+"*.efi"))
		if err != nil || gerr != nil || len(found) != 1 {
			continue
		}
		uki, err := os.ReadFile(found[0])
		if err != nil {
			w.t.Fatal(err)
		}
		out[s] = tpm.Boot{Loader: tpmtest.Open(w.t, loader), UKI: tpmtest.Open(w.t, uki)}
	}
	return out
}

// findKey fails the test if a file other than its own has the recovery key.
func (w *osWorld) findKey(dir string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(file, "root/recovery.key") {
			return err
		}
		data, err := os.ReadFile(file)
		if bytes.Contains(data, []byte(theKey)) {
			w.t.Errorf("%s has the recovery key", file)
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}
