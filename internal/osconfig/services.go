package osconfig

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// unitTimeout is how long systemctl may take for one unit.
const unitTimeout = time.Minute

// presetFile says again what was enabled and disabled, for a first boot.
const presetFile = "/etc/systemd/system-preset/00-trident.preset"

const presetText = "# os.services of Trident's Host Configuration, which the presets of a first boot would undo.\n"

// services enables and disables units, those that merge extensions at boot among
// them when there are extensions.
func (s setup) services(ctx context.Context, o *hostconfig.OS) error {
	enable := slices.Clone(o.Services.Enable)
	for _, merge := range []struct {
		unit string
		of   []hostconfig.Extension
	}{{"systemd-sysext.service", o.Sysexts}, {"systemd-confext.service", o.Confexts}} {
		same := func(name string) bool { return unitName(name) == merge.unit }
		if len(merge.of) > 0 && !slices.ContainsFunc(slices.Concat(enable, o.Services.Disable), same) {
			enable = append(enable, merge.unit)
		}
	}
	if err := s.systemctl(ctx, "enable", enable); err != nil {
		return err
	}
	if err := s.systemctl(ctx, "disable", o.Services.Disable); err != nil {
		return err
	}
	return s.presets(enable, o.Services.Disable)
}

func (s setup) systemctl(ctx context.Context, verb string, units []string) error {
	for _, unit := range units {
		err := s.touch(verb+" "+unit, func() error {
			ctx, cancel := context.WithTimeoutCause(ctx, unitTimeout, errkind.Errorf(errkind.Timeout, "it took longer than %s", unitTimeout))
			defer cancel()
			_, err := s.tools.Run(ctx, "systemctl", "--root", s.root, verb, "--", unit)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s unit %s: %w", verb, unit, err)
		}
	}
	return nil
}

// presets has the first boot of a tree keep what was set up: systemd applies all
// presets then, and enables what was disabled here.
func (s setup) presets(enable, disable []string) error {
	_, state, err := readMachineID(s.root)
	if err != nil || state != idFirstBoot || len(enable)+len(disable) == 0 {
		return err
	}
	return s.edit(presetFile, 0o644, func(string) (string, error) {
		text := presetText
		for _, list := range []struct {
			verb  string
			units []string
		}{{"enable", enable}, {"disable", disable}} {
			for _, unit := range list.units {
				if !strings.Contains(unit, "@") { // instances are no business of presets
					text += list.verb + " " + unitName(unit) + "\n"
				}
			}
		}
		return text, nil
	})
}

// unitSuffixes are the kinds of units (systemd.unit(5)).
const unitSuffixes = ".service .socket .device .mount .automount .swap .target .path .timer .slice .scope"

// unitName completes a name as systemctl does.
func unitName(name string) string {
	if slices.Contains(strings.Fields(unitSuffixes), path.Ext(name)) {
		return name
	}
	return name + ".service"
}
