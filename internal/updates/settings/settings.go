// Package settings keeps what the owner of a host has decided about new versions of Trident:
// the settings of /etc/trident/update.conf, and those that a caller has stored, which take
// precedence.
package settings

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/updates"
)

// Datastore stores settings, as JSON by name.
type Datastore interface {
	Policy(context.Context) (map[string]json.RawMessage, error)
	// SetPolicy stores values and deletes the settings that reset names, or does neither.
	SetPolicy(ctx context.Context, values map[string]json.RawMessage, reset []string) error
}

// Settings are those of the host whose root folder is Root.
type Settings struct {
	Root  string
	Store Datastore
}

// Names returns the names of all settings, sorted.
func Names() []string {
	return []string{"allowReadOnlyUsr", "auto", "channel", "feed", "grace", "hold", "maxBytes", "pin", "window"}
}

// A View is the policy in effect, and where it comes from.
type View struct {
	Policy updates.Policy
	// Stored names the settings that are stored, and Configured those of
	// /etc/trident/update.conf; both are sorted.
	Stored, Configured []string
}

// Read returns the policy in effect. The error is of kind Invalid if update.conf is not valid,
// and Corrupt if a stored setting is not.
func (s Settings) Read(ctx context.Context) (View, error) {
	conf, configured, err := updates.ReadConf(s.Root)
	if err != nil {
		return View{}, err
	}
	stored, names, err := s.stored(ctx)
	if err != nil {
		return View{}, err
	}
	return View{Policy: updates.Merge(conf, stored, names), Stored: names, Configured: configured}, nil
}

// Policy is Read without the names.
func (s Settings) Policy(ctx context.Context) (updates.Policy, error) {
	view, err := s.Read(ctx)
	return view.Policy, err
}

// stored ignores settings that only another version of Trident knows.
func (s Settings) stored(ctx context.Context) (p updates.Policy, names []string, err error) {
	values, err := s.Store.Policy(ctx)
	if err != nil {
		return p, nil, fmt.Errorf("read the update policy: %w", err)
	}
	maps.DeleteFunc(values, func(name string, _ json.RawMessage) bool { return !slices.Contains(Names(), name) })
	for _, name := range slices.Sorted(maps.Keys(values)) {
		one, err := json.Marshal(map[string]json.RawMessage{name: values[name]})
		if err == nil {
			err = json.Unmarshal(one, &p)
		}
		if err != nil {
			return p, nil, errkind.WithHint(
				errkind.Errorf(errkind.Corrupt, "read the update policy: the stored setting %s: %w", name, err),
				"reset the setting with: trident self policy reset %s", name)
		}
		names = append(names, name)
	}
	return p, names, nil
}

// Change stores the settings of p that set names, and forgets the stored settings that reset
// names. It returns the policy that is in effect then. After an error nothing has changed. The
// error is of kind Invalid, with the name of the setting as its field, for a name that is
// unknown or in both lists, and for a value that is not valid.
func (s Settings) Change(ctx context.Context, p updates.Policy, set, reset []string) (updates.Policy, error) {
	if err := checkNames(set, reset); err != nil {
		return updates.Policy{}, err
	}
	// Values that are not to be set may be anything.
	p = updates.Merge(updates.Policy{}, p, set)
	if err := p.Validate(); err != nil {
		return updates.Policy{}, err
	}
	if h := p.Hold; h != nil && !h.Until.IsZero() && !h.Until.After(time.Now()) {
		err := errkind.Errorf(errkind.Invalid, "update policy: hold: until is %s, which has passed", h.Until.UTC().Format(time.RFC3339))
		return updates.Policy{}, errkind.WithField(errkind.WithHint(err, "give a time that is to come, or hold for ever"), "hold")
	}
	conf, _, err := updates.ReadConf(s.Root)
	if err != nil {
		return updates.Policy{}, err
	}
	values, err := valuesOf(p, set)
	if err == nil {
		err = s.Store.SetPolicy(ctx, values, reset)
	}
	if err != nil {
		return updates.Policy{}, fmt.Errorf("store the update policy: %w", err)
	}
	stored, names, err := s.stored(ctx)
	return updates.Merge(conf, stored, names), err
}

func checkNames(set, reset []string) error {
	seen := map[string]bool{}
	for _, name := range slices.Concat(set, reset) {
		var err error
		switch {
		case !slices.Contains(Names(), name):
			err = errkind.WithHint(errkind.Errorf(errkind.Invalid, "update policy: %.80q is not a setting", name), "the settings are %s", strings.Join(Names(), ", "))
		case seen[name]:
			err = errkind.Errorf(errkind.Invalid, "update policy: the setting %s is named twice", name)
		}
		if err != nil {
			return errkind.WithField(err, name)
		}
		seen[name] = true
	}
	return nil
}

// valuesOf returns the values of the settings that set names; null for one that decides
// nothing.
func valuesOf(p updates.Policy, set []string) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	values := map[string]json.RawMessage{}
	for _, name := range set {
		if values[name] = all[name]; values[name] == nil {
			values[name] = json.RawMessage("null")
		}
	}
	return values, nil
}
