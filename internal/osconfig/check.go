package osconfig

import (
	"errors"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
)

// CheckOS returns an error for every setting of the section os that Trident could not
// write into the files of an OS, or that would have no effect. It changes nothing.
// sealedCommandLine says that the command line of the kernel is part of a signed UKI.
// All faults are joined in one error, of the kinds Invalid and Unsupported.
func CheckOS(os *hostconfig.OS, sealedCommandLine bool) error {
	faults := nameErrors(rules.OSNameFaults(os))
	if args := os.KernelCommandLine.ExtraCommandLine; len(args) > 0 && sealedCommandLine {
		faults = append(faults, sealedError(args))
	}
	return errors.Join(faults...)
}

func sealedError(args []string) error {
	const at = "os.kernelCommandLine.extraCommandLine"
	list := shorten(strings.Join(args, " "))
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported,
		"%s: the command line of the kernel is part of the signed UKI; Trident cannot add these arguments to it: %s", at, list),
		"Build the arguments into the UKI of the image, or into a signed add-on beside it (NAME.efi.extra.d/*.addon.efi).")
}

// nameErrors returns an error for each fault: Parse only warns of them.
func nameErrors(faults []rules.NameFault) []error {
	out := make([]error, len(faults))
	for i, f := range faults {
		out[i] = errkind.WithField(errkind.Errorf(errkind.Invalid, "%s: %s", f.Path, f.Message), f.Path)
	}
	return out
}

// shorten cuts a value for an error after 100 bytes.
func shorten(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
