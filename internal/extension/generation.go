package extension

import (
	"cmp"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Extension describes an active extension, or one to activate. It has only values that a
// Host Configuration and a journal can record.
type Extension struct {
	Class  Class  `json:"class"`
	Path   string `json:"path"`   // for systemd: an absolute path that ends in NAME.raw
	SHA384 string `json:"sha384"` // of the image, hexadecimal
	// Regular says that Path is the image itself, as upstream's Trident writes it, and
	// not a link to the store.
	Regular bool `json:"regular"`
}

// Name returns systemd's name of the extension.
func (e Extension) Name() string { return nameOf(e.Path) }

// Generation is all extensions that Trident has activated at one time, sorted by class and
// path. It does not include extensions of others, and Trident's own.
type Generation []Extension

func (g Generation) at(class Class, path string) (Extension, bool) {
	i := slices.IndexFunc(g, func(e Extension) bool { return e.Class == class && e.Path == path })
	if i < 0 {
		return Extension{}, false
	}
	return g[i], true
}

func (g Generation) has(sha384 string) bool {
	return slices.ContainsFunc(g, func(e Extension) bool { return e.SHA384 == sha384 })
}

// Image is an image in the store, or one that upstream's Trident wrote, which this process
// has hashed and inspected, and which fits this host. Only a Store makes an Image.
type Image struct {
	ext        Extension
	inspection inspection
}

// Extension returns the values of the image that can be recorded.
func (i Image) Extension() Extension { return i.ext }

// Release returns the extension-release of the image.
func (i Image) Release() Release { return i.inspection.release }

// Facts returns notes about the image for people.
func (i Image) Facts() Facts { return i.inspection.facts }

// Stored returns the path of the image in the store, from which package selfservice reads it.
func (i Image) Stored() string { return "/" + storeDir + "/" + i.ext.SHA384 + ".raw" }

// IsOwn reports whether the image is one of Trident itself, which Plan refuses: package
// selfservice activates it.
func (i Image) IsOwn() bool {
	return i.inspection.isOwn() || i.ext.Class == Sysext && i.ext.Name() == Own
}

// Change describes the change from one generation to another. A journal can record its
// exported fields. Apply and Place accept a recorded Change only after Store.Verify; Undo
// accepts it at once.
type Change struct {
	Old Generation `json:"old"`
	New Generation `json:"new"`

	images []Image // of New, in its order; only Plan sets it
}

// Plan returns the Change from the active extensions to the wanted ones. It fails, with
// errkind.Invalid, for an image of Trident itself, and for two images of a class with the
// same SYSEXT_ID, name or path.
func Plan(current Generation, wanted []Image) (Change, error) {
	images := slices.SortedFunc(slices.Values(wanted), func(a, b Image) int { return compareExtensions(a.ext, b.ext) })
	c := Change{Old: slices.SortedFunc(slices.Values(current), compareExtensions), images: images}
	for i, image := range images {
		if image.inspection.release.Name == "" {
			return Change{}, errkind.Errorf(errkind.Internal, "plan extensions: an image that was not inspected")
		}
		if image.IsOwn() {
			return Change{}, errkind.Errorf(errkind.Invalid, "%s is an image of trident itself, and a list of other extensions must not have it", image.ext.Path)
		}
		for _, other := range images[:i] {
			if err := collide(other, image); err != nil {
				return Change{}, err
			}
		}
		e := image.ext
		if old, ok := c.Old.at(e.Class, e.Path); ok && old.SHA384 == e.SHA384 {
			e.Regular = old.Regular // it stays as it is
		} else {
			e.Regular = false
		}
		c.images[i].ext = e
		c.New = append(c.New, e)
	}
	return c, nil
}

func collide(a, b Image) error {
	if a.ext.Class != b.ext.Class {
		return nil
	}
	class := a.ext.Class
	switch {
	case a.ext.Path == b.ext.Path:
		return errkind.Errorf(errkind.Invalid, "two %ss would be at %s", class, a.ext.Path)
	case a.ext.Name() == b.ext.Name():
		return errkind.Errorf(errkind.Invalid, "two %ss would be called %s: %s and %s", class, a.ext.Name(), a.ext.Path, b.ext.Path)
	case a.inspection.release.SysextID == b.inspection.release.SysextID:
		return errkind.Errorf(errkind.Invalid, "%s and %s are the same extension: both have %sID %q", a.ext.Path, b.ext.Path, class.facts().fields, a.inspection.release.SysextID)
	}
	return nil
}

func compareExtensions(a, b Extension) int {
	return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Path, b.Path))
}

// Empty reports whether both generations are the same.
func (c Change) Empty() bool { return len(c.classes()) == 0 }

// classes returns the classes in which the generations differ. Sysext is first, because a
// confext may configure the programs of a sysext.
func (c Change) classes() []Class {
	var out []Class
	for _, class := range []Class{Sysext, Confext} {
		if len(c.removed(class)) > 0 || slices.ContainsFunc(c.New, func(e Extension) bool { return e.Class == class && !slices.Contains(c.Old, e) }) {
			out = append(out, class)
		}
	}
	return out
}

// removed returns the extensions of the old generation whose paths no extension of the new
// one has.
func (c Change) removed(class Class) (gone []Extension) {
	for _, e := range c.Old {
		if _, stays := c.New.at(e.Class, e.Path); !stays && e.Class == class {
			gone = append(gone, e)
		}
	}
	return gone
}

// back returns the reverse change. It needs no images, because the old extensions were
// active before.
func (c Change) back() Change { return Change{Old: c.New, New: c.Old} }
