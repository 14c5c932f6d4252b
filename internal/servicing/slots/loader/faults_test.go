package loader_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/md/mdtest"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

var errRead = errors.New("input/output error")

// sealed returns a running host with an encrypted volume that the TPM opens.
func sealed(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, record.Updates, slot.B, configuration)
	if err := b.fake.Format(t.Context(), b.volume(), luks.Key("key")); err != nil {
		t.Fatal(err)
	}
	b.fake.AddPCRLock("/dev/p", func(map[int][]byte) bool { return true })
	return b
}

// A fault while the boot files are read, or while a volume is sealed, ends the step with the
// cause, and the volume keeps the tokens that open it.
func TestAFaultEndsSealingAndKeepsTheTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault func(b *bench)
		says  string
		named string
	}{
		{"the image's boot files", func(b *bench) {
			b.loader.Machine.ESPFiles = func(*os.File) (fs.FS, func() error, error) { return nil, nil, errRead }
		}, "read the image's boot files: input/output error", errkind.NameDeployESPImages},
		{"the unpacked image", func(b *bench) { b.must(os.Remove(filepath.Join(b.loader.StagedDir(), "esp.img"))) }, "no such file", ""},
		{"the present boot files", func(b *bench) {
			b.loader.Machine.ESPNow = func(string) (fs.FS, boot.Space, func() error, error) { return nil, boot.Space{}, nil, errRead }
		}, "input/output error", ""},
		{"the running slot's UKI", func(b *bench) { b.must(os.RemoveAll(filepath.Join(b.esp, "EFI/Linux"))) }, "", ""},
		{"the place of the ESP", func(b *bench) { b.run.State.Paths = b.run.State.Paths[1:] }, `"esp"`, ""},
		{"the place of the volume", func(b *bench) { b.run.State.Paths = b.run.State.Paths[:1] }, `"p"`, ""},
		{"the TPM", func(b *bench) { b.chip.Fault = tpmtest.NoTPM() }, "this host has no TPM", errkind.NameGenerateTpm2AccessPolicy},
	} {
		b := sealed(t)
		before, err := b.fake.Header(t.Context(), "/dev/p")
		if err != nil {
			t.Fatal(err)
		}
		c.fault(b)
		err = b.loader.Seal(t.Context(), b.run, b.config())
		if err == nil || !strings.Contains(err.Error(), c.says) || c.named != "" && errkind.Variant(err) != c.named {
			t.Errorf("%s: %v (%s)", c.name, err, errkind.Variant(err))
		}
		if after, err := b.fake.Header(t.Context(), "/dev/p"); err != nil || after.Epoch != before.Epoch {
			t.Errorf("%s: the header has changed: %+v, %v", c.name, after, err)
		}
	}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// Without the path of a volume nothing can be said about its tokens: each step says so, and
// none passes over the volume.
func TestAVolumeWithoutAPathEndsEachStep(t *testing.T) {
	t.Parallel()
	b := sealed(t)
	b.must(b.loader.Seal(t.Context(), b.run, b.config()))
	b.run.State.Paths = b.run.State.Paths[:1]
	for name, err := range map[string]error{
		"check":   b.check(),
		"unseal":  b.loader.Unseal(t.Context(), b.run),
		"forget":  b.loader.ForgetSeal(t.Context(), b.run, b.config()),
		"confirm": b.loader.Confirm(t.Context(), b.run, b.config()),
	} {
		if err == nil || !strings.Contains(err.Error(), `"p"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASlotThatCannotBootLosesItsTokens(t *testing.T) {
	t.Parallel()
	b := sealed(t)
	b.must(b.loader.ForgetSeal(t.Context(), b.run, b.config())) // nothing is sealed
	b.must(b.loader.Seal(t.Context(), b.run, b.config()))
	b.must(b.loader.ForgetSeal(t.Context(), b.run, b.config()))
	head, err := b.fake.Header(t.Context(), "/dev/p")
	if err != nil || len(head.Tokens) != 3 || !b.fake.Unlocks("/dev/p", b.chip.All()) {
		t.Errorf("%+v, %v", head, err)
	}
}

// A volume that has no header yet cannot be sealed, and upstream's name is that of the policy.
func TestAnEnrolmentThatFailsHasUpstreamsName(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Installs, slot.A, configuration)
	err := b.loader.Seal(t.Context(), b.run, b.config())
	if errkind.Variant(err) != errkind.NameGenerateTpm2AccessPolicy || !strings.Contains(fmt.Sprint(err), "bind the volume data to") {
		t.Errorf("%v (%s)", err, errkind.Variant(err))
	}
}

// GRUB measures more than Trident can predict, so its images can bind to register 7 only.
func TestAnImageThatBootsByGrubBindsToRegister7Only(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Installs, slot.A, configuration)
	b.run.State.Bootloader = image.GRUB
	if err := b.check(); errkind.Of(err) != errkind.Unsupported || errkind.Variant(err) != errkind.NameGenerateTpm2AccessPolicy || !strings.Contains(fmt.Sprint(err), "only register 7 can be predicted for it, not [4 7 11]") {
		t.Errorf("%v", err)
	}
	b = newBench(t, record.Installs, slot.A, strings.Replace(configuration, "[4, 7, 11]", "[7]", 1))
	b.run.State.Bootloader = image.GRUB
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	key, err := b.loader.Key(b.run, b.config())
	b.must(err)
	b.must(b.fake.Format(t.Context(), b.volume(), key))
	b.must(b.loader.Seal(t.Context(), b.run, b.config()))
	if !b.fake.Unlocks("/dev/p", map[int][]byte{7: b.chip.All()[7]}) {
		t.Error("register 7 alone does not open the volume")
	}
}

func TestTheKeyOfTheConfigurationIsUsed(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Installs, slot.A, strings.Replace(configuration, "encryption: {", "encryption: {recoveryKeyUrl: file:///root/key, ", 1))
	hosttest.Write(t, filepath.Join(b.root, "root/key"), "a key")
	b.must(os.Chmod(filepath.Join(b.root, "root/key"), 0o600))
	key, err := b.loader.Keys(b.run)("data")
	if err != nil || string(key) != "a key" {
		t.Errorf("%q, %v", []byte(key), err)
	}
	b.run.State.Purpose = record.Updates
	b.must(os.Chmod(filepath.Join(b.root, "root/key"), 0o644))
	if err := b.check(); errkind.Of(err) != errkind.Invalid || errkind.Variant(err) != errkind.NameReadRecoveryKeyFile {
		t.Errorf("a key that others can read: %v", err)
	}
}

// Only an installation whose configuration says so clears the TPM.
func TestTheTPMIsClearedIfAnInstallationAsksForIt(t *testing.T) {
	t.Parallel()
	clearing := strings.Replace(configuration, "encryption: {", "encryption: {clearTpmOnInstall: true, ", 1)
	for name, c := range map[string]struct {
		purpose record.Purpose
		config  string
		clears  int
	}{
		"an installation that asks for it": {record.Installs, clearing, 1},
		"an installation that does not":    {record.Installs, configuration, 0},
		"an update":                        {record.Updates, clearing, 0},
	} {
		b := newBench(t, c.purpose, slot.A, c.config)
		b.must(b.loader.ClearTPM(t.Context(), b.run, b.config()))
		effects := loader.ClearEffects(&record.Examined{Record: &b.run.State, Config: b.config()})
		if b.chip.Clears() != c.clears || len(effects) != c.clears {
			t.Errorf("%s: cleared %d times, effects %v", name, b.chip.Clears(), effects)
		}
	}
}

// Without a proof of its content no slot gets boot files or a trial.
func TestASlotWithoutAProofIsNotTried(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Updates, slot.B, configuration)
	if err := b.loader.Try(t.Context(), b.run, b.config(), record.Proof{}); errkind.Of(err) != errkind.Internal || b.run.State.BootBegun {
		t.Errorf("%v", err)
	}
	b.loader.Machine.Firmware = func() (efivar.Store, error) { return nil, errkind.Errorf(errkind.Precondition, "no efivarfs") }
	err := b.loader.With(b.run, b.config(), func(loader.Keeper) error { return nil })
	if errkind.Of(err) != errkind.Precondition {
		t.Errorf("without variables: %v", err)
	}
	b.loader.Machine.Firmware = func() (efivar.Store, error) { return efivar.None{}, nil }
	b.loader.Machine.Inventory = func() (*blockdev.Inventory, error) { return nil, errRead }
	if err := b.loader.With(b.run, b.config(), func(loader.Keeper) error { return nil }); !errors.Is(err, errRead) {
		t.Errorf("without the disks: %v", err)
	}
}

func TestTheRunningSlotIsUnknownIfTheDisksCannotBeRead(t *testing.T) {
	t.Parallel()
	const pair = `storage:
  abUpdate: {volumePairs: [{id: root, volumeAId: ra, volumeBId: rb}]}
  filesystems: [{deviceId: root, mountPoint: /}]
`
	b := newBench(t, record.Updates, slot.B, pair)
	b.loader.Machine.Inventory = func() (*blockdev.Inventory, error) {
		return &blockdev.Inventory{Disks: []blockdev.Disk{{Partitions: []blockdev.Partition{{Path: "/dev/b", Use: blockdev.Use{Mounts: []string{"/"}}}}}}}, nil
	}
	paths := record.Devices{{ID: "ra", Path: "/dev/a"}, {ID: "rb", Path: "/dev/b"}}
	if in, err := b.loader.Running(b.config(), paths); err != nil || in != slot.B || b.loader.RootDevice() != "/dev/b" {
		t.Errorf("%v, %v", in, err)
	}
	if _, err := b.loader.Running(b.config(), paths[1:]); err == nil || !strings.Contains(err.Error(), `"ra"`) {
		t.Errorf("without the path of slot A: %v", err)
	}
	b.loader.Machine.Inventory = func() (*blockdev.Inventory, error) { return nil, errRead }
	if in, err := b.loader.Running(b.config(), paths); !errors.Is(err, errRead) || in != 0 || b.loader.RootDevice() != "unknown" {
		t.Errorf("%v, %v", in, err)
	}
}

// lines is a log.
type lines struct{ strings.Builder }

func (l *lines) Logf(_ slog.Level, format string, args ...any) {
	fmt.Fprintf(&l.Builder, format+"\n", args...)
}

func TestFaultsOfTheMembersOfTheESP(t *testing.T) {
	t.Parallel()
	const mirror = `storage:
  raid: {software: [{id: esp, name: esp, level: raid1, devices: [a, b]}]}
  filesystems: [{deviceId: esp, mountPoint: {path: /boot/efi}}]
`
	paths := map[string]string{"a": "/dev/a", "b": "/dev/b"}
	b := newBench(t, record.Updates, slot.B, mirror)
	reconcile := func() error {
		return b.loader.Reconcile(context.Background(), b.config(), paths, 0, nil)
	}
	compare := func() string {
		var log lines
		b.loader.CompareESP(context.Background(), &log, b.config(), paths)
		return log.String()
	}
	b.loader.Machine.Inventory = func() (*blockdev.Inventory, error) { return &blockdev.Inventory{}, nil }
	b.loader.Machine.Disks.Arrays = &mdtest.Memory{}
	if err := reconcile(); errkind.Of(err) != errkind.NotFound || !strings.Contains(err.Error(), "no array of that name runs") {
		t.Errorf("an array that does not run: %v", err)
	}
	if log := compare(); !strings.Contains(log, "were not compared: ") {
		t.Errorf("the log is %q", log)
	}
	b.loader.Machine.Disks.Arrays = noMembers{&mdtest.Memory{}}
	if err := reconcile(); err == nil || !strings.Contains(err.Error(), "no disk of this host has it") {
		t.Errorf("an array without a member in sync: %v", err)
	}
	b = newBench(t, record.Updates, slot.B, configuration)
	if err := reconcile(); err != nil {
		t.Errorf("an ESP that is not an array: %v", err)
	}
	if log := compare(); log != "" {
		t.Errorf("a host without the path of its ESP: %q", log)
	}
}

// noMembers runs the array "esp", of whose members none is in sync.
type noMembers struct{ *mdtest.Memory }

func (noMembers) Arrays(context.Context) ([]md.State, error) {
	return []md.State{{Name: "esp", Kernel: "md127"}}, nil
}
