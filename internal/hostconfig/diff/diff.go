// Package diff compares two Host Configurations. It says which kind of servicing takes a
// host from the first configuration to the second, with a reason for each difference.
package diff

import (
	"errors"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// Kind is a kind of servicing. Each kind includes all changes of the kinds before it.
type Kind int

const (
	KindNone          Kind = iota
	KindRuntimeUpdate      // an update of the running OS, without a reboot
	KindABUpdate           // an update into the other slot, with a reboot
	KindCleanInstall       // the installation of a host that was never provisioned
)

// String returns the name of k in runOn, or "none".
func (k Kind) String() string {
	switch k {
	case KindRuntimeUpdate:
		return string(hostconfig.OnRuntimeUpdate)
	case KindABUpdate:
		return string(hostconfig.OnABUpdate)
	case KindCleanInstall:
		return string(hostconfig.OnCleanInstall)
	}
	return "none"
}

// Reason is one difference between two configurations, and the servicing that it needs.
// Path and Text together are a sentence: "os.sysexts[0]" "is new". Text never has a
// secret.
type Reason struct {
	Path string
	Text string
	Kind Kind
}

// Change is the difference between two configurations, and the servicing that takes a host
// from the first to the second.
type Change struct {
	Kind    Kind     // the highest of the reasons
	Reasons []Reason // section by section
	// The changes that a runtime update makes. An A/B update and an installation
	// ignore them: they set up the whole OS from the new configuration.
	Sysexts, Confexts ExtensionChange
	Files             FileChange
	Netplan           bool
	UEFIFallback      bool
}

// ErrImageRemoved: the host has an image, and the new configuration has none. Upstream's
// name for it is MissingOsImage.
var ErrImageRemoved = errors.New("the host runs an image, and the new configuration has none")

// Compare returns the servicing that a host with the configuration old needs to get the
// configuration new. The caller passes the user's configuration through rules.Effective first.
// Compare decides as upstream does, with two exceptions, which make more updates possible
// at run time: a hook needs a servicing only if it is new or changed, and then one of
// those in its runOn; and additional files need a runtime update only.
//
// old is nil for a host that was never provisioned, which needs a clean install. The
// configuration of a host that was installed by other means is Empty.
//
// If new ignores the hash of the image, Diff compares the URLs of the images. A caller
// that knows the hash of the image puts it into new first (Amend).
//
// The error is ErrImageRemoved, of kind errkind.Invalid.
func Compare(old, new *hostconfig.Config) (Change, error) {
	if old == nil {
		return Change{Kind: KindCleanInstall, Reasons: []Reason{{"", "the host was never provisioned", KindCleanInstall}}}, nil
	}
	if old.Spec().Image != nil && new.Spec().Image == nil {
		err := errkind.With(errkind.Invalid, fmt.Errorf("compare Host Configurations: %w", ErrImageRemoved))
		return Change{}, errkind.WithHint(err, "Add the section image with url %s.", withoutSecrets(string(old.Spec().Image.URL)))
	}
	d := differ{old: old.Spec(), new: new.Spec()}
	d.compareOther("trident", d.old.Trident, d.new.Trident)
	d.compareImage()
	d.compareOther("storage", meaning(d.old.Storage), meaning(d.new.Storage))
	d.compareScripts()
	d.compareOS()
	d.compareOther("managementOs", d.old.ManagementOS, d.new.ManagementOS)
	d.compareOther("health", d.old.Health, d.new.Health)
	if d.new.InternalParams["forceAbUpdate"] == true {
		d.addReason("internalParams.forceAbUpdate", KindABUpdate, "asks for it")
	} else {
		d.compareOther("internalParams", d.old.InternalParams, d.new.InternalParams)
	}
	return d.Change, nil
}
