package content

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// maxPrograms bounds the entries of a tree among which CheckPrograms looks for programs.
const maxPrograms = 1 << 16

// CheckPrograms checks the programs and libraries of a tree for arch, systemd's name of an
// architecture. It fails, with errkind.Incompatible, for a command of another architecture,
// and for any program of another one if the tree has none of arch: an image may also have
// tools and firmware for other machines. It skips files that need a mount to be read.
func CheckPrograms(fsys fs.FS, arch string) error {
	fit, known := map[string][]string{"x86-64": {"amd64", "386"}, "arm64": {"arm64", "arm"}}[arch]
	if !known {
		return nil
	}
	var entries, native int
	var foreign error
	visit := func(name string, d fs.DirEntry, err error) error {
		if entries++; entries > maxPrograms {
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		is, err := programAt(fsys, name, d)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case is == "":
		case slices.Contains(fit, is):
			native++
		default:
			fault := errkind.WithHint(errkind.Errorf(errkind.Incompatible, "%q is a program for %s, and the image is for %s", name, is, arch),
				"Build the image with programs for %s, or for the architecture that its programs are for.", arch)
			if isCommand(name) {
				return fault
			}
			if foreign == nil {
				foreign = fault
			}
		}
		return nil
	}
	var err error
	for _, top := range []string{"usr", "opt"} {
		if _, absent := fs.Lstat(fsys, top); absent == nil && err == nil {
			err = fs.WalkDir(fsys, top, visit)
		}
	}
	if err == nil && native == 0 {
		err = foreign
	}
	if err != nil {
		return fmt.Errorf("check programs of image: %w", err)
	}
	return nil
}

// isCommand reports whether a shell finds a file by its name.
func isCommand(name string) bool {
	dir := path.Dir(name)
	switch dir {
	case "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin":
		return true
	}
	ok, _ := path.Match("opt/*/bin", dir)
	return ok
}

// programAt returns the architecture of a program or library, and "" for any other file.
func programAt(fsys fs.FS, name string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	if info.Mode()&0o111 == 0 && !strings.Contains(path.Base(name), ".so") {
		return "", nil
	}
	f, err := fsys.Open(name)
	if errkind.Of(err) == errkind.Unsupported {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	arch, err := filekind.ReadProgram(f)
	if errkind.Of(err) == errkind.Unsupported {
		return "", nil
	}
	return arch, err
}
