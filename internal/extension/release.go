// Package extension knows sysexts and confexts as systemd sees them: which ones
// it finds, which one fits a host, and which one would make its refresh fail.
// With that knowledge its [Store] brings those of a Host Configuration into
// service, and back.
//
// It repeats rules of systemd-sysext(8) that cannot be asked for: systemd
// applies them only while it merges, and one image that trips a refresh keeps
// every extension of the host from being merged. So the rules are looked up
// before anything is changed. Where systemd's versions differ, or where a
// format is not ours to read, the answer is in favour of the image: a refresh
// that fails after all is undone, a refusal without cause would only be in the
// way. With the images that the Store brings itself it is the other way round:
// they are hashed, read strictly and fitted before they count as staged, and only
// the Store makes an [Image], without which nothing is put in place.
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

// Release is what an image says about itself in its extension-release file
// (os-release(5)). What it does not say is empty, but for Scope, which has a
// default.
//
// The names of its fields are those of a sysext; a confext's are the ones that
// its file has in their place, such as CONFEXT_LEVEL for SYSEXT_LEVEL.
type Release struct {
	Class         Class
	Name          string // the end of the file's name, and so the name of the extension
	ID            string // "_any" fits every system
	VersionID     string
	SysextLevel   string
	Architecture  string            // a systemd word, or "_any"
	Scope         string            // SYSEXT_SCOPE, words
	SysextID      string            // SYSEXT_ID: whose image this is
	Version       string            // SYSEXT_VERSION_ID
	ReloadManager bool              // EXTENSION_RELOAD_MANAGER
	Fields        map[string]string // all of the file
}

// ReadRelease reads the release of a sysext,
// usr/lib/extension-release.d/extension-release.NAME, and no other file: the
// fallbacks that systemd has for a renamed image are not for images that we
// choose ourselves.
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

// otherThanOurs is the error about an image that is one of another extension than Trident;
// nil for what is not one.
func otherThanOurs(fsys fs.FS) error {
	for _, class := range []Class{Sysext, Confext} {
		found, err := releaseFiles(fsys, class)
		if err != nil || len(found) == 0 {
			continue
		}
		other := strings.TrimPrefix(found[0].Name(), releasePrefix)
		return errkind.WithHint(errkind.Errorf(errkind.Incompatible, "it is an image of the %s %q, not of %q", class, other, Own),
			"A Host Configuration names it in os.%ss, and trident update brings it into service.", class)
	}
	return nil
}

// releaseOf picks what counts for class.
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

// validName is systemd's rule for image names.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.HasPrefix(name, ".#") &&
		!strings.Contains(name, "/") && utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsControl) < 0
}

// isTrue is systemd's idea of a boolean that is set.
func isTrue(s string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(s))
}

// Fits says whether systemd would merge an image with this release on h. It
// asks in systemd's order, so that the first reason is systemd's reason too.
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
