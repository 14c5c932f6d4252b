package image

import (
	"fmt"
	"path"
	"slices"
)

// maxExtensions bounds each list of extensions.
const maxExtensions = 256

// Carried is an extension image in an image. Its bytes are a discoverable disk image.
type Carried struct {
	Class string // Sysext or Confext
	Path  string // in the OS; "": the default folder, and the name in the extension
	Partition
}

// Extensions returns the extension images that the image carries, sysexts first.
func (i *Image) Extensions() []Carried { return i.carried }

// files returns all packed files of the image: those of the regions, then of the extensions.
func (i *Image) files() []*Partition {
	var out []*Partition
	for n := range i.parts {
		out = append(out, &i.parts[n])
	}
	for n := range i.carried {
		out = append(out, &i.carried[n].Partition)
	}
	return out
}

func (m *Metadata) carried() []Carried {
	var out []Carried
	for _, l := range m.extensionLists() {
		for _, e := range l.list {
			out = append(out, Carried{l.class, e.Path, Partition{File: e.Image}})
		}
	}
	return out
}

// extensionList is one list of extensions and the rules of its class (systemd-sysext(8)).
type extensionList struct {
	class, key string
	list       []Extension
	folders    []string
}

func (m *Metadata) extensionLists() []extensionList {
	if m.Extensions == nil {
		return nil
	}
	return []extensionList{
		{Sysext, "extensions.sysexts", m.Extensions.Sysexts, []string{"/var/lib/extensions", "/etc/extensions", "/.extra/sysext"}},
		{Confext, "extensions.confexts", m.Extensions.Confexts, []string{"/var/lib/confexts", "/usr/lib/confexts", "/usr/local/lib/confexts"}},
	}
}

// extensions reads the key that version 1.3 added.
func (o object) extensions(m *Metadata) {
	e, is := o.object("extensions", false)
	if !is {
		return
	}
	m.Extensions = &Extensions{}
	read := func(key string) (out []Extension) {
		list, _ := e.list(key, false, maxExtensions)
		for _, x := range list {
			i, _ := x.object("image", true)
			out = append(out, Extension{Image: i.file(m.Version), Path: x.text("path", false)})
		}
		return out
	}
	m.Extensions.Sysexts, m.Extensions.Confexts = read("sysexts"), read("confexts")
}

func (m *Metadata) checkExtensions(w *walker) {
	regions, files, paths := map[string]bool{}, map[string]string{}, map[string]string{}
	if m.Disk != nil {
		for _, r := range m.Disk.Regions {
			regions[r.Image.Path] = true
		}
	}
	for n := range m.Filesystems {
		for _, f := range m.files(n) {
			regions[f.Path] = true
		}
	}
	for _, l := range m.extensionLists() {
		for n, e := range l.list {
			at := fmt.Sprintf("%s[%d]", l.key, n)
			switch first, twice := files[e.Image.Path]; {
			case e.Image.Path == "":
			case regions[e.Image.Path]:
				w.fault(NameExtensionIsRegion, at+".image.path", "is %.128q, which is the path of a partition image", e.Image.Path)
			case twice:
				w.fault(NameDuplicateExtFile, at+".image.path", "is %.128q, as is %s.image.path", e.Image.Path, first)
			default:
				files[e.Image.Path] = at
			}
			if e.Path == "" {
				continue
			}
			clean := path.Clean(e.Path)
			if first, twice := paths[clean]; twice {
				w.fault(NameDuplicateExtension, at+".path", "is %.128q, as is %s.path", e.Path, first)
			}
			paths[clean] = at
			l.checkPath(w, at+".path", e.Path)
		}
	}
}

func (l extensionList) checkPath(w *walker, at, name string) {
	switch {
	case !path.IsAbs(name):
		w.fault(NameExtensionRelative, at, "is %.128q, must be an absolute path", name)
	case path.Ext(name) != ".raw":
		w.fault(NameExtensionSuffix, at, "is %.128q, must end in .raw", name)
	case !slices.Contains(l.folders, path.Dir(path.Clean(name))):
		w.fault(NameExtensionFolder, at, "is %.128q, must be in one of %q", name, l.folders)
	}
}

// extensionPieces returns the extensions without the values that pack sets.
func (s *Spec) extensionPieces() []piece {
	var out []piece
	numbers := map[string]int{}
	for _, e := range s.Extensions {
		numbers[e.Class]++
		name := fmt.Sprintf("images/extensions/%s-%d.rawzst", e.Class, numbers[e.Class])
		out = append(out, piece{content: e.Content, region: Region{Image: File{Path: name, Size: e.Size}}})
	}
	return out
}

// extensions returns the metadata of the extensions. The caller has packed the pieces.
func (s *Spec) extensions(pieces []piece) *Extensions {
	out := &Extensions{}
	for n, e := range s.Extensions {
		x := Extension{Image: pieces[n].region.Image}
		if e.Class == Confext {
			out.Confexts = append(out.Confexts, x)
		} else {
			out.Sysexts = append(out.Sysexts, x)
		}
	}
	return out
}
