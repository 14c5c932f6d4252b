package extension

import (
	"cmp"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Extension is one that is in service, or is to be, by value: what a Host
// Configuration and a journal can keep.
type Extension struct {
	Class  Class  `json:"class"`
	Path   string `json:"path"`   // where systemd finds it: an absolute path that ends in NAME.raw
	SHA384 string `json:"sha384"` // of the image, hexadecimal
	// Regular says that the image itself lies at Path, as upstream's Trident
	// places it, and not a link to the store.
	Regular bool `json:"regular"`
}

// Name is what systemd calls it.
func (e Extension) Name() string { return nameOf(e.Path) }

// Generation is all extensions that Trident has in service at one time, sorted
// by class and path. Those of others, and Trident's own, are not in it.
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

// Image is an image in the store, or one that upstream's Trident placed, that was
// hashed and inspected in this process and fits this host. Only a Store makes
// one.
type Image struct {
	ext        Extension
	inspection inspection
}

// Extension is the image by value.
func (i Image) Extension() Extension { return i.ext }

// Release is what it says about itself.
func (i Image) Release() Release { return i.inspection.release }

// Facts are what else is worth telling about it.
func (i Image) Facts() Facts { return i.inspection.facts }

// Stored is where the image is on the host, for self-servicing to take it from.
func (i Image) Stored() string { return "/" + storeDir + "/" + i.ext.SHA384 + ".raw" }

// IsOwn says that it is an image of Trident itself, which goes the way of
// self-servicing: no Change takes it.
func (i Image) IsOwn() bool {
	return i.inspection.isOwn() || i.ext.Class == Sysext && i.ext.Name() == Own
}

// Change leads from one generation to another. Its exported fields may be kept
// in a journal; one that was read from there has to go through Store.Verify
// before Apply takes it, but not before Undo does.
type Change struct {
	Old Generation `json:"old"`
	New Generation `json:"new"`

	images []Image // of New, in its order; only Plan sets it
}

// Plan finds what leads from the extensions that are in service to the wanted
// ones. Two of a class that are the same extension (SYSEXT_ID), or that would
// have the same name, and an image of Trident itself are errors of kind Invalid.
func Plan(current Generation, wanted []Image) (Change, error) {
	images := slices.SortedFunc(slices.Values(wanted), func(a, b Image) int { return compareExtensions(a.ext, b.ext) })
	c := Change{Old: slices.SortedFunc(slices.Values(current), compareExtensions), images: images}
	for i, image := range images {
		if image.inspection.release.Name == "" {
			return Change{}, errkind.Errorf(errkind.Internal, "plan extensions: an image that was not inspected")
		}
		if image.IsOwn() {
			return Change{}, errkind.Errorf(errkind.Invalid, "%s is an image of trident itself, which no list of others may have", image.ext.Path)
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

// Empty says that there is nothing to do.
func (c Change) Empty() bool { return len(c.classes()) == 0 }

// classes are those of which an extension comes, goes or changes; Sysext first,
// because a confext may configure what it brings.
func (c Change) classes() []Class {
	var out []Class
	for _, class := range []Class{Sysext, Confext} {
		if len(c.removed(class)) > 0 || slices.ContainsFunc(c.New, func(e Extension) bool { return e.Class == class && !slices.Contains(c.Old, e) }) {
			out = append(out, class)
		}
	}
	return out
}

// removed are the extensions of the old generation at whose path the new one
// has nothing.
func (c Change) removed(class Class) (gone []Extension) {
	for _, e := range c.Old {
		if _, stays := c.New.at(e.Class, e.Path); !stays && e.Class == class {
			gone = append(gone, e)
		}
	}
	return gone
}

// back is the way back, which needs no images: what was in service may be again.
func (c Change) back() Change { return Change{Old: c.New, New: c.Old} }
