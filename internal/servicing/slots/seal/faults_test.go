package seal_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
	"github.com/trident-project/trident/internal/servicing/slots/seal"
	"github.com/trident-project/trident/internal/slot"
)

var errFault = errors.New("input/output error")

// fault makes one call of the volumes and of the TPM fail.
type fault struct{ calls, at int }

func (f *fault) call() error {
	if f.calls++; f.calls == f.at {
		return errFault
	}
	return nil
}

type faultyVolumes struct {
	luks.Manager
	*fault
}

func (v faultyVolumes) Header(ctx context.Context, device string) (luks.Header, error) {
	if err := v.call(); err != nil {
		return luks.Header{}, err
	}
	return v.Manager.Header(ctx, device)
}

func (v faultyVolumes) Test(ctx context.Context, volume luks.Volume, key luks.Key) error {
	if err := v.call(); err != nil {
		return err
	}
	return v.Manager.Test(ctx, volume, key)
}

func (v faultyVolumes) Enroll(ctx context.Context, volume luks.Volume, key luks.Key, to luks.Binding) (int, error) {
	if err := v.call(); err != nil {
		return 0, err
	}
	return v.Manager.Enroll(ctx, volume, key, to)
}

func (v faultyVolumes) Wipe(ctx context.Context, volume luks.Volume, token int) error {
	if err := v.call(); err != nil {
		return err
	}
	return v.Manager.Wipe(ctx, volume, token)
}

func (v faultyVolumes) KillSlot(ctx context.Context, volume luks.Volume, n int) error {
	if err := v.call(); err != nil {
		return err
	}
	return v.Manager.KillSlot(ctx, volume, n)
}

type faultyChip struct {
	tpm.Chip
	*fault
}

func (c faultyChip) Registers(ctx context.Context, numbers ...int) (map[int]tpm.Digest, error) {
	if err := c.call(); err != nil {
		return nil, err
	}
	return c.Chip.Registers(ctx, numbers...)
}

func (c faultyChip) Log(ctx context.Context) (tpm.Log, error) {
	if err := c.call(); err != nil {
		return tpm.Log{}, err
	}
	return c.Chip.Log(ctx)
}

// faults calls do until it ends, with a fault one call later each time. A fault ends do with
// its error, and leaves what opens the volumes for the running slot.
func faults(t *testing.T, w *world, do func(*world) error) {
	t.Helper()
	f := &fault{}
	w.sealer.Volumes, w.sealer.Chip = faultyVolumes{w.sealer.Volumes, f}, faultyChip{w.sealer.Chip, f}
	for at := 1; ; at++ {
		f.calls, f.at = 0, at
		err := do(w)
		if err == nil && f.calls < at {
			break
		}
		if !errors.Is(err, errFault) {
			t.Fatalf("a fault at call %d: %v", at, err)
		}
		if w.runs.Valid() {
			w.mustUnlock(w.runs)
		}
	}
	if f.at < 3 {
		t.Errorf("only %d calls", f.at)
	}
	f.at = 0
}

func TestAFaultOfADeviceEndsAnInstallationThatCanBeRepeated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		boot := tpmtest.NewBoot(t, "1", "a")
		w := newWorld(t, s)
		faults(t, w, func(w *world) error { return w.install(boot) })
		w.boot()
		faults(t, w, (*world).confirm)
		w.boot()
		w.tokens(perSlot(s.to))
	})
}

func TestAFaultOfADeviceEndsAnUpdateThatCanBeRepeatedAndUndone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		w := installed(t, s)
		second, third := tpmtest.NewBoot(t, "2", "b"), tpmtest.NewBoot(t, "2", "c")
		faults(t, w, func(w *world) error { return w.stage(second) })
		w.mustUnlock(slot.B)
		faults(t, w, func(w *world) error { return w.stage(third) })
		w.mustUnlock(slot.B)
		faults(t, w, (*world).undo)
		w.tokens(perSlot(s.to))
	})
}

func TestAFaultOfADeviceEndsATakeOverThatCanBeRepeated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		w := installedByUpstream(t, s)
		second := tpmtest.NewBoot(t, "2", "b")
		faults(t, w, func(w *world) error { return w.stage(second) })
		w.mustUnlock(slot.B)
	})
}

// A fault in the middle of an enrolment leaves half a token, which the next attempt removes.
func TestAFaultWhileHalfATokenIsRemoved(t *testing.T) {
	t.Parallel()
	second := tpmtest.NewBoot(t, "2", "b")
	prepare := func(t *testing.T) *world { return installed(t, setup{to: []int{4, 7, 11}}) }
	w := prepare(t)
	w.Prepare(0, false)
	if err := w.stage(second); err != nil {
		t.Fatal(err)
	}
	halves := 0
	for at := 0; at < w.Touches && halves < 2; at++ {
		w := prepare(t)
		w.Prepare(at+1, true)
		_ = w.stage(second) // ends at the cut
		w.boot()
		head, err := w.fake.Header(t.Context(), w.volumes[0].Device)
		if err != nil {
			t.Fatal(err)
		}
		if len(head.Bare()) < 2 {
			continue
		}
		halves++
		w.Prepare(0, false)
		faults(t, w, func(w *world) error { return w.stage(second) })
		w.mustUnlock(slot.B)
		w.tokens(3 + 6 + 4) // of the running slot, of the new one, and of the mixed boots
	}
	if halves == 0 {
		t.Error("no cut leaves half a token")
	}
}

// A boot with other registers than predicted is an unhealthy one, and the error says where to
// look.
func TestABootWhoseRegistersWereNotPredictedIsUnhealthy(t *testing.T) {
	t.Parallel()
	w := installed(t, setup{to: []int{4, 7, 11}})
	w.runs = slot.A
	if err := w.chip.Boot(tpmtest.NewBoot(t, "1", "another")); err != nil {
		t.Fatal(err)
	}
	err := w.confirm()
	if errkind.Of(err) != errkind.Unhealthy || !strings.Contains(err.Error(), "does not open the volume data") || !strings.Contains(errkind.Hint(err), "systemd-pcrlock log") {
		t.Errorf("%v, hint %q", err, errkind.Hint(err))
	}

	log, err := w.chip.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.chip.Reset()
	w.chip.Measure(log.Until(tpm.AfterUnlock).Events...)
	err = w.confirm()
	if errkind.Of(err) != errkind.Unhealthy || !strings.Contains(errkind.Hint(err), "Leave register 11 out") {
		t.Errorf("a system without phases: %v, hint %q", err, errkind.Hint(err))
	}
}

// unlogged is a TPM with a measurement that the event log lacks.
type unlogged struct{ tpm.Chip }

func (c unlogged) Log(ctx context.Context) (tpm.Log, error) {
	log, err := c.Chip.Log(ctx)
	if err == nil {
		log.Events = log.Events[:len(log.Events)-1]
	}
	return log, err
}

// Nothing can be predicted from a log that does not lead to the present values. A running slot
// whose volumes a person has opened has no token to note.
func TestALogThatLacksAMeasurementIsNotTrusted(t *testing.T) {
	t.Parallel()
	w := installed(t, setup{to: []int{11}})
	w.sealer.Chip = unlogged{&w.chip}
	if _, err := w.sealer.Running(t.Context(), w.to); errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), "predict register 11") {
		t.Errorf("Running: %v", err)
	}
	w.journal = nil
	b := w.book()
	if err := w.sealer.TakeOver(t.Context(), b, w.volumes, slot.A, w.to, nil); err != nil || len(*b.Sealed) != 0 {
		t.Errorf("TakeOver: %v, %+v", err, *b.Sealed)
	}
	w.sealer.Chip = &w.chip
	if err := w.chip.Boot(tpmtest.NewBoot(t, "1", "another")); err != nil {
		t.Fatal(err)
	}
	if err := w.sealer.TakeOver(t.Context(), b, w.volumes, slot.A, w.to, nil); err != nil || len(*b.Sealed) != 0 {
		t.Errorf("TakeOver without a token for this boot: %v, %+v", err, *b.Sealed)
	}
}

func TestCheckKeyReturnsAKeyThatOpensAllVolumes(t *testing.T) {
	t.Parallel()
	w := installed(t, setup{to: []int{7}})
	for _, c := range []struct {
		name string
		key  luks.Key
		kind errkind.Kind
	}{{"the recovery key", w.recovery, ""}, {"another key", luks.Key("other"), errkind.Denied}} {
		key, err := w.sealer.CheckKey(t.Context(), w.volumes, w.to, c.key)
		if c.kind == "" && (err != nil || string(key) != string(c.key)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.kind != "" && (errkind.Of(err) != c.kind || errkind.Variant(err) != errkind.NameReadRecoveryKeyFile) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOpenNamesTheProgramThatIsNotOne(t *testing.T) {
	t.Parallel()
	section := func(text string) *io.SectionReader {
		return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
	}
	good := string(tpmtest.UKI("x"))
	for want, c := range map[string][2]string{"the boot loader: ": {"no program", good}, "the UKI: ": {good, "no program"}} {
		if _, err := seal.Open(section(c[0]), section(c[1])); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
