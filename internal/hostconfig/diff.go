package hostconfig

import (
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Kind is how deep a servicing goes. A higher one does all that a lower one does.
type Kind int

const (
	KindNone          Kind = iota
	KindRuntimeUpdate      // of the running OS, without a reboot
	KindABUpdate           // a new OS in the other slot, and a reboot
	KindCleanInstall       // of a host that was never provisioned
)

// String is the name that runOn has for it, or "none".
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

// Reason is one difference, and what it needs. Together with its path the text
// is a sentence: "os.sysexts[0]" "is new". It never has a secret.
type Reason struct {
	Path string
	Text string
	Kind Kind
}

// Change is what leads from one configuration to another.
type Change struct {
	Kind    Kind     // the highest of the reasons
	Reasons []Reason // section by section
	// What an update of the running OS has to do. An A/B update and an
	// installation set up the whole OS from the new configuration instead.
	Sysexts, Confexts ExtensionChange
	Files             FileChange
	Netplan           bool
	UEFIFallback      bool
}

// ErrImageRemoved is that a host with an image shall have none: upstream's MissingOsImage.
var ErrImageRemoved = errors.New("the host runs an image, and the new configuration has none")

// Diff says what has to be done for a host with the configuration old to have
// the configuration new, which is what Effective made of the user's. Upstream
// decides by the same table but for two things. A hook only counts when it is
// new or different, and then by where it runs, so that a host with hooks can be
// updated at run time; and the additional files are part of that.
//
// Old is nil for a host that was never provisioned: that is a clean install. A
// host that was installed by other means has the configuration Empty.
//
// An image whose hash is ignored in new is told from the one in old by its URL;
// who knows the hash of that image puts it there first (Amend).
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

// Empty is the configuration of a host that nobody has configured.
func Empty() *Config {
	c, _ := Parse([]byte("{}"))
	return c
}

// Effective is what the document new means for a host with the configuration
// old, nil for none: storage that new leaves out stays as it is when new has an
// image. The rules that look at storage and other sections together are looked
// at now; the Config is nil when the Report has an Error. Storage itself was
// accepted before, and is not judged again.
func Effective(old, new *Config) (*Config, Report) {
	if old == nil || new.spec.Image == nil || !new.spec.Storage.empty() || old.spec.Storage.empty() {
		return new, nil
	}
	c := *new
	c.spec.Storage = old.spec.Storage
	report := slices.DeleteFunc(Report(validate(&c.spec, c.places)), func(f Finding) bool {
		return isIn(f.Path, "storage")
	})
	report.sort()
	if report.Err() != nil {
		return nil, report
	}
	return &c, report
}

// isIn reports whether path is section or something in it.
func isIn(path, section string) bool {
	for ; path != ""; path = parent(path) {
		if path == section {
			return true
		}
	}
	return false
}
