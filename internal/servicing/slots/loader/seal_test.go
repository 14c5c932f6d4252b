package loader_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/luks/lukstest"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

const configuration = `storage:
  disks: [{id: d, device: /dev/d, partitionTableType: gpt, partitions: [{id: esp, type: esp, size: 1G}, {id: p, size: 1G}]}]
  filesystems: [{deviceId: esp, mountPoint: {path: /boot/efi}}]
  encryption: {volumes: [{id: data, deviceName: data, deviceId: p}], pcrs: [4, 7, 11]}
`

// bench is a host with the boot files of an image, an ESP, and a TPM.
type bench struct {
	*testing.T
	root, image, esp string
	chip             tpmtest.Chip
	fake             lukstest.Fake
	loader           *loader.Loader
	run              *record.Run
	log              strings.Builder
	lacks            string
}

// finder is a host that lacks one tool.
type finder struct {
	run.Runner
	lacks *string
}

func (f finder) Find(name string) error {
	if name == *f.lacks {
		return errkind.Errorf(errkind.Precondition, "find the tool %s", name)
	}
	return nil
}

func newBench(t *testing.T, purpose record.Purpose, in slot.Slot, config string) *bench {
	t.Helper()
	b := &bench{T: t, root: t.TempDir(), image: t.TempDir(), esp: t.TempDir()}
	b.fake.Registers = b.chip.All
	m := machine.Machine{
		Arch: "amd64",
		ESPFiles: func(*os.File) (fs.FS, func() error, error) {
			return os.DirFS(b.image), func() error { return nil }, nil
		},
		ESPNow: func(string) (fs.FS, boot.Space, func() error, error) {
			return os.DirFS(b.esp), boot.Space{}, func() error { return nil }, nil
		},
	}
	m.Disks.Runner, m.Disks.Volumes = finder{lacks: &b.lacks}, &b.fake
	host := change.New(change.Host{Root: b.root, Logger: slog.New(slog.DiscardHandler), Runner: &operation.Runner{Config: operation.Config{Life: operation.Life{Boot: "first"}}}})
	b.loader = &loader.Loader{Host: host, Machine: m, Disks: &disks.Disks{Host: host, Machine: m}, TPM: &b.chip}
	c, err := hostconfig.ParseRecorded([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	b.run = operation.Rehearse("op", record.Record{
		Asked: c.Recorded(), Purpose: purpose, Slot: in,
		Paths: record.Devices{{ID: "esp", Path: "/dev/esp"}, {ID: "p", Path: "/dev/p"}},
	}, func(_ slog.Level, text string) { b.log.WriteString(text + "\n") })
	hosttest.Write(t, filepath.Join(host.StagedDir(), "esp.img"), "")
	hosttest.Write(t, filepath.Join(b.image, "EFI/BOOT/bootx64.efi"), string(tpmtest.Loader("2")))
	hosttest.Write(t, filepath.Join(b.image, "EFI/Linux/new.efi"), string(tpmtest.UKI("b")))
	hosttest.Write(t, filepath.Join(b.esp, "EFI/AZLA/bootx64.efi"), string(tpmtest.Loader("1")))
	hosttest.Write(t, filepath.Join(b.esp, "EFI/Linux/vmlinuz-100-azla0.efi"), string(tpmtest.UKI("a")))
	if err := b.chip.Boot(tpmtest.NewBoot(t, "1", "a")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) config() *hostconfig.Config {
	c, err := b.run.State.Config()
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bench) volume() luks.Volume { return luks.Volume{Device: "/dev/p", Name: "data"} }

func (b *bench) check() error {
	return b.loader.CheckSeal(b.Context(), b.run, &record.Examined{Record: &b.run.State, Config: b.config()})
}

func TestAnInstallationAndItsFirstBootSealTheVolumes(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Installs, slot.A, configuration)
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	key, err := b.loader.Key(b.run, b.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.fake.Format(t.Context(), b.volume(), key); err != nil {
		t.Fatal(err)
	}
	b.run.State.Partitioned = true
	for range 2 { // after a restart of the daemon
		if err := b.loader.Seal(t.Context(), b.run, b.config()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.chip.Boot(tpmtest.NewBoot(t, "2", "b")); err != nil {
		t.Fatal(err)
	}
	if err := b.loader.Confirm(t.Context(), b.run, b.config()); err != nil {
		t.Fatal(err)
	}
	head, err := b.fake.Header(t.Context(), "/dev/p")
	if err != nil || len(head.Tokens) != 3 || len(head.Tokens[0].PCRs) != 3 {
		t.Errorf("%+v, %v", head, err)
	}
	b.mustNotKnow(key)
	b.run.State.RebootFrom = "live"
	if err := b.loader.Unseal(t.Context(), b.run); err != nil {
		t.Fatal(err)
	}
	if again, err := b.fake.Header(t.Context(), "/dev/p"); err != nil || again.Epoch != head.Epoch {
		t.Errorf("an installed system that has booted loses its tokens: %+v, %v", again, err)
	}
}

// mustNotKnow fails the test if the record, the log, or a file on a disk of the host has the key.
func (b *bench) mustNotKnow(key luks.Key) {
	b.Helper()
	state, err := json.Marshal(b.run.State)
	if err != nil {
		b.Fatal(err)
	}
	texts := map[string]string{"record": string(state), "log": b.log.String(), "plan": fmt.Sprint(loader.SealEffects(&record.Examined{Record: &b.run.State, Config: b.config()}))}
	err = filepath.WalkDir(b.root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(name, filepath.Join(b.root, "run/")) {
			texts[name] = hosttest.Text(b, name)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for where, text := range texts {
		if strings.Contains(text, string(key)) {
			b.Errorf("%s has the key", where)
		}
	}
}

func TestAHostThatRebootsDuringItsInstallationHasLostTheKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Installs, slot.A, configuration)
	first, err := b.loader.Key(b.run, b.config())
	if err != nil {
		t.Fatal(err)
	}
	b.run.State.Partitioned = true
	again, err := b.loader.Key(b.run, b.config())
	if err != nil || string(first) != string(again) || len(first) != 71 {
		t.Errorf("%q, then %q, %v", []byte(first), []byte(again), err)
	}
	if err := os.RemoveAll(filepath.Join(b.root, "run")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.loader.Key(b.run, b.config()); errkind.Of(err) != errkind.Precondition {
		t.Errorf("after the reboot: %v", err)
	}
}

func TestAnUpdateSealsAndIsUndone(t *testing.T) {
	t.Parallel()
	b := newBench(t, record.Updates, slot.B, configuration)
	if err := b.fake.Format(t.Context(), b.volume(), luks.Key("key")); err != nil {
		t.Fatal(err)
	}
	b.fake.AddPCRLock("/dev/p", func(map[int][]byte) bool { return true })
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	if err := b.loader.Seal(t.Context(), b.run, b.config()); err != nil {
		t.Fatal(err)
	}
	if head, err := b.fake.Header(t.Context(), "/dev/p"); err != nil || len(head.Tokens) != 3+6+4 { // the last are for mixed boots
		t.Errorf("%+v, %v", head, err)
	}
	if err := b.loader.Unseal(t.Context(), b.run); err != nil {
		t.Fatal(err)
	}
	if head, err := b.fake.Header(t.Context(), "/dev/p"); err != nil || len(head.Tokens) != 3 || !b.fake.Unlocks("/dev/p", b.chip.All()) {
		t.Errorf("%+v, %v", head, err)
	}
	if err := b.check(); err != nil { // now the TPM opens the volume by a token of the running slot
		t.Error(err)
	}
}

func TestFaultsOfSealingAreFoundBeforeADiskIsChanged(t *testing.T) {
	t.Parallel()
	named := func(mode fs.FileMode) func(*bench) {
		return func(b *bench) {
			file := filepath.Join(b.root, "root/key")
			hosttest.Write(b, file, "a key\n")
			if err := os.Chmod(file, mode); err != nil {
				b.Fatal(err)
			}
		}
	}
	for want, c := range map[string]struct {
		update bool
		change func(*bench)
		config string
		kind   errkind.Kind
		name   string
	}{
		"no TPM":              {change: func(b *bench) { b.chip.Fault = tpmtest.NoTPM() }, kind: errkind.Unsupported, name: errkind.NameGenerateTpm2AccessPolicy},
		"systemd-cryptenroll": {change: func(b *bench) { b.lacks = "systemd-cryptenroll" }, kind: errkind.Precondition, name: errkind.NameMissingBinary},
		".profile": {change: func(b *bench) {
			uki := tpmtest.PE(tpmtest.Section{Name: ".linux", Content: []byte("x")}, tpmtest.Section{Name: ".osrel", Content: []byte("ID=x")}, tpmtest.Section{Name: ".profile", Content: []byte("ID=x")})
			hosttest.Write(b, filepath.Join(b.image, "EFI/Linux/new.efi"), string(uki))
		}, kind: errkind.Unsupported, name: errkind.NameGenerateTpm2AccessPolicy},
		"measures a program": {update: true, change: func(b *bench) {
			b.chip.Measure(tpm.Event{Register: 4, Type: 0x80000003})
		}, kind: errkind.Unsupported, name: errkind.NameGenerateTpm2AccessPolicy},
		"no such file":      {config: "recoveryKeyUrl: file:///root/key, ", kind: errkind.NotFound, name: errkind.NameReadRecoveryKeyFile},
		"mode 0644":         {config: "recoveryKeyUrl: file:///root/key, ", change: named(0o644), kind: errkind.Invalid, name: errkind.NameReadRecoveryKeyFile},
		"opens no key slot": {update: true, config: "recoveryKeyUrl: file:///root/key, ", change: named(0o600), kind: errkind.Denied, name: errkind.NameReadRecoveryKeyFile},
		"does not open":     {update: true, kind: errkind.Precondition},
	} {
		purpose, in := record.Installs, slot.A
		if c.update {
			purpose, in = record.Updates, slot.B
		}
		b := newBench(t, purpose, in, strings.Replace(configuration, "encryption: {", "encryption: {"+c.config, 1))
		if err := b.fake.Format(t.Context(), b.volume(), luks.Key("key")); err != nil {
			t.Fatal(err)
		}
		if want == "measures a program" {
			b.fake.AddPCRLock("/dev/p", func(map[int][]byte) bool { return true })
		}
		if c.change != nil {
			c.change(b)
		}
		err := b.check()
		if errkind.Of(err) != c.kind || !strings.Contains(fmt.Sprint(err), want) || errkind.NameOf(err).Variant != c.name && c.name != "" {
			t.Errorf("%s: %v (%s, %s)", want, err, errkind.Of(err), errkind.NameOf(err).Variant)
		}
	}
}
