package osconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/run"
)

// unitTimeout bounds one call of systemctl.
const unitTimeout = time.Minute

// presetFile repeats as presets which units are enabled and disabled.
const presetFile = "/etc/systemd/system-preset/00-trident.preset"

const presetText = "# os.services of Trident's Host Configuration, which the presets of a first boot would undo.\n"

// services enables and disables units. If the configuration has extensions, services
// enables the unit that merges them at boot, unless the configuration names that unit.
func (s setup) services(ctx context.Context, o *hostconfig.OS) error {
	enable := slices.Clone(o.Services.Enable)
	for _, merge := range []struct {
		unit string
		of   []hostconfig.Extension
	}{{"systemd-sysext.service", o.Sysexts}, {"systemd-confext.service", o.Confexts}} {
		same := func(name string) bool { return rules.UnitName(name) == merge.unit }
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
			ctx, cancel := context.WithTimeoutCause(ctx, unitTimeout, errkind.Errorf(errkind.Timeout, "systemctl took longer than %s", unitTimeout))
			defer cancel()
			return Systemctl(ctx, s.tools, s.root, verb, unit)
		})
		if err != nil {
			return fmt.Errorf("%s unit %s: %w", verb, unit, err)
		}
	}
	return nil
}

// Systemctl runs systemctl to enable or disable (verb) a unit of the OS in root.
// systemctl resolves links of the OS against the root of this host, so Systemctl fails,
// with errkind.Precondition, if a link would make it change files outside of root.
func Systemctl(ctx context.Context, tools run.Runner, root, verb, unit string) error {
	if err := checkUnitFolders(root); err != nil {
		return err
	}
	_, err := tools.Run(ctx, "systemctl", "--root", root, verb, "--", unit)
	return err
}

// unitFolder is where systemctl makes links, and folders of links.
const unitFolder = "/etc/systemd/system"

func checkUnitFolders(root string) error {
	for _, dir := range []string{"/etc", "/etc/systemd", unitFolder} { // systemctl makes missing ones
		if err := checkSameFolder(root, dir); err != nil {
			return err
		}
	}
	names, err := os.ReadDir(filepath.Join(root, unitFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range names {
		ofLinks := slices.Contains([]string{".wants", ".requires", ".upholds"}, path.Ext(e.Name()))
		if !ofLinks || e.Type() != fs.ModeSymlink {
			continue
		}
		if err := checkSameFolder(root, path.Join(unitFolder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// checkSameFolder fails if this host and the OS in root resolve the path name of the
// OS to different folders.
func checkSameFolder(root, name string) error {
	here, err := os.Stat(filepath.Join(root, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := inroot.FS(root).Dir(name)
	if here == nil && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, dangling := errors.AsType[*inroot.DanglingError](err)
	if err != nil && !dangling && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		there, serr := dir.File().Stat()
		if err := errors.Join(serr, dir.Close()); err != nil {
			return err
		}
		if here != nil && os.SameFile(here, there) {
			return nil
		}
	}
	err = errkind.Errorf(errkind.Precondition, "%s is, or is below, a symbolic link that would lead systemctl out of the OS", name)
	return errkind.WithHint(err, "Make it a folder in the image, or a relative link to a folder.")
}

// presets writes presetFile if the next boot is a first boot: systemd then applies
// presets to all units, which would enable a unit that the configuration disables.
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
				if !strings.Contains(unit, "@") { // presets do not apply to instances
					text += list.verb + " " + rules.UnitName(unit) + "\n"
				}
			}
		}
		return text, nil
	})
}
