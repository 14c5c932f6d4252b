package hostconfig

import (
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// Kind is a kind of servicing. Each kind includes all changes of the kinds before it.
type Kind int

const (
	KindNone          Kind = iota
	KindRuntimeUpdate      // of the running OS, without a reboot
	KindABUpdate           // a new OS in the other slot, and a reboot
	KindCleanInstall       // of a host that was never provisioned
)

// String returns the name of k in runOn, or "none".
func (k Kind) String() string {
	switch k {
	case KindRuntimeUpdate:
		return string(OnRuntimeUpdate)
	case KindABUpdate:
		return string(OnABUpdate)
	case KindCleanInstall:
		return string(OnCleanInstall)
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

// Change is the difference between two configurations, and the servicing that a host
// with the first needs to get the second.
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

// Diff returns the servicing that a host with the configuration old needs to get the
// configuration new. The caller passes the user's configuration through Effective first.
// Diff decides as upstream does, with two exceptions, which make more updates possible
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
func Diff(old, new *Config) (Change, error) {
	if old == nil {
		return Change{Kind: KindCleanInstall, Reasons: []Reason{{"", "the host was never provisioned", KindCleanInstall}}}, nil
	}
	if old.spec.Image != nil && new.spec.Image == nil {
		err := errkind.With(errkind.Invalid, fmt.Errorf("compare Host Configurations: %w", ErrImageRemoved))
		return Change{}, errkind.WithHint(err, "Add the section image with url %s.", withoutSecrets(string(old.spec.Image.URL)))
	}
	d := differ{old: &old.spec, new: &new.spec}
	d.compareOther("trident", d.old.Trident, d.new.Trident)
	d.compareImage()
	d.compareOther("storage", d.old.Storage.meaning(), d.new.Storage.meaning())
	d.compareScripts()
	d.compareOS()
	d.compareOther("managementOs", d.old.ManagementOS, d.new.ManagementOS)
	d.compareOther("health", d.old.Health, d.new.Health)
	if flag(d.new.InternalParams, "forceAbUpdate") {
		d.addReason("internalParams.forceAbUpdate", KindABUpdate, "asks for it")
	} else {
		d.compareOther("internalParams", d.old.InternalParams, d.new.InternalParams)
	}
	return d.Change, nil
}

// Empty returns the configuration of a host that nobody has configured.
func Empty() *Config {
	c, _ := Parse([]byte("{}"))
	return c
}

// Effective returns the meaning of the document new for a host with the configuration
// old (nil for none): if new has an image and no storage, it takes the storage of old.
// Effective then checks the rules about storage together with other sections; the Config
// is nil if the Report has an Error. It does not report faults in storage itself, which
// was accepted before.
func Effective(old, new *Config) (*Config, Report) {
	if old == nil || new.spec.Image == nil || !new.spec.Storage.empty() || old.spec.Storage.empty() {
		return new, nil
	}
	c := *new
	c.spec.Storage = old.spec.Storage
	report := slices.DeleteFunc(Report(validate(&c.spec, c.places)), func(f Finding) bool {
		return form.Within(f.Path, "storage")
	})
	report.sort()
	if report.Err() != nil {
		return nil, report
	}
	return &c, report
}
