// Package extension knows sysexts and confexts as systemd does: which extensions systemd
// finds, which fit a host, and which would make a refresh fail. With that knowledge its
// [Store] activates the extensions of a Host Configuration and restores previous ones.
//
// The package repeats rules of systemd-sysext(8), because systemd applies them only while it
// merges, and one image that fails keeps systemd from merging every other extension. So the
// package checks the rules before Trident changes anything. It accepts an extension of
// others if the rule differs between versions of systemd, or if it cannot read the format:
// Trident can undo a merge that fails, but nobody can undo a wrong refusal. It is strict with
// the images that the Store fetches: the Store hashes and reads them and compares them with
// the host before it stages them, and Apply activates only an [Image] of the Store.
package extension

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
)

const releasePrefix = "extension-release."

// Release is the content of an extension-release file (os-release(5)). A field that the file
// does not have is empty, except Scope, which has a default.
//
// The names of the fields are those of a sysext; a confext has other keys for them, such as
// CONFEXT_LEVEL for SYSEXT_LEVEL.
type Release struct {
	Class         Class
	Name          string // the end of the file's name, and so the name of the extension
	ID            string // "_any" fits every system
	VersionID     string
	SysextLevel   string
	Architecture  string            // a systemd word, or "_any"
	Scope         string            // SYSEXT_SCOPE, words
	SysextID      string            // SYSEXT_ID: the same for all versions of an extension
	Version       string            // SYSEXT_VERSION_ID
	ReloadManager bool              // EXTENSION_RELOAD_MANAGER
	Fields        map[string]string // all fields of the file
}

// ReadRelease reads the release of a sysext,
// usr/lib/extension-release.d/extension-release.NAME. It uses none of systemd's fallbacks
// for a renamed image.
func ReadRelease(fsys fs.FS, name string) (Release, error) {
	if !validName(name) {
		return Release{}, errkind.Errorf(errkind.Invalid, "read extension-release: %q cannot be the name of an extension", name)
	}
	file := Sysext.releaseFile(name)
	vars, err := readEnv(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		if other := otherThanOurs(fsys); name == Own && other != nil {
			return Release{}, other
		}
		return Release{}, errkind.Errorf(errkind.Corrupt, "read extension-release: no file %s in the image: %w", file, err)
	}
	if errkind.Of(err) == errkind.Unsupported { // of a compressed file system
		return Release{}, fmt.Errorf("read %s: %w", file, err)
	}
	if err != nil {
		return Release{}, errkind.Errorf(errkind.Corrupt, "read %s: %w", file, err)
	}
	return releaseOf(Sysext, name, vars), nil
}

// otherThanOurs returns the error for an image of another extension than Trident; nil if
// the image is not an extension.
func otherThanOurs(fsys fs.FS) error {
	for _, class := range []Class{Sysext, Confext} {
		found, err := releaseFiles(fsys, class)
		if err != nil || len(found) == 0 {
			continue
		}
		other := strings.TrimPrefix(found[0].Name(), releasePrefix)
		return errkind.WithHint(errkind.Errorf(errkind.Incompatible, "it is an image of the %s %q, not of %q", class, other, Own),
			"A Host Configuration names it in os.%ss, and trident update activates it.", class)
	}
	return nil
}

// releaseOf returns the Release of an extension of class with these fields.
func releaseOf(class Class, name string, vars map[string]string) Release {
	prefix := class.facts().fields
	scope, ok := vars[prefix+"SCOPE"]
	if !ok {
		scope = "system portable"
	}
	return Release{
		Class:         class,
		Name:          name,
		ID:            vars["ID"],
		VersionID:     vars["VERSION_ID"],
		SysextLevel:   vars[prefix+"LEVEL"],
		Architecture:  vars["ARCHITECTURE"],
		Scope:         scope,
		SysextID:      vars[prefix+"ID"],
		Version:       vars[prefix+"VERSION_ID"],
		ReloadManager: isTrue(vars["EXTENSION_RELOAD_MANAGER"]),
		Fields:        vars,
	}
}

func readEnv(fsys fs.FS, file string) (map[string]string, error) {
	f, err := fsys.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return hostinfo.ParseEnv(f)
}

// validName reports whether systemd accepts the name of an image.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.HasPrefix(name, ".#") &&
		!strings.Contains(name, "/") && utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsControl) < 0
}

// isTrue reports whether systemd reads s as true.
func isTrue(s string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(s))
}

// Fits returns nil if systemd would merge an image with this release on h, else an error of
// kind Incompatible with the first reason that systemd would find.
func (r Release) Fits(h hostinfo.Host) error {
	if !slices.Contains(strings.Fields(r.Scope), "system") {
		return r.unfit("is for the scope %q, not for a running \"system\"", r.Scope)
	}
	if r.Architecture != "" && r.Architecture != "_any" && r.Architecture != h.Architecture {
		return r.unfit("is for the architecture %q, this host is %q", r.Architecture, h.Architecture)
	}
	switch r.ID {
	case "":
		return r.unfit("names no ID of a system; this host is %q", h.ID)
	case "_any":
		return nil
	}
	if r.ID != h.ID && !slices.Contains(h.IDLike, r.ID) {
		return r.unfit("is for the system %q, this host is %q", r.ID, strings.Join(append([]string{h.ID}, h.IDLike...), " "))
	}
	level := h.SysextLevel
	if r.Class == Confext {
		level = h.ConfextLevel
	}
	if level != "" && r.SysextLevel != "" {
		if r.SysextLevel != level {
			return r.unfit("is for %sLEVEL %q, this host has %q", r.Class.facts().fields, r.SysextLevel, level)
		}
		return nil
	}
	if h.VersionID != "" && r.VersionID != h.VersionID {
		return r.unfit("is for VERSION_ID %q of %s, this host has %q", r.VersionID, r.ID, h.VersionID)
	}
	return nil
}

func (r Release) unfit(format string, args ...any) error {
	return errkind.Errorf(errkind.Incompatible, "extension %s %s", r.Name, fmt.Sprintf(format, args...))
}
