package efivar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
)

// Number is the #### of a Boot#### variable.
type Number uint16

// String returns the four digits.
func (n Number) String() string { return fmt.Sprintf("%04X", uint16(n)) }

// Entry is a boot entry: a load option and its number.
type Entry struct {
	Number Number
	LoadOption
}

// Variables of the firmware's boot manager (UEFI 2.10, 3.3).
const (
	bootOrder   = "BootOrder"
	bootNext    = "BootNext"
	bootCurrent = "BootCurrent"
)

// Variables of systemd-boot that have a text (The Boot Loader Interface).
const (
	EntryOneShot  = "LoaderEntryOneShot"   // the boot entry of the next boot only; systemd-boot deletes the variable
	EntryDefault  = "LoaderEntryDefault"   // the boot entry of every boot without EntryOneShot
	EntrySelected = "LoaderEntrySelected"  // the boot entry that has booted
	DevicePartID  = "LoaderDevicePartUUID" // the partition of the boot loader
)

// BootOrder returns the entries that the firmware tries, in this order; nil if it has none.
func BootOrder(s Store) ([]Number, error) { return numbers(s, bootOrder) }

// SetBootOrder sets BootOrder. An empty order deletes the variable.
func SetBootOrder(s Store, order []Number) error {
	var data []byte
	for _, n := range order {
		data = binary.LittleEndian.AppendUint16(data, uint16(n))
	}
	if len(data) == 0 {
		return s.Delete(Name{bootOrder, Global})
	}
	return s.Set(Name{bootOrder, Global}, Variable{BootVariables, data})
}

// BootNext returns the entry that the firmware tries at the next boot, before BootOrder.
func BootNext(s Store) (n Number, ok bool, err error) { return number(s, bootNext) }

// SetBootNext sets BootNext.
func SetBootNext(s Store, n Number) error {
	return s.Set(Name{bootNext, Global}, Variable{BootVariables, binary.LittleEndian.AppendUint16(nil, uint16(n))})
}

// ClearBootNext deletes BootNext.
func ClearBootNext(s Store) error { return s.Delete(Name{bootNext, Global}) }

// BootCurrent returns the entry that the firmware has booted. ok is false if the firmware does
// not say, as some do that booted EFI/BOOT.
func BootCurrent(s Store) (n Number, ok bool, err error) { return number(s, bootCurrent) }

func number(s Store, name string) (Number, bool, error) {
	list, err := numbers(s, name)
	if err != nil || len(list) == 0 {
		return 0, false, err
	}
	return list[0], true, nil
}

func numbers(s Store, name string) ([]Number, error) {
	v, err := s.Get(Name{name, Global})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(v.Data)%2 != 0 {
		return nil, errkind.Errorf(errkind.Corrupt, "read EFI variable %s: it has %d bytes, which is odd", name, len(v.Data))
	}
	var list []Number
	for d := v.Data; len(d) > 0; d = d[2:] {
		list = append(list, Number(binary.LittleEndian.Uint16(d)))
	}
	return list, nil
}

// Entries returns the boot entries, by number. It skips entries that it cannot decode:
// Trident did not write them, and they must not hide Trident's own.
func Entries(s Store) ([]Entry, error) {
	names, err := s.List()
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, name := range names {
		n, ok := entryNumber(name)
		if !ok {
			continue
		}
		v, err := s.Get(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if o, err := DecodeLoadOption(v.Data); err == nil {
			entries = append(entries, Entry{n, o})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return int(a.Number) - int(b.Number) })
	return entries, nil
}

func entryNumber(n Name) (Number, bool) {
	if n.Vendor != Global || len(n.Name) != len("Boot0000") || n.Name[:4] != "Boot" {
		return 0, false
	}
	v, err := strconv.ParseUint(n.Name[4:], 16, 16)
	if err != nil || Number(v).String() != n.Name[4:] { // the digits are upper case (3.1.1)
		return 0, false
	}
	return Number(v), true
}

// FreeNumber returns the lowest number without a Boot#### variable. It fails, with
// errkind.NoSpace, if there is none.
func FreeNumber(s Store) (Number, error) {
	names, err := s.List()
	if err != nil {
		return 0, err
	}
	for i := range 1 << 16 {
		if !slices.Contains(names, entryName(Number(i))) {
			return Number(i), nil
		}
	}
	return 0, errkind.Errorf(errkind.NoSpace, "find a number for a boot entry: all are taken")
}

// SetEntry makes or replaces the boot entry with the number of e.
func SetEntry(s Store, e Entry) error {
	data, err := e.Encode()
	if err != nil {
		return err
	}
	return s.Set(entryName(e.Number), Variable{BootVariables, data})
}

// DeleteEntry deletes a boot entry. It does not change BootOrder and BootNext.
func DeleteEntry(s Store, n Number) error { return s.Delete(entryName(n)) }

func entryName(n Number) Name { return Name{"Boot" + n.String(), Global} }

// LoaderText returns a text variable of systemd-boot, "" if the variable does not exist.
func LoaderText(s Store, name string) (string, error) {
	v, err := s.Get(Name{name, Loader})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return decodeText(v.Data), nil
}

// SetLoaderText sets a text variable of systemd-boot; "" deletes it.
func SetLoaderText(s Store, name, text string) error {
	if text == "" {
		return s.Delete(Name{name, Loader})
	}
	return s.Set(Name{name, Loader}, Variable{BootVariables, encodeText(text)})
}
