package change

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/osconfig"
)

// ExtensionSources returns the extensions of a configuration.
func ExtensionSources(c *hostconfig.Config) []extension.Source {
	var out []extension.Source
	for _, e := range c.Spec().OS.Sysexts {
		out = append(out, extension.Source{Class: extension.Sysext, URL: string(e.URL), SHA384: string(e.SHA384), Path: e.Path})
	}
	for _, e := range c.Spec().OS.Confexts {
		out = append(out, extension.Source{Class: extension.Confext, URL: string(e.URL), SHA384: string(e.SHA384), Path: e.Path})
	}
	return out
}

// RecordedExtensions returns the extensions of a configuration as the store knows them,
// without Trident's own.
func RecordedExtensions(c *hostconfig.Config) []extension.Extension {
	var out []extension.Extension
	for _, s := range ExtensionSources(c) {
		if e := (extension.Extension{Class: s.Class, Path: s.Path, SHA384: s.SHA384}); s.Path != OwnPath {
			out = append(out, e)
		}
	}
	return out
}

// Carried returns the extensions of the running OS that its configuration c does not list: those
// that the image of the OS carries.
func (h *Host) Carried(c *hostconfig.Config) (extension.Generation, error) {
	found, err := h.Extensions.Linked()
	if err != nil {
		return nil, err
	}
	listed := generation(c)
	return slices.DeleteFunc(found, func(e extension.Extension) bool {
		return slices.ContainsFunc(listed, func(l extension.Extension) bool {
			return l.Class == e.Class && strings.EqualFold(l.SHA384, e.SHA384)
		})
	}), nil
}

// generation returns all extensions of a configuration, also Trident's own.
func generation(c *hostconfig.Config) (out extension.Generation) {
	for _, w := range ExtensionSources(c) {
		out = append(out, extension.Extension{Class: w.Class, Path: w.Path, SHA384: w.SHA384})
	}
	return out
}

// OwnPath is the path of Trident's own image. No path of a configuration changes it.
const OwnPath = sysextDir + "/" + extension.Own + ".raw"

// The folders of extensions that have no path in the configuration.
const (
	sysextDir  = "/var/lib/extensions"
	confextDir = "/var/lib/confexts"
)

// WithPlaces returns c, and gives each extension the path that the same extension has in there.
func WithPlaces(c *hostconfig.Config, there extension.Generation) *hostconfig.Config {
	return c.Amend(func(spec *hostconfig.Spec) {
		fill := func(list []hostconfig.Extension, class extension.Class) {
			for i := range list {
				for _, e := range there {
					if e.Class == class && e.SHA384 == string(list[i].SHA384) {
						list[i].Path = e.Path
					}
				}
			}
		}
		fill(spec.OS.Sysexts, extension.Sysext)
		fill(spec.OS.Confexts, extension.Confext)
	})
}

// WithPaths returns c with the paths that runs has for the same extensions. Without them
// diff.Compare would report that an unchanged extension moves.
func WithPaths(c, runs *hostconfig.Config) *hostconfig.Config {
	if runs == nil {
		return c
	}
	return c.Amend(func(spec *hostconfig.Spec) {
		fill := func(new, old []hostconfig.Extension, dir string) {
			for i := range new {
				n := &new[i]
				j := slices.IndexFunc(old, func(o hostconfig.Extension) bool {
					return o.SHA384 == n.SHA384 && path.Dir(path.Clean(o.Path)) == dir
				})
				if n.Path == "" && j >= 0 {
					n.Path = old[j].Path
				}
			}
		}
		fill(spec.OS.Sysexts, runs.Spec().OS.Sysexts, sysextDir)
		fill(spec.OS.Confexts, runs.Spec().OS.Confexts, confextDir)
	})
}

// ExtensionsEnforced is the error for extensions of a host, or of an OS, that enforces
// SELinux.
func ExtensionsEnforced() error {
	err := errkind.Errorf(errkind.Precondition, "SELinux is enforced, and extensions would change the labels of files (ExtensionImagesAndSelinuxUnsupported)")
	return errkind.WithName(errkind.WithHint(err, "Use extensions with SELinux disabled, or permissive."), errkind.NameInvalidHostConfigurationDynamic)
}

const confextUnit = "systemd-confext.service"

// InEtc reports whether a merged confext makes the path name read-only.
func InEtc(name string) bool { return strings.HasPrefix(Absolute(name), "/etc/") }

// etcIsReadOnly reports whether /etc is read-only because confexts are merged over it.
func etcIsReadOnly(root string) (bool, error) {
	names, err := extension.Confext.Merged(root)
	if err != nil || len(names) == 0 {
		return false, err
	}
	return errors.Is(osconfig.Check(root, "/etc/trident-is-here"), unix.EROFS), nil
}

// UnmergeConfexts has systemd unmerge the confexts from /etc.
func (h *Host) UnmergeConfexts(ctx context.Context) error {
	return h.Touch("unmerge confexts", func() error { return h.Systemd.Stop(ctx, confextUnit) })
}

// MergeConfexts has systemd merge the confexts again, even if ctx has ended.
func (h *Host) MergeConfexts(ctx context.Context) error {
	return h.Touch("merge confexts again", func() error { return h.Systemd.ReloadOrRestart(context.WithoutCancel(ctx), confextUnit) })
}
