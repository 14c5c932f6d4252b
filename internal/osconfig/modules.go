package osconfig

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// The files of settings of kernel modules. Upstream's tools write the same ones, so an
// image may have settings in them.
const (
	modulesLoad     = "/etc/modules-load.d/modules-load.conf"
	modulesDisabled = "/etc/modprobe.d/modules-disabled.conf"
	modulesOptions  = "/etc/modprobe.d/module-options.conf"
)

// modules sets how the OS loads modules: always at boot; disable never; auto when the
// kernel asks for the module, also if the image had disabled it. For inherit it writes
// the options only.
func (s setup) modules(_ context.Context, o *hostconfig.OS) error {
	if len(o.Modules) == 0 {
		return nil
	}
	if err := s.checkNotDisabled(o.Modules); err != nil {
		return err
	}
	for _, file := range []struct {
		name   string
		change func(string, hostconfig.Module) string
	}{{modulesLoad, loadText}, {modulesDisabled, disabledText}, {modulesOptions, optionsText}} {
		err := s.edit(file.name, 0o644, func(old string) (string, error) {
			for _, m := range o.Modules {
				old = file.change(old, m)
			}
			return old, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkNotDisabled fails for a module that is to be loaded (always or auto) while a file
// of the image that Trident does not write disables it.
func (s setup) checkNotDisabled(modules []hostconfig.Module) error {
	tree := inroot.FS(s.root)
	files, err := tree.DropIns(".conf", "etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
	if err != nil {
		return err
	}
	for _, name := range files {
		if name == modulesDisabled[1:] {
			continue
		}
		data, err := tree.ReadFile(name, maxText)
		if err != nil {
			return err
		}
		for _, m := range modules {
			wanted := m.LoadMode == hostconfig.LoadAlways || m.LoadMode == hostconfig.LoadAuto
			if wanted && slices.ContainsFunc(lines(string(data)), func(l string) bool { return disables(l, m.Name) }) {
				err := errkind.Errorf(errkind.Precondition, "module %s: loadMode %s would have no effect, because /%s of the image disables the module", m.Name, m.LoadMode, name)
				return errkind.WithHint(err, "Remove the module from that file in the image, or hide the file with an empty file of the same name in /etc/modprobe.d.")
			}
		}
	}
	return nil
}

// sameModule compares names as the kernel does: - and _ are the same.
func sameModule(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// disables reports whether a line of modprobe.d(5) prevents the module from loading.
func disables(line, module string) bool {
	words := strings.Fields(line)
	switch {
	case len(words) < 2 || !sameModule(words[1], module):
		return false
	case words[0] == "install":
		return len(words) > 2 && (path.Base(words[2]) == "false" || path.Base(words[2]) == "true")
	}
	return words[0] == "blacklist"
}

func loadText(old string, m hostconfig.Module) string {
	isModule := func(line string) bool { return sameModule(strings.TrimSpace(line), m.Name) }
	switch {
	case m.LoadMode == hostconfig.LoadDisable:
		return strings.Join(slices.DeleteFunc(lines(old), isModule), "")
	case m.LoadMode == hostconfig.LoadAlways && !slices.ContainsFunc(lines(old), isModule):
		return withLine(old, m.Name)
	}
	return old
}

func disabledText(old string, m hostconfig.Module) string {
	if m.LoadMode == hostconfig.LoadInherit || m.LoadMode == "" {
		return old
	}
	// blacklist alone stops aliases only: modprobe NAME would still load the module.
	blacklist, install := "blacklist "+m.Name, "install "+m.Name+" /bin/false"
	has := func(want string) bool {
		return slices.ContainsFunc(lines(old), func(l string) bool { return strings.TrimSpace(l) == want })
	}
	if m.LoadMode == hostconfig.LoadDisable && has(blacklist) && has(install) {
		return old
	}
	now := strings.Join(slices.DeleteFunc(lines(old), func(l string) bool { return disables(l, m.Name) }), "")
	if m.LoadMode == hostconfig.LoadDisable {
		now = withLine(withLine(now, blacklist), install)
	}
	return now
}

// optionsText sets the options that the configuration gives and keeps all others.
func optionsText(old string, m hostconfig.Module) string {
	if len(m.Options) == 0 {
		return old
	}
	line := "options " + m.Name
	for _, key := range slices.Sorted(maps.Keys(m.Options)) {
		line += " " + optionWord(key, m.Options[key])
	}
	all := lines(old)
	if slices.ContainsFunc(all, func(l string) bool { return strings.TrimSpace(l) == line }) {
		return old
	}
	var now strings.Builder
	for _, l := range all {
		words := optionWords(l)
		if len(words) < 3 || words[0] != "options" || !sameModule(words[1], m.Name) {
			now.WriteString(l)
			continue
		}
		rest := slices.DeleteFunc(words, func(w string) bool {
			key, _, _ := strings.Cut(w, "=")
			_, replaced := m.Options[key]
			return replaced
		})
		if len(rest) > 2 {
			now.WriteString(strings.Join(rest, " ") + "\n")
		}
	}
	return withLine(now.String(), line)
}

func optionWord(key, value string) string {
	if strings.ContainsAny(value, " \t") {
		value = `"` + value + `"`
	}
	return key + "=" + value
}

// optionWords splits a line at blanks, but not at blanks between double quotes.
func optionWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\r\n", r)
	})
}
