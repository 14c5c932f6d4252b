package fat

import (
	"encoding/binary"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/trident-project/trident/internal/errkind"
)

// entry is a file or folder.
type entry struct {
	name  string
	dir   bool
	first uint32 // cluster
	size  int64  // bytes, of a file
}

const (
	attrVolume = 0x08
	attrDir    = 0x10
	attrLong   = 0x0f
)

// list returns the entries of a folder, without . and ..
func (v *volume) list(e entry) ([]entry, error) {
	r, err := v.content(e)
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(r.Size(), maxDir)/32*32)
	if n, err := r.ReadAt(data, 0); n < len(data) {
		return nil, err
	}
	var out []entry
	var long longName
	for ; len(data) > 0 && data[0] != 0; data = data[32:] {
		d := data[:32]
		attr := d[11]
		switch {
		case d[0] == 0xe5: // deleted
			long = longName{}
			continue
		case attr&0x3f == attrLong:
			long.add(d)
			continue
		case attr&attrVolume != 0:
			long = longName{}
			continue
		}
		first := uint32(binary.LittleEndian.Uint16(d[26:]))
		if v.bits == 32 {
			first |= uint32(binary.LittleEndian.Uint16(d[20:])) << 16
		}
		name := long.of(d)
		if name == "" {
			name = shortName(d)
		}
		long = longName{}
		if name == "." || name == ".." {
			continue
		}
		if !fs.ValidPath(name) || strings.Contains(name, "/") {
			return nil, errkind.Errorf(errkind.Corrupt, "a file is called %.64q", name)
		}
		out = append(out, entry{name, attr&attrDir != 0, first, int64(binary.LittleEndian.Uint32(d[28:]))})
	}
	return out, nil
}

// longName collects a long name from the entries before that of the file, whose parts are
// in reverse order.
type longName struct {
	units []uint16
	next  byte // the number of the next part; 0 after the last
	sum   byte // checksum of the short name
}

func (l *longName) add(d []byte) {
	number := d[0] & 0x3f
	if d[0]&0x40 != 0 {
		*l = longName{next: number, sum: d[13]}
	}
	if number == 0 || number > 20 || number != l.next || d[13] != l.sum {
		*l = longName{}
		return
	}
	l.next--
	var part []uint16
	for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		u := binary.LittleEndian.Uint16(d[at:])
		if u == 0 {
			break
		}
		part = append(part, u)
	}
	l.units = append(part, l.units...)
}

// of returns the long name if it is complete and belongs to the short name in d, else "".
func (l *longName) of(d []byte) string {
	var sum byte
	for _, c := range d[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if len(l.units) == 0 || l.next != 0 || l.sum != sum {
		return ""
	}
	return string(utf16.Decode(l.units))
}

// shortName returns the name of an entry without a long name. Other bytes than UTF-8 are
// of an unknown code page and become "_".
func shortName(d []byte) string {
	part := func(b []byte, lower bool) string {
		s := strings.TrimRight(string(b), " ")
		if lower {
			s = strings.ToLower(s)
		}
		return strings.ToValidUTF8(s, "_")
	}
	name, ext := part(d[:8], d[12]&0x08 != 0), part(d[8:11], d[12]&0x10 != 0)
	if ext != "" {
		name += "." + ext
	}
	return name
}

// Open implements fs.FS.
func (v *volume) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	e, err := v.find(name)
	if err != nil {
		return fail(err)
	}
	if e.dir {
		list, err := v.list(e)
		if err != nil {
			return fail(err)
		}
		return &folder{info{e}, list}, nil
	}
	r, err := v.content(e)
	if err != nil {
		return fail(err)
	}
	return &file{r, info{e}}, nil
}

type file struct {
	*io.SectionReader
	info
}

func (f *file) Size() int64                { return f.e.size }
func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

type folder struct {
	info
	left []entry
}

func (f *folder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *folder) Close() error               { return nil }
func (f *folder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.e.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (f *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(f.left) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(f.left) {
		n = len(f.left)
	}
	var out []fs.DirEntry
	for _, e := range f.left[:n] {
		out = append(out, fs.FileInfoToDirEntry(info{e}))
	}
	f.left = f.left[n:]
	return out, nil
}

type info struct{ e entry }

func (i info) Name() string       { return i.e.name }
func (i info) Size() int64        { return i.e.size }
func (i info) IsDir() bool        { return i.e.dir }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.e.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
