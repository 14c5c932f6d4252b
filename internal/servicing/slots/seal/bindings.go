package seal

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/tpm"
)

// Bindings are the states of the TPM in which a slot opens the volumes.
type Bindings struct {
	// All are the states, one for each phase of the boot from the one that opens the volumes.
	// A boot needs the first phase. The others let the running system open a key slot, to
	// bind the volumes to the slot of the next update without a key of a person. They
	// differ in register 11 only, so that there is one without this register. A prediction
	// has the states with an initrd that runs systemd, and those with another one.
	All []luks.Binding
	// Mixed are the states of a boot with the boot loader of one slot and the kernel of the
	// other, when it opens the volumes. The firmware chooses the boot loader by a variable, and
	// the boot loader the kernel by another one, so that a power cut between the changes of
	// both leads to such a boot. Only register 4 tells it from other boots.
	Mixed []luks.Binding
	// Interim are the registers of All until the first boot, if nobody knows all registers of the
	// configuration before it; else nil.
	Interim Registers
}

// policies returns the digests of the policies of All, in hexadecimal.
func (b Bindings) policies() []string { return policiesOf(b.All) }

// mixed returns those of Mixed that are not of All as well.
func (b Bindings) mixed() []string {
	all := b.policies()
	return slices.DeleteFunc(policiesOf(b.Mixed), func(p string) bool { return slices.Contains(all, p) })
}

func policiesOf(list []luks.Binding) []string {
	out := make([]string, 0, len(list))
	for _, one := range list {
		out = append(out, hex.EncodeToString(one.Policy()))
	}
	return out
}

// Registers says which registers a configuration binds to.
type Registers []int

// interims returns the sets of registers to one of which an installation binds volumes until the
// first boot.
func interims() []Registers {
	return []Registers{{tpm.PolicyRegister, tpm.UKIRegister}, {tpm.UKIRegister}}
}

// interimFor returns the registers that stand in for to until the first boot with the programs
// next, or nil if to can be predicted in the live system that runs. Register 4 cannot. Register 7
// can if the live system was verified by the certificates that verify next.
func (s *Sealer) interimFor(ctx context.Context, to Registers, next tpm.Boot) (Registers, error) {
	if !to.has(tpm.LoaderRegister) && !to.has(tpm.PolicyRegister) {
		return nil, nil
	}
	log, err := s.Chip.Log(ctx)
	if errkind.Of(err) == errkind.Unsupported { // a firmware without a log
		log, err = tpm.Log{}, nil
	}
	if err != nil {
		return nil, err
	}
	keeps, err := log.KeepsPolicy(next)
	switch {
	case err != nil || keeps && !to.has(tpm.LoaderRegister):
		return nil, err
	case keeps:
		return interims()[0], nil
	default:
		return interims()[1], nil
	}
}

// ArePolicyAlone reports whether r has register 7 alone, which no update of a kernel changes.
func (r Registers) ArePolicyAlone() bool {
	return slices.Equal(r, Registers{tpm.PolicyRegister})
}

func (r Registers) has(n int) bool { return slices.Contains(r, n) }

// phases calls add with the phases of a boot from the unlock on: those of an initrd that runs
// systemd, and those of another initrd, which measures nothing. isUnlock is set for those at which
// the system opens the volumes.
func phases(add func(p tpm.Phases, isUnlock bool) error) error {
	all, unlock := tpm.UntilReady(), len(tpm.UntilUnlock())
	for _, begin := range []int{0, unlock} {
		for n := unlock; n <= len(all); n++ {
			if err := add(all[begin:n], n == unlock); err != nil {
				return err
			}
		}
	}
	return nil
}

// Predict returns the bindings of a slot with the programs next. old has the programs that
// run; nil in an installation, where a live system runs. Then register 4 is unknown before the
// first boot, and so may be register 7; the bindings have those of [Bindings.Interim] instead. The
// error is of kind Unsupported if a register cannot be predicted.
func (s *Sealer) Predict(ctx context.Context, to Registers, old *tpm.Boot, next tpm.Boot) (Bindings, error) {
	var out Bindings
	var err error
	if old == nil {
		if out.Interim, err = s.interimFor(ctx, to, next); err != nil {
			return out, err
		}
		if out.Interim != nil {
			to = out.Interim
		}
	}
	if out.All, err = s.predictBoot(ctx, to, old, next, false); err != nil || old == nil || !to.has(tpm.LoaderRegister) {
		return out, err
	}
	for _, b := range []tpm.Boot{{Loader: next.Loader, UKI: old.UKI}, {Loader: old.Loader, UKI: next.UKI}} {
		more, err := s.predictBoot(ctx, to, old, b, true)
		if err != nil {
			return Bindings{}, err
		}
		out.Mixed = append(out.Mixed, more...)
	}
	return out, nil
}

// predictBoot returns the states of a boot with the programs next: all, or those alone in
// which the volumes are opened.
func (s *Sealer) predictBoot(ctx context.Context, to Registers, old *tpm.Boot, next tpm.Boot, unlockOnly bool) (out []luks.Binding, err error) {
	fixed, err := s.predictFixed(ctx, to, old, next)
	if err != nil {
		return nil, err
	}
	if !to.has(tpm.UKIRegister) {
		return []luks.Binding{with(fixed, nil)}, nil
	}
	err = phases(func(p tpm.Phases, isUnlock bool) error {
		if unlockOnly && !isUnlock {
			return nil
		}
		d, err := tpm.PredictUKI(next.UKI, p)
		out = append(out, with(fixed, map[int]tpm.Digest{tpm.UKIRegister: d}))
		return err
	})
	return out, err
}

// predictFixed returns the values of the registers that do not change while the system starts.
func (s *Sealer) predictFixed(ctx context.Context, to Registers, old *tpm.Boot, next tpm.Boot) (map[int]tpm.Digest, error) {
	out := map[int]tpm.Digest{}
	if to.has(tpm.PolicyRegister) {
		now, err := s.Chip.Registers(ctx, tpm.PolicyRegister)
		if err != nil {
			return nil, err
		}
		out = now
	}
	if old == nil || !to.has(tpm.PolicyRegister) && !to.has(tpm.LoaderRegister) {
		return out, nil
	}
	log, err := s.trustedLog(ctx, slices.DeleteFunc(slices.Clone(to), func(n int) bool { return n == tpm.UKIRegister }))
	if err != nil {
		return nil, err
	}
	if to.has(tpm.PolicyRegister) {
		if err := log.CheckPolicy(*old, next); err != nil {
			return nil, err
		}
	}
	if to.has(tpm.LoaderRegister) {
		if out[tpm.LoaderRegister], err = log.PredictLoader(*old, next); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// trustedLog returns the event log. It fails if the log does not give registers their present
// values: a program may have measured something without an event.
func (s *Sealer) trustedLog(ctx context.Context, to Registers) (tpm.Log, error) {
	log, err := s.Chip.Log(ctx)
	if err != nil {
		return log, err
	}
	now, err := s.Chip.Registers(ctx, to...)
	if err != nil {
		return log, err
	}
	replayed := log.Replay()
	for _, n := range to {
		if now[n] != replayed[n] {
			return log, errkind.Errorf(errkind.Unsupported, "predict register %d: the event log gives %s, and the TPM has %s", n, replayed[n], now[n])
		}
	}
	return log, nil
}

// Running returns the bindings of the running system: by the registers of this boot, and for
// register 11 by what the log had when the volumes were opened. The error is of kind Unsupported
// if the log does not give register 11 its present value.
func (s *Sealer) Running(ctx context.Context, to Registers) (Bindings, error) {
	now, err := s.Chip.Registers(ctx, to...)
	if err != nil {
		return Bindings{}, err
	}
	if !to.has(tpm.UKIRegister) {
		return Bindings{All: []luks.Binding{with(now, nil)}}, nil
	}
	log, err := s.trustedLog(ctx, Registers{tpm.UKIRegister})
	if err != nil {
		return Bindings{}, err
	}
	early := log.Until(tpm.AfterUnlock)
	var out Bindings
	value, done := early.Replay()[tpm.UKIRegister], len(tpm.UntilUnlock())
	for _, p := range append(tpm.Phases{""}, tpm.UntilReady()[done:]...) {
		if p != "" {
			value = tpm.After(value, p)
		}
		out.All = append(out.All, with(now, map[int]tpm.Digest{tpm.UKIRegister: value}))
	}
	return out, nil
}

// with returns the binding to values, some of which others replace.
func with(values, others map[int]tpm.Digest) luks.Binding {
	out := luks.Binding{PCRs: map[int][]byte{}}
	for _, m := range []map[int]tpm.Digest{values, others} {
		for n, d := range m {
			out.PCRs[n] = d[:]
		}
	}
	return out
}

// Opens reports whether the TPM opens each of the volumes in its present state, by a token of
// these registers or of an interim binding.
func (s *Sealer) Opens(ctx context.Context, volumes []Volume, to Registers) (bool, error) {
	for _, v := range volumes {
		head, err := s.Volumes.Header(ctx, v.Device)
		if err != nil {
			return false, err
		}
		opens := false
		for _, set := range append(interims(), to) {
			now, err := s.Chip.Registers(ctx, set...)
			if err != nil {
				return false, err
			}
			_, ok := head.Bound(with(now, nil))
			opens = opens || ok
		}
		if !opens {
			return false, nil
		}
	}
	return true, nil
}
