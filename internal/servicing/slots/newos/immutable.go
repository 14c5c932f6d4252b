package newos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// CheckImmutable finds the settings for which Trident would have to write where the new OS is
// verified and so read-only. A setting in /etc is one of them only if the OS is immutable. It
// also checks the paths of the signatures of root hashes.
func (o *OS) CheckImmutable(_ context.Context, r *record.Run, e *record.Examined) error {
	spec := e.Config.Spec()
	if len(spec.Storage.Verity) == 0 {
		return nil
	}
	if err := checkSignaturePaths(e.Config); err != nil {
		return err
	}
	var errs []error
	refuse := func(field, format string, args ...any) {
		err := errkind.Errorf(errkind.Unsupported, "%s: "+format, append([]any{field}, args...)...)
		errs = append(errs, errkind.WithField(err, field))
	}
	if r.State.Immutable {
		if len(r.State.Carried) > 0 {
			errs = append(errs, errkind.Errorf(errkind.Unsupported, "the image carries extensions, and takes none: its root is verified, and the command line sealed in its UKI mounts no overlay on /etc"))
		}
		for _, field := range settings(e.Config) {
			refuse(field, "the image takes no settings: its root is verified, and the command line sealed in its UKI mounts no overlay on /etc")
		}
	}
	for _, c := range r.State.Carried {
		name := c.Path
		if name == "" {
			name = extensionDir(string(c.Class)) + "/" + path.Base(c.File)
		}
		if at := verifiedBelow(&spec.Storage, name); at != "" {
			errs = append(errs, errkind.Errorf(errkind.Unsupported, "the image carries a %s for %s, on the file system at %s, which is verified and so read-only", c.Class, path.Dir(name), at))
		}
	}
	for _, w := range writes(spec) {
		name := change.Absolute(w.name)
		if at := verifiedBelow(&spec.Storage, name); at != "" {
			refuse(w.field, "%s is on the file system at %s, which is verified and so read-only", name, at)
		} else if r.State.Immutable && change.InEtc(name) && storage.RootVerity(&spec.Storage) != nil {
			refuse(w.field, "%s is in /etc, and the command line sealed in the image's UKI mounts no overlay there", name)
		}
	}
	return errkind.WithName(errors.Join(errs...), errkind.NameInvalidHostConfigurationDynamic)
}

// settings returns the settings of a configuration that Trident writes into /etc.
func settings(c *hostconfig.Config) []string {
	spec := c.Spec()
	_, isDefault := change.DatastorePath(c)
	var out []string
	for _, s := range []struct {
		field string
		isSet bool
	}{
		{"os.netplan", spec.OS.Netplan != nil},
		{"os.selinux.mode", spec.OS.SELinux.Mode != ""},
		{"os.users", len(spec.OS.Users) > 0},
		{"os.hostname", spec.OS.Hostname != ""},
		{"os.modules", len(spec.OS.Modules) > 0},
		{"os.services", len(spec.OS.Services.Enable)+len(spec.OS.Services.Disable) > 0},
		{"os.sysexts", len(spec.OS.Sysexts) > 0},
		{"os.confexts", len(spec.OS.Confexts) > 0},
		{"trident.datastorePath", !isDefault},
	} {
		if s.isSet {
			out = append(out, s.field)
		}
	}
	return out
}

// write is a place in the new OS that Trident writes for a setting.
type write struct{ field, name string }

func writes(spec *hostconfig.Spec) []write {
	var out []write
	for i, f := range spec.OS.AdditionalFiles {
		out = append(out, write{fmt.Sprintf("os.additionalFiles[%d].destination", i), f.Destination})
	}
	for i, u := range spec.OS.Users {
		home := u.HomeDirectory
		switch {
		case home != "":
		case u.Name == "root":
			home = "/root"
		default:
			home = "/home/" + u.Name
		}
		if u.Name != "root" || len(u.SSHPublicKeys) > 0 {
			out = append(out, write{fmt.Sprintf("os.users[%d]", i), home})
		}
	}
	for _, l := range []struct {
		field string
		class string
		list  []hostconfig.Extension
	}{{"os.sysexts", "sysext", spec.OS.Sysexts}, {"os.confexts", "confext", spec.OS.Confexts}} {
		for i, e := range l.list {
			at := e.Path
			if at == "" {
				at = extensionDir(l.class) + "/" + change.ExtensionName(e)
			}
			out = append(out, write{fmt.Sprintf("%s[%d]", l.field, i), at})
		}
	}
	return out
}

// extensionDir returns the folder of extensions without a path.
func extensionDir(class string) string {
	if class == "confext" {
		return "/var/lib/confexts"
	}
	return "/var/lib/extensions"
}

// verifiedBelow returns the mount point of the verified file system that the file name of
// the new OS is on, or "" if name can be written there. /etc of a verified root counts as
// another file system, because it has an overlay.
func verifiedBelow(s *hostconfig.Storage, name string) string {
	at, verified := "", false
	for _, f := range storage.MountOrder(s) {
		if m := path.Clean(f.MountPoint.Path); m == "/" || name == m || strings.HasPrefix(name, m+"/") {
			at, verified = m, storage.VerityOf(s, f.DeviceID) != nil
		}
	}
	if !verified || at == "/" && change.InEtc(name) {
		return ""
	}
	return at
}

// checkFolders fails if a verified root lacks the folder of a mount point, which cannot be
// made in it.
func (o *OS) checkFolders(root string, e *record.Examined) error {
	s := &e.Config.Spec().Storage
	for _, f := range storage.MountOrder(s) {
		at := path.Clean(f.MountPoint.Path)
		if at == "/" || verifiedBelow(s, path.Dir(at)) != "/" {
			continue // it is made on a writable file system
		}
		info, err := inroot.FS(root).Stat(at[1:])
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
			err = errkind.Errorf(errkind.Precondition, "the image's file system for / has no folder %s to mount on, and is verified, so that Trident cannot make it", at)
			return errkind.WithName(errkind.WithHint(err, "Build the image with an empty folder %s.", at), errkind.NameMountNewroot)
		case err != nil:
			return err
		}
	}
	return nil
}
