package osconfig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// CheckOS finds what of the section could not take effect, or cannot be written
// into the files of an OS, before anything is changed. sealedCommandLine says that
// the command line of the kernel is part of a signed UKI. All findings are in one
// error, of the kinds Invalid and Unsupported.
func CheckOS(os *hostconfig.OS, sealedCommandLine bool) error {
	faults := checkUsers("os.users", os.Users)
	if os.Hostname != "" && !isHostname(os.Hostname) {
		faults = append(faults, invalid("os.hostname", "%q is no name of a host: wants up to 64 letters, digits, hyphens and dots", brief(os.Hostname)))
	}
	faults = append(faults, checkModules(os.Modules)...)
	faults = append(faults, checkServices(os.Services)...)
	if args := os.KernelCommandLine.ExtraCommandLine; len(args) > 0 {
		faults = append(faults, commandLineError(args, sealedCommandLine))
	}
	return errors.Join(faults...)
}

func commandLineError(args []string, sealed bool) error {
	const at = "os.kernelCommandLine.extraCommandLine"
	list := brief(strings.Join(args, " "))
	if !sealed {
		return errkind.WithHint(errkind.Errorf(errkind.Unsupported, "%s: this version of Trident cannot add arguments to the command line of the kernel (%s)", at, list),
			"Build the arguments into the image.")
	}
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported,
		"%s: the command line of the kernel is part of the signed UKI, and these arguments cannot be added to it: %s", at, list),
		"Build the arguments into the UKI of the image, or into a signed add-on beside it (NAME.efi.extra.d/*.addon.efi).")
}

func invalid(at, format string, args ...any) error {
	return errkind.WithField(errkind.Errorf(errkind.Invalid, "%s: %s", at, fmt.Sprintf(format, args...)), at)
}

// isHostname follows hostname(5), and allows the underscore, as systemd does.
func isHostname(name string) bool {
	if !made(name, 1, 64, letters+digits+"-_.") {
		return false
	}
	for _, label := range strings.Split(name, ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// made says whether s has that many bytes, all of them from a set.
func made(s string, least, most int, of string) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, of) == ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// brief bounds what is shown of a value.
func brief(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
