package selfservice

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/linux/inroot"
)

const (
	// strictPolicy is what systemd has to be told to demand signatures. The form
	// verity+signed would not do: it means either (systemd.image-policy(7)).
	strictPolicy = "root=signed+absent:usr=signed+absent"
	// policyInFile is the first release of systemd that reads sysext.conf
	// (systemd-sysext(8)).
	policyInFile = 259
	// maxSettings bounds a file of settings, in bytes.
	maxSettings = 64 << 10
)

// policyEnforced reports whether systemd is told to demand signatures, by a
// drop-in for the start and the reload, which is how we merge, or by sysext.conf. Where two of them differ it is not: which one counts
// depends on names and folders, and nobody should rely on it.
func (s *Service) policyEnforced(ctx context.Context) bool {
	const dropIns, option = "systemd/system/systemd-sysext.service.d/*.conf", "--image-policy=" + strictPolicy
	if allContain(s.settings("ExecStart", dropIns), option) && allContain(s.settings("ExecReload", dropIns), option) {
		return true
	}
	if !allContain(s.settings("ImagePolicy", "systemd/sysext.conf", "systemd/sysext.conf.d/*.conf"), strictPolicy) {
		return false
	}
	release, err := s.Systemd.Version(ctx)
	return err == nil && release >= policyInFile
}

// allContain reports whether there are values and a word is in all of them.
func allContain(values []string, word string) bool {
	return len(values) > 0 && !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(strings.Fields(v), word) })
}

// settings are the values that files of systemd's give a key, but for the empty ones.
func (s *Service) settings(key string, patterns ...string) (values []string) {
	root := inroot.FS(s.Root)
	for _, dir := range []string{"etc", "run", "usr/local/lib", "usr/lib"} {
		for _, pattern := range patterns {
			paths, err := fs.Glob(root, dir+"/"+pattern)
			if err != nil {
				continue
			}
			for _, path := range paths {
				text, err := root.ReadFile(path, maxSettings)
				if err != nil {
					continue
				}
				for line := range strings.Lines(string(text)) {
					name, value, _ := strings.Cut(line, "=")
					if value = strings.TrimSpace(value); strings.TrimSpace(name) == key && value != "" {
						values = append(values, value)
					}
				}
			}
		}
	}
	return values
}
