package selfservice

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/linux/inroot"
)

const (
	// strictPolicy is the image policy with which systemd demands signatures. The
	// form verity+signed is weaker: it accepts either (systemd.image-policy(7)).
	strictPolicy = "root=signed+absent:usr=signed+absent"
	// policyInFile is the first release of systemd that reads sysext.conf
	// (systemd-sysext(8)).
	policyInFile = 259
	// maxSettings bounds a file of settings, in bytes.
	maxSettings = 64 << 10
)

// policyEnforced reports whether systemd is configured to demand signatures: by a
// drop-in for ExecStart and ExecReload, which Trident uses to merge, or by
// sysext.conf. If two files differ it reports false: which file wins depends on
// names and folders.
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

// allContain reports whether values is not empty and each of them contains the
// word.
func allContain(values []string, word string) bool {
	return len(values) > 0 && !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(strings.Fields(v), word) })
}

// settings returns the values, except empty ones, that systemd's configuration
// files give to key.
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
