package boottest

import (
	"bytes"
	"debug/pe"
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

// Machine is a model of firmware and of systemd-boot, which boot a system from an ESP and
// the firmware's variables.
type Machine struct {
	ESP       string
	Vars      efivar.Store
	Partition gpt.GUID // of the ESP
	Arch      boot.Arch
}

// Boot starts the machine: it tries BootNext, which it deletes, then BootOrder, then
// EFI/BOOT (UEFI 2.10, 3.1.1). It skips programs that are missing or damaged.
func (m Machine) Boot() (Booted, error) {
	next, once, err := efivar.BootNext(m.Vars)
	order, err2 := efivar.BootOrder(m.Vars)
	entries, err3 := efivar.Entries(m.Vars)
	if err := errors.Join(err, err2, err3, efivar.ClearBootNext(m.Vars)); err != nil {
		return Booted{}, err
	}
	find := func(n efivar.Number) string {
		for _, e := range entries {
			disk, file, ok := e.Location()
			if e.Number == n && ok && disk.Partition == m.Partition && (once || e.Attributes&efivar.Active != 0) {
				return file
			}
		}
		return ""
	}
	var files []string
	if once {
		files = append(files, find(next))
	}
	once = false
	for _, n := range order {
		files = append(files, find(n))
	}
	name := map[boot.Arch]string{boot.AMD64: "bootx64.efi", boot.ARM64: "bootaa64.efi"}[m.Arch]
	for _, file := range append(files, "/EFI/BOOT/"+name) {
		data, err := os.ReadFile(filepath.Join(m.ESP, file))
		if file == "" || err != nil || !whole(data) {
			continue
		}
		if b, err := m.systemdBoot(); err != nil || b.Uname != "" {
			return b, err
		}
	}
	return Booted{}, ErrDark
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
