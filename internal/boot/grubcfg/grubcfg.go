// Package grubcfg finds the kernel that an image boots by GRUB, and writes the configuration
// of GRUB that boots this kernel from a slot.
//
// It reads the two layouts of images: a grub.cfg with a menu entry for the kernel (Azure
// Linux), and entries of the Boot Loader Specification (Fedora). It runs nothing: no chroot,
// and no grub-mkconfig.
package grubcfg

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// Kernel is what GRUB loads. Paths are below /boot, without a leading slash.
type Kernel struct {
	Linux   string
	Initrds []string
	Args    []string // of the kernel; each is one word for GRUB
}

// Limits on the files of an image, in bytes, and on the entries of a folder.
const (
	maxConfig  = 1 << 20
	maxEnv     = 64 << 10
	maxEntry   = 64 << 10
	maxEntries = 256
)

var configs = []string{"grub2/grub.cfg", "grub/grub.cfg"}

// Find returns the kernel that the image whose /boot is boot boots by default: that of the
// one menu entry of its grub.cfg that is neither in a submenu nor for recovery, or, if it
// has entries of the Boot Loader Specification, that of the newest one that is not for
// rescue. Errors are of kind NotFound for an image without either, Invalid for one whose
// entries do not name one kernel, and TooLarge.
func Find(boot fs.FS) (Kernel, error) {
	env := newEnvironment(boot)
	s, name, err := readConfig(boot)
	if err != nil {
		return Kernel{}, err
	}
	if s != nil {
		if err := env.read(s); err != nil {
			return Kernel{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if s == nil || s.hasBLS() {
		k, found, err := newestEntry(boot, env)
		if err != nil || found {
			return k, err
		}
	}
	if s == nil {
		return Kernel{}, errkind.Errorf(errkind.NotFound, "the image's /boot has neither %s nor entries in %s", strings.Join(configs, " or "), entriesDir)
	}
	k, err := s.kernel(boot, env)
	if err != nil {
		return Kernel{}, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

func readConfig(boot fs.FS) (*script, string, error) {
	for _, name := range configs {
		text, err := readFile(boot, name, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, name, err
		}
		s, err := parse(text)
		if err != nil {
			return nil, name, fmt.Errorf("%s: %w", name, err)
		}
		return s, name, nil
	}
	return nil, "", nil
}

func readFile(fsys fs.FS, name string, limit int64) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return "", errkind.Errorf(errkind.Invalid, "%s is not a file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", err
	}
	if int64(len(data)) > limit {
		return "", errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", name, limit)
	}
	return string(data), nil
}

// newKernel returns the kernel with the paths as GRUB has them, which begin with /boot unless
// that is a file system of its own.
func newKernel(boot fs.FS, linux string, initrds, args []string) (Kernel, error) {
	k := Kernel{Args: args}
	var err error
	if k.Linux, err = fileOf(boot, linux); err != nil {
		return k, fmt.Errorf("the kernel: %w", err)
	}
	for _, name := range initrds {
		at, err := fileOf(boot, name)
		if err != nil {
			return k, fmt.Errorf("the initrd: %w", err)
		}
		k.Initrds = append(k.Initrds, at)
	}
	return k, k.check()
}

func fileOf(boot fs.FS, name string) (string, error) {
	at := name
	if strings.HasPrefix(at, "(") { // a device
		_, at, _ = strings.Cut(at, ")")
	}
	at = path.Clean("/" + at)
	for _, at := range []string{strings.TrimPrefix(at, "/boot/"), strings.TrimPrefix(at, "/")} {
		at = strings.TrimPrefix(at, "/")
		if info, err := fs.Stat(boot, at); err == nil && info.Mode().IsRegular() {
			return at, nil
		}
	}
	return "", errkind.Errorf(errkind.Invalid, "the image has no file %q in /boot", name)
}

// check refuses words that a configuration of GRUB cannot hold.
func (k Kernel) check() error {
	for _, w := range slices.Concat([]string{k.Linux}, k.Initrds, k.Args) {
		if strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errkind.Errorf(errkind.Invalid, "%q has control characters", w)
		}
	}
	return nil
}

// Uname returns the release of the kernel by the name of its file, or "".
func (k Kernel) Uname() string {
	_, release, _ := strings.Cut(path.Base(k.Linux), "-")
	return release
}
