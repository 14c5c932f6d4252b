package boottest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/slot"
)

const (
	shimMark = "shim for "
	// ends is the last line of a whole configuration.
	ends = "exit 1\n"
)

// ErrHangs is the error of Boot if GRUB waits for a person at its prompt: nothing falls back.
var ErrHangs = errors.New("GRUB waits at its prompt")

// GrubESP returns the files of the ESP of an image that boots by GRUB: shim with a helper,
// GRUB in the folder of a vendor, and the image's own configuration.
func GrubESP(arch boot.Arch, uname string) fstest.MapFS {
	suffix := map[boot.Arch]string{boot.AMD64: "x64", boot.ARM64: "aa64"}[arch]
	file := func(mark string) *fstest.MapFile {
		return &fstest.MapFile{Data: Program(arch, Section{".sbat", mark + uname}), Mode: 0o755}
	}
	return fstest.MapFS{
		"EFI/BOOT/BOOT" + strings.ToUpper(suffix) + ".EFI": file(shimMark),
		"EFI/BOOT/mm" + suffix + ".efi":                    file("helper for "),
		"EFI/BOOT/grub.cfg":                                {Data: []byte("search -n -u 0 -s\n")},
		"EFI/vendor/grub" + suffix + "-noprefix.efi":       file("GRUB for "),
	}
}

// GrubConfig returns the configuration that boots the kernel uname of a slot, or of no slot.
func GrubConfig(s slot.Slot, uname string) string {
	return fmt.Sprintf("search --fs-uuid --set=root %s\nlinux /vmlinuz-%s quiet\nboot\n%s", fsOf(s), uname, ends)
}

func fsOf(s slot.Slot) string {
	if !s.Valid() {
		return "of-the-image"
	}
	return "of-" + s.String()
}

// GrubPayload returns the boot files of a slot, of an image whose kernel has the release
// uname.
func GrubPayload(t testing.TB, arch boot.Arch, s slot.Slot, uname string) *boot.Payload {
	t.Helper()
	p, err := boot.ReadGrub(GrubESP(arch, uname), arch, GrubConfig(s, uname), false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// grub boots as shim and GRUB in a folder of the ESP do. If GRUB is missing, shim returns to
// the firmware. A GRUB without its configuration, or with half of one, hangs.
func (m Machine) grub(dir string) (Booted, error) {
	name := map[boot.Arch]string{boot.AMD64: "grubx64.efi", boot.ARM64: "grubaa64.efi"}[m.Arch]
	data, err := os.ReadFile(filepath.Join(m.ESP, dir, name))
	if err != nil || !whole(data) {
		return Booted{}, nil
	}
	config, err := os.ReadFile(filepath.Join(m.ESP, dir, "grub.cfg"))
	if err != nil || !bytes.HasSuffix(config, []byte(ends)) {
		return Booted{}, ErrHangs
	}
	slotOf := m.SlotOf
	if slotOf == nil {
		slotOf = func(uuid string) slot.Slot {
			return map[string]slot.Slot{fsOf(slot.A): slot.A, fsOf(slot.B): slot.B}[uuid]
		}
	}
	var b Booted
	for line := range strings.Lines(string(config)) {
		words := strings.Fields(line)
		switch {
		case len(words) > 1 && words[0] == "linux":
			_, b.Uname, _ = strings.Cut(words[1], "vmlinuz-")
		case len(words) > 1 && words[0] == "search":
			b.Slot = slotOf(words[len(words)-1])
		}
	}
	return b, nil
}
