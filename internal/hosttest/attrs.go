package hosttest

import "io/fs"

// AttrFS gives every file the extended attributes of the map.
type AttrFS struct {
	fs.FS
	Attrs map[string]string
}

// Open opens a file with the attributes.
func (a AttrFS) Open(name string) (fs.File, error) {
	f, err := a.FS.Open(name)
	if d, ok := f.(fs.ReadDirFile); ok {
		return attrDir{d, a.Attrs}, err
	}
	return f, err
}

type attrDir struct {
	fs.ReadDirFile
	attrs map[string]string
}

func (d attrDir) ReadDir(n int) ([]fs.DirEntry, error) {
	entries, err := d.ReadDirFile.ReadDir(n)
	for i, e := range entries {
		entries[i] = attrEntry{e, d.attrs}
	}
	return entries, err
}

type attrEntry struct {
	fs.DirEntry
	attrs map[string]string
}

func (e attrEntry) Info() (fs.FileInfo, error) {
	info, err := e.DirEntry.Info()
	return attrInfo{info, e.attrs}, err
}

type attrInfo struct {
	fs.FileInfo
	attrs map[string]string
}

func (i attrInfo) GetAllXattr() map[string]string { return i.attrs }

func (i attrInfo) GetXattr(name string) (string, bool) {
	value, ok := i.attrs[name]
	return value, ok
}
