package boottest

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

// Booted is a system that has booted.
type Booted struct {
	Slot  slot.Slot
	Uname string // of its kernel
}

// ErrDark is the error of Boot if nothing boots.
var ErrDark = errors.New("nothing boots")

// Machine is a model of firmware, of systemd-boot and of GRUB, which boot a system from an
// ESP and the firmware's variables.
type Machine struct {
	ESP       string
	Vars      efivar.Store
	Partition gpt.GUID // of the ESP
	Arch      boot.Arch
	// Forgets is set if the firmware deletes boot entries that are not in BootOrder.
	Forgets bool
	// SlotOf returns the slot whose kernel is in the file system with a UUID. If it is nil, the
	// UUIDs are those of [GrubConfig].
	SlotOf func(fsUUID string) slot.Slot
}

// Boot starts the machine: it tries BootNext, which it deletes, then BootOrder, then
// EFI/BOOT (UEFI 2.10, 3.1.1). It skips programs that are missing or damaged. It sets
// BootCurrent, but not for EFI/BOOT.
func (m Machine) Boot() (Booted, error) {
	next, once, err := efivar.BootNext(m.Vars)
	order, err2 := efivar.BootOrder(m.Vars)
	if err := errors.Join(err, err2, efivar.ClearBootNext(m.Vars), m.Vars.Delete(bootCurrent)); err != nil {
		return Booted{}, err
	}
	entries, err := m.entries(order)
	if err != nil {
		return Booted{}, err
	}
	if once {
		order = append([]efivar.Number{next}, order...)
	}
	for i, n := range order {
		for _, e := range entries {
			disk, file, ok := e.Location()
			if e.Number != n || !ok || disk.Partition != m.Partition || e.Attributes&efivar.Active == 0 && (!once || i > 0) {
				continue
			}
			b, err := m.start(file)
			if err != nil || b.Uname == "" {
				if err != nil {
					return Booted{}, err
				}
				continue
			}
			current := efivar.Variable{Attributes: efivar.BootService | efivar.Runtime, Data: binary.LittleEndian.AppendUint16(nil, uint16(n))}
			return b, m.Vars.Set(bootCurrent, current)
		}
	}
	name := map[boot.Arch]string{boot.AMD64: "bootx64.efi", boot.ARM64: "bootaa64.efi"}[m.Arch]
	b, err := m.start("/EFI/BOOT/" + name)
	if err == nil && b.Uname == "" {
		err = ErrDark
	}
	return b, err
}

var bootCurrent = efivar.Name{Name: "BootCurrent", Vendor: efivar.Global}

// entries returns the boot entries, after the firmware has deleted those that it forgets.
func (m Machine) entries(order []efivar.Number) ([]efivar.Entry, error) {
	entries, err := efivar.Entries(m.Vars)
	if err != nil || !m.Forgets {
		return entries, err
	}
	return slices.DeleteFunc(entries, func(e efivar.Entry) bool {
		if slices.Contains(order, e.Number) {
			return false
		}
		err = errors.Join(err, efivar.DeleteEntry(m.Vars, e.Number))
		return true
	}), err
}

// start starts the program in a file of the ESP: systemd-boot, or shim. It returns the zero
// Booted if the firmware has to try its next entry.
func (m Machine) start(file string) (Booted, error) {
	data, err := os.ReadFile(filepath.Join(m.ESP, file))
	if err != nil || !whole(data) {
		return Booted{}, nil
	}
	if bytes.Contains(data, []byte(shimMark)) {
		return m.grub(filepath.Dir(file))
	}
	return m.systemdBoot()
}

// whole reports whether a program is complete.
func whole(data []byte) bool {
	f, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		return false
	}
	for _, s := range f.Sections {
		if int(s.Offset)+int(s.Size) > len(data) {
			return false
		}
	}
	return true
}

// systemdBoot boots as systemd-boot does: it tries LoaderEntryOneShot, which it deletes,
// then LoaderEntryDefault, then the newest UKI.
func (m Machine) systemdBoot() (Booted, error) {
	found, err := filepath.Glob(filepath.Join(m.ESP, "EFI/Linux/*.efi"))
	if err != nil {
		return Booted{}, err
	}
	unames := map[string]string{}
	var ids []string
	for _, file := range found {
		data, err := os.ReadFile(file)
		if err != nil {
			return Booted{}, err
		}
		if u, err := boot.ReadUKI(bytes.NewReader(data), int64(len(data))); err == nil {
			id := strings.ToLower(filepath.Base(file))
			ids, unames[id] = append(ids, id), u.Uname
		}
	}
	oneShot, err := efivar.LoaderText(m.Vars, efivar.EntryOneShot)
	deflt, err2 := efivar.LoaderText(m.Vars, efivar.EntryDefault)
	if err := errors.Join(err, err2, efivar.SetLoaderText(m.Vars, efivar.EntryOneShot, "")); err != nil {
		return Booted{}, err
	}
	slices.SortFunc(ids, func(a, b string) int { return number(b) - number(a) })
	for _, want := range append([]string{strings.ToLower(oneShot), strings.ToLower(deflt)}, ids...) {
		if uname, ok := unames[want]; ok {
			b := Booted{Uname: uname}
			switch {
			case strings.Contains(want, "-azla"):
				b.Slot = slot.A
			case strings.Contains(want, "-azlb"):
				b.Slot = slot.B
			}
			part := strings.ToUpper(m.Partition.String())
			return b, errors.Join(efivar.SetLoaderText(m.Vars, efivar.EntrySelected, want), efivar.SetLoaderText(m.Vars, efivar.DevicePartID, part))
		}
	}
	return Booted{}, nil
}

// number returns the first number in a name, or 0.
func number(id string) int {
	digits := strings.FieldsFunc(id, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}
