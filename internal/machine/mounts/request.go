package mounts

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/trident-project/trident/internal/errkind"
)

// A Request is for one mount.
type Request struct {
	What, Where, Type string
	Options           []string
	IsPersistent      bool
	Credentials       Credentials
}

// Credentials are those of a share of type cifs. The zero value is none.
type Credentials struct{ Username, Password, Domain string }

// maxText bounds each text of a request, in bytes.
const maxText = 4096

// isShare reports whether a type of file system is another host's.
func isShare(fsType string) bool {
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs"}, fsType)
}

// isLocal reports whether a type of file system is one of a device or of memory. "" is any
// that mount(8) finds on a device.
func isLocal(fsType string) bool {
	return slices.Contains([]string{
		"", "auto", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "exfat", "ntfs3", "iso9660", "udf", "squashfs", "erofs", "tmpfs",
	}, fsType)
}

// check refuses a request that systemd or mount(8) would misread, or that the host must not
// carry out.
func (r *Request) check() error {
	for name, text := range map[string]string{"source": r.What, "place": r.Where, "type": r.Type, "options": strings.Join(r.Options, ","), "credentials": r.Credentials.Username + r.Credentials.Password + r.Credentials.Domain} {
		if len(text) > maxText {
			return errkind.Errorf(errkind.Invalid, "the %s has %d bytes, at most %d are read", name, len(text), maxText)
		}
		if strings.ContainsFunc(text, unicode.IsControl) {
			return errkind.Errorf(errkind.Invalid, "the %s has a control character", name)
		}
	}
	if err := r.checkSource(); err != nil {
		return err
	}
	if err := checkOptions(r.Options); err != nil {
		return err
	}
	if r.Credentials != (Credentials{}) {
		if r.Type != "cifs" && r.Type != "smb3" {
			return errkind.Errorf(errkind.Invalid, "credentials are for shares of type cifs, the type is %q", r.Type)
		}
		if r.Credentials.Username == "" {
			return errkind.Errorf(errkind.Invalid, "the credentials have no user name")
		}
	}
	return checkPlace(r.Where)
}

func (r *Request) checkSource() error {
	wrong := func(form string) error {
		return errkind.Errorf(errkind.Invalid, "the source of type %q is %q, it must be %s", r.Type, r.What, form)
	}
	if r.What != strings.TrimSpace(r.What) {
		return errkind.Errorf(errkind.Invalid, "the source begins or ends with a space")
	}
	switch r.Type {
	case "tmpfs":
		if r.What != "" && r.What != "tmpfs" {
			return wrong("empty")
		}
		r.What = "tmpfs"
		return nil
	case "nfs", "nfs4":
		if host, folder, ok := strings.Cut(r.What, ":/"); !ok || host == "" || strings.HasPrefix(host, "-") || strings.Contains(folder, "//") {
			return wrong("HOST:/PATH")
		}
		return nil
	case "cifs", "smb3":
		if host, share, ok := strings.Cut(strings.TrimPrefix(r.What, "//"), "/"); !ok || host == "" || share == "" || !strings.HasPrefix(r.What, "//") {
			return wrong("//HOST/SHARE")
		}
		return nil
	case "9p", "virtiofs":
		if r.What == "" || strings.ContainsAny(r.What, "/ ") || strings.HasPrefix(r.What, "-") {
			return wrong("a tag, without slashes and spaces")
		}
		return nil
	}
	if !isLocal(r.Type) {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "Trident does not mount the type %q", r.Type), "Types are nfs, cifs, 9p, virtiofs, and those of file systems on disks, such as ext4 and vfat.")
	}
	if strings.HasPrefix(r.What, "/dev/") && path.Clean(r.What) == r.What {
		return nil
	}
	if tag, value, _ := strings.Cut(r.What, "="); value != "" && slices.Contains([]string{"UUID", "LABEL", "PARTUUID", "PARTLABEL"}, tag) {
		return nil
	}
	if r.Type == "" {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "the source %q is not a device like /dev/sdb1, or UUID=, LABEL=, PARTUUID= or PARTLABEL= and a value", r.What),
			"A share needs its type: nfs for HOST:/PATH, cifs for //HOST/SHARE, 9p or virtiofs for a tag.")
	}
	return wrong("a device like /dev/sdb1, or UUID=, LABEL=, PARTUUID= or PARTLABEL= and a value")
}

// checkOptions refuses options that show a password to everybody (mountinfo), that weaken
// what Trident always sets, or that only programs of user space read.
func checkOptions(options []string) error {
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case o == "" || strings.ContainsAny(o, ", \t\\\"'"):
			return errkind.Errorf(errkind.Invalid, "%q is not one option of mount(8)", o)
		case slices.Contains([]string{"password", "passwd", "pass", "password2", "user", "username", "cred", "credentials", "dom", "domain"}, name):
			return errkind.WithHint(errkind.Errorf(errkind.Invalid, "the option %s= would show credentials to every user of the host", name), "Give them as credentials: Trident keeps them in a file that only root can read.")
		case slices.Contains([]string{"suid", "dev", "bind", "rbind", "move", "remount", "loop", "defaults"}, name), strings.HasPrefix(name, "x-"), strings.HasPrefix(name, "X-"):
			return errkind.Errorf(errkind.Forbidden, "the option %s is not allowed here", name)
		}
	}
	return nil
}

// theHost are folders that the host needs as they are: nothing is mounted on them, above them
// or below them.
func theHost() []string {
	return []string{
		"/bin", "/boot", "/dev", "/efi", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr",
		"/var/cache", "/var/lib/confexts", "/var/lib/dbus", "/var/lib/extensions", "/var/lib/systemd", "/var/lib/trident", "/var/log", "/var/run", "/var/tmp",
	}
}

// checkPlace refuses a place that the host itself needs.
func checkPlace(where string) error {
	if !path.IsAbs(where) || path.Clean(where) != where {
		return errkind.Errorf(errkind.Invalid, "the place %q is not an absolute path in its shortest form", where)
	}
	if where != strings.TrimSpace(where) {
		return errkind.Errorf(errkind.Invalid, "the place begins or ends with a space")
	}
	if below(where, "/run/media") && where != "/run/media" {
		return nil
	}
	for _, f := range theHost() {
		if below(where, f) || below(f, where) {
			return errkind.WithHint(errkind.Errorf(errkind.Forbidden, "the host needs %s as it is", where), "Use a folder like /mnt/NAME, /srv/NAME or /media/NAME.")
		}
	}
	return nil
}

// checkFolder refuses a place that has a symbolic link or a file in its path. The folder
// itself may be missing.
func (s *Service) checkFolder(where string) error {
	at := ""
	for part := range strings.SplitSeq(strings.TrimPrefix(where, "/"), "/") {
		at += "/" + part
		info, err := os.Lstat(s.path(at))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			return errkind.Errorf(errkind.Invalid, "%s is a symbolic link: name the folder itself", at)
		case !info.IsDir():
			return errkind.Errorf(errkind.Invalid, "%s is not a folder", at)
		}
	}
	return nil
}
