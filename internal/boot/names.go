package boot

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

// Folders on the ESP.
const (
	efiDir     = "EFI"
	removable  = "EFI/BOOT"  // where firmware looks by itself
	linuxDir   = "EFI/Linux" // where systemd-boot looks for UKIs
	extraDir   = ".extra.d"  // after the name of a UKI: what goes with it (systemd-stub(7))
	stagedName = "vmlinuz-0.efi.staged"
	// plannedName holds the name that the staged UKI will have, and so its slot.
	plannedName = stagedName + ".name"
	newSuffix   = ".new"
)

// firstUKI is the number of the first UKI of an installation. All numbers have three digits,
// so that names sort as numbers do.
const firstUKI = 100

const maxIndex = 1000

// label returns the name of a slot of an installation: of its folder in EFI and of its boot
// entry. As for upstream, the first installation has AZLA, the second AZL2A.
func label(index int, s slot.Slot) string {
	n := ""
	if index > 0 {
		n = strconv.Itoa(index + 1)
	}
	return "AZL" + n + slot.Pair[string]{A: "A", B: "B"}.Of(s)
}

// FreeIndex returns the lowest install index that no folder on the ESP uses. An install's folders have the index in their names, so that several installs can share
// an ESP. FreeIndex fails, with errkind.NoSpace, if all indexes are used.
func FreeIndex(files fs.FS) (int, error) {
	names, err := esp{read: files}.files(efiDir)
	if err != nil {
		return 0, fmt.Errorf("find the installs on the ESP: %w", err)
	}
	used := map[string]bool{}
	for _, name := range names {
		used[strings.ToUpper(name)] = true
	}
	for i := range maxIndex {
		if !used[label(i, slot.A)] && !used[label(i, slot.B)] {
			return i, nil
		}
	}
	err = errkind.Errorf(errkind.NoSpace, "find a place for an install on the ESP: all %d are taken", maxIndex)
	return 0, errkind.WithName(errkind.WithHint(err, "remove folders of old installs from EFI on the ESP"), errkind.NameNoAvailableInstallIndex)
}

// ukiName is the file name of a slot's UKI, which is also its entry in systemd-boot. The
// number grows with each update, so that the newest UKI sorts last.
type ukiName struct {
	number, index int
	slot          slot.Slot
}

func (n ukiName) String() string {
	return fmt.Sprintf("vmlinuz-%d-azl%s%d.efi", n.number, slot.Pair[string]{A: "a", B: "b"}.Of(n.slot), n.index)
}

// parseUKIName accepts a name in upper or lower case, because systemd-boot changes the case.
func parseUKIName(name string) (ukiName, bool) {
	var n ukiName
	rest, ok := strings.CutPrefix(strings.ToLower(name), "vmlinuz-")
	number, rest, ok2 := strings.Cut(rest, "-azl")
	rest, ok3 := strings.CutSuffix(rest, ".efi")
	if !ok || !ok2 || !ok3 || rest == "" {
		return n, false
	}
	n.slot = map[byte]slot.Slot{'a': slot.A, 'b': slot.B}[rest[0]]
	n.number, ok = decimal(number)
	n.index, ok2 = decimal(rest[1:])
	return n, ok && ok2 && n.slot.Valid()
}

// decimal parses a number without a sign and without leading zeros.
func decimal(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && len(s) <= 9 && strconv.Itoa(n) == s
}

func inLinux(name string) string { return path.Join(linuxDir, name) }
