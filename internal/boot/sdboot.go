package boot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// sdboot is systemd-boot with a UKI for each slot. Each slot has a copy of
// systemd-boot in EFI/<label> with a boot entry of the firmware; all copies look
// into EFI/Linux.
type sdboot struct {
	host  Host
	space func(dir string) (free, block int64, err error)
}

var _ Loader = (*sdboot)(nil)

// session is one call of a method of Loader, with the state of the host as newSession read it.
type session struct {
	base
	ukis slot.Pair[[]ukiName] // on the ESP, of this install, newest first
	last int                  // number of the newest UKI of any install
	// planned is the name that the staged UKI will have. It has no slot when
	// nothing is staged, or by a program that does not say for which.
	planned ukiName
	staged  bool
	texts   struct{ oneShot, deflt, selected string }
}

// do calls change in a session for slot s, and adds to its error what was being done.
func (l *sdboot) do(ctx context.Context, doing string, s slot.Slot, change func(*session) error) error {
	if !s.Valid() {
		return errkind.Errorf(errkind.Internal, "%s: the caller named no slot", doing)
	}
	err := l.withSession(ctx, func(w *session) error {
		w.slot = s
		return change(w)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, label(l.host.Index, s), err)
	}
	return nil
}

func (l *sdboot) withSession(ctx context.Context, use func(*session) error) error {
	return l.host.onESP(ctx, func(b base) error {
		w, err := newSession(b)
		if err != nil {
			return err
		}
		return use(w)
	})
}

// newSession reads the ESP and the firmware variables of the host.
func newSession(b base) (*session, error) {
	w := &session{base: b}
	if err := w.readESP(); err != nil {
		return nil, err
	}
	return w, w.readVars()
}

func (w *session) readESP() error {
	names, err := w.esp.files(linuxDir)
	if err != nil {
		return errkind.WithName(prefix("find the UKIs on the ESP", err), errkind.NameEnumerateUkis)
	}
	for _, name := range names {
		w.staged = w.staged || strings.EqualFold(name, stagedName)
		n, ok := parseUKIName(name)
		if !ok {
			continue
		}
		w.last = max(w.last, n.number)
		if n.index == w.Index {
			w.addUKI(n)
		}
	}
	if !w.staged || !w.esp.has(inLinux(plannedName)) {
		return nil
	}
	text, err := w.esp.readFile(inLinux(plannedName), 256)
	if err != nil {
		return errkind.WithName(prefix("read what is staged", err), errkind.NameFindStagedFile)
	}
	w.planned, _ = parseUKIName(strings.TrimSpace(string(text)))
	return nil
}

func (w *session) addUKI(n ukiName) {
	list := &w.ukis.A
	if n.slot == slot.B {
		list = &w.ukis.B
	}
	*list = append([]ukiName{n}, *list...)
	slices.SortStableFunc(*list, func(a, b ukiName) int { return b.number - a.number })
}

func (w *session) readVars() (err error) {
	var partition string
	for name, text := range map[string]*string{
		efivar.EntryOneShot: &w.texts.oneShot, efivar.EntryDefault: &w.texts.deflt,
		efivar.EntrySelected: &w.texts.selected, efivar.DevicePartID: &partition,
	} {
		if *text, err = efivar.LoaderText(w.Vars, name); err != nil {
			return errkind.WithName(err, errkind.NameReadEfiVariable)
		}
	}
	isMember := func(m efivar.HardDrive) bool { return strings.EqualFold(partition, m.Partition.String()) }
	if partition != "" && !slices.ContainsFunc(w.Members, isMember) {
		w.texts.selected = "" // of a live medium, or another disk
	}
	return nil
}

// slotOf returns the slot that an entry of systemd-boot boots, or none.
func (w *session) slotOf(entry string) slot.Slot {
	entry, _, _ = strings.Cut(entry, "@") // a profile of it
	for _, s := range []slot.Slot{slot.A, slot.B} {
		for _, n := range w.ukis.Of(s) {
			if strings.EqualFold(n.String(), entry) {
				return s
			}
		}
	}
	return 0
}

// newest returns the UKI that slot s boots; false if it has none.
func (w *session) newest(s slot.Slot) (ukiName, bool) {
	if list := w.ukis.Of(s); len(list) > 0 {
		return list[0], true
	}
	return ukiName{}, false
}

func (w *session) booted() slot.Slot { return w.slotOf(w.texts.selected) }
func (w *session) deflt() slot.Slot  { return w.slotOf(w.texts.deflt) }

// stagedFor reports whether the staged files are, or may be, for slot s.
func (w *session) stagedFor(s slot.Slot) bool {
	mine := w.planned.index == w.Index && w.planned.slot == s
	return w.staged && (mine || !w.planned.slot.Valid())
}

// Entries implements [Loader].
func (l *sdboot) Entries(ctx context.Context) (State, error) {
	var st State
	err := l.withSession(ctx, func(w *session) error {
		for _, s := range []slot.Slot{slot.A, slot.B} {
			n, ok := w.newest(s)
			if !ok {
				continue
			}
			if s == slot.A {
				st.Names.A = n.String()
			} else {
				st.Names.B = n.String()
			}
		}
		if w.staged && w.planned.index == w.Index {
			st.Staged = w.planned.slot
		}
		st.Booted, st.Next, st.Default = w.booted(), w.slotOf(w.texts.oneShot), w.deflt()
		return nil
	})
	if err != nil {
		return State{}, fmt.Errorf("read the boot entries: %w", err)
	}
	return st, nil
}
