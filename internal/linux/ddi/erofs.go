package ddi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/erofs/go-erofs"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi/pclusters"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// Bounds for a hostile file system, in which a folder may be its own child.
const (
	maxDepth   = 64
	maxEntries = 1 << 20 // read from folders, over the life of one FS
)

// guarded makes a file system with hostile bytes safe for the functions of io/fs. A
// panic of its reader becomes an error of kind Corrupt, and so does each of the reader's
// errors that is not about a missing file. guarded checks names, depths and sizes.
type guarded struct {
	fs.ReadLinkFS
	size     int64             // the largest size of a file
	clusters *pclusters.Volume // reads compressed files; nil: there are none
	entries  *atomic.Int64
}

// OpenErofs is Image.FS for a file system that is not in an Image.
func OpenErofs(r *io.SectionReader) (fs.FS, error) {
	fsys, err := openErofs(r, r.Size(), nil)
	if !errors.Is(err, erofs.ErrNotImplemented) {
		return fsys, err
	}
	clusters, err := pclusters.Open(r)
	if err != nil {
		return nil, fmt.Errorf("read file system: %w", err)
	}
	return openErofs(io.NewSectionReader(uncompressed{r}, 0, r.Size()), maxUnpacked, clusters)
}

// maxUnpacked bounds a file of a compressed file system, in bytes. An index needs 2 bytes for
// each 4 KiB, so a small image can claim to have a large file.
const maxUnpacked = 4 << 30

// openErofs opens a file system in which no file may be larger than largest.
func openErofs(r *io.SectionReader, largest int64, clusters *pclusters.Volume) (_ fs.FS, err error) {
	defer guard("read file system", &err)
	if name := filekind.FileSystem(r, r.Size()); name != "" && name != filekind.Erofs {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Unsupported, "read file system: it is %s, and only erofs is read without a mount", name),
			"Build the image with an erofs: trident sysext build, or Format=erofs for systemd-repart.")
	}
	inner, err := erofs.Open(padded{r})
	if errors.Is(err, erofs.ErrNotImplemented) {
		return nil, errkind.Errorf(errkind.Unsupported, "read file system: %w", err)
	}
	if err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read file system: %w", err)
	}
	links, ok := inner.(fs.ReadLinkFS)
	if !ok {
		return nil, errkind.Errorf(errkind.Unsupported, "read file system: the reader does not support symbolic links")
	}
	return guarded{links, largest, clusters, new(atomic.Int64)}, nil
}

// uncompressed reads an erofs, with zeros for the fields of its superblock that say how
// files are compressed (Linux, fs/erofs/erofs_fs.h). Inodes and folders never are.
type uncompressed struct{ r io.ReaderAt }

func (u uncompressed) ReadAt(p []byte, offset int64) (int, error) {
	const (
		superblock   = 1024
		checksum     = 0x1                     // a compatible feature
		compressions = 0x1 | 0x2 | 0x10 | 0x20 // incompatible features
	)
	n, err := u.r.ReadAt(p, offset)
	for at, keep := range map[int64]byte{
		superblock + 8: ^byte(checksum), superblock + 80: ^byte(compressions), superblock + 84: 0, superblock + 85: 0, // the algorithms
	} {
		if i := at - offset; i >= 0 && i < int64(n) {
			p[i] &= keep
		}
	}
	return n, err
}

// padded reads an erofs, with zeros for the largest inode behind its end. The last inode of
// a file system may be a compact one, of 32 bytes; package erofs reads the 64 bytes of an
// extended inode before it knows which one it is.
type padded struct{ r *io.SectionReader }

func (p padded) ReadAt(b []byte, offset int64) (int, error) {
	const largestInode = 64
	n, err := p.r.ReadAt(b, offset)
	if missing := len(b) - n; errors.Is(err, io.EOF) && n > 0 && missing <= largestInode {
		clear(b[n:])
		return len(b), nil
	}
	return n, err
}

// guard turns a panic into an error, and gives errors their kind. Callers defer it. It
// takes io.EOF for damage; Read and ReadDir, which return it at the end of a file or a
// folder, keep it from guard.
func guard(doing string, err *error) {
	if p := recover(); p != nil {
		*err = errkind.Errorf(errkind.Corrupt, "%s: the file system has impossible values: %v", doing, p)
		return
	}
	if *err == nil || errors.Is(*err, fs.ErrNotExist) || errkind.Of(*err) != errkind.Internal {
		return
	}
	if errors.Is(*err, io.EOF) {
		*err = io.ErrUnexpectedEOF
	}
	if errors.Is(*err, erofs.ErrNotImplemented) {
		*err = errkind.With(errkind.Unsupported, *err)
		return
	}
	*err = errkind.Errorf(errkind.Corrupt, "%s: %w", doing, *err)
}

func (g guarded) Open(name string) (f fs.File, err error) {
	defer guard("open "+name, &err)
	if strings.Count(name, "/") >= maxDepth {
		return nil, errkind.Errorf(errkind.Corrupt, "open %s: folders are nested deeper than %d", name, maxDepth)
	}
	inner, err := g.ReadLinkFS.Open(name)
	if err == nil && g.clusters != nil {
		inner, err = g.unpacked(inner)
	}
	if err != nil {
		return nil, err
	}
	if dir, ok := inner.(fs.ReadDirFile); ok {
		return &guardedDir{guardedFile{File: inner, fsys: g, name: name}, dir, ""}, nil
	}
	return &guardedFile{File: inner, fsys: g, name: name}, nil
}

// unpacked returns f, or the content of f if f is compressed.
func (g guarded) unpacked(f fs.File) (fs.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*erofs.Stat)
	if !ok || !pclusters.Compressed(stat.InodeLayout) {
		return f, nil
	}
	if info.IsDir() {
		return nil, errkind.Errorf(errkind.Corrupt, "folder %s is compressed", info.Name())
	}
	content, err := g.clusters.File(uint64(stat.Ino))
	if err != nil {
		return nil, err
	}
	return unpackedFile{f, io.NewSectionReader(content, 0, content.Size())}, nil
}

// unpackedFile is a compressed file with its content.
type unpackedFile struct {
	fs.File
	content *io.SectionReader
}

func (f unpackedFile) Read(p []byte) (int, error) { return f.content.Read(p) }

func (g guarded) ReadLink(name string) (target string, err error) {
	defer guard("read link "+name, &err)
	return g.ReadLinkFS.ReadLink(name)
}

func (g guarded) Lstat(name string) (fs.FileInfo, error) {
	return g.checked(name, func() (fs.FileInfo, error) { return g.ReadLinkFS.Lstat(name) })
}

func (g guarded) Stat(name string) (fs.FileInfo, error) {
	return g.checked(name, func() (fs.FileInfo, error) { return fs.Stat(g.ReadLinkFS, name) })
}

// checked returns the result of stat. It refuses a size that is negative or larger than
// g.size, for which fs.ReadFile would allocate too much memory.
func (g guarded) checked(name string, stat func() (fs.FileInfo, error)) (info fs.FileInfo, err error) {
	defer guard("look at "+name, &err)
	info, err = stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < 0 || info.Size() > g.size {
		return nil, errkind.Errorf(errkind.Corrupt, "inspect %s: its size is %d bytes, and the file system has %d", name, info.Size(), g.size)
	}
	return info, nil
}

type guardedFile struct {
	fs.File
	fsys guarded
	name string
	read int64
}

// Read fails, with errkind.Corrupt, if the content ends before the size of the file.
func (f *guardedFile) Read(p []byte) (n int, err error) {
	ended := false
	func() {
		defer guard("read "+f.name, &err)
		n, err = f.File.Read(p)
		f.read += int64(n)
		if ended = errors.Is(err, io.EOF); ended {
			err = nil
		}
	}()
	if err != nil || !ended {
		return n, err
	}
	info, err := f.Stat()
	if err != nil {
		return n, err
	}
	if f.read < info.Size() {
		return n, errkind.Errorf(errkind.Corrupt, "read %s: it ends after %d of %d bytes", f.name, f.read, info.Size())
	}
	return n, io.EOF
}

func (f *guardedFile) Stat() (fs.FileInfo, error) { return f.fsys.checked(f.name, f.File.Stat) }

func (f *guardedFile) Close() (err error) {
	defer guard("close "+f.name, &err)
	return f.File.Close()
}

type guardedDir struct {
	guardedFile
	dir  fs.ReadDirFile
	last string // name read
}

// ReadDir reads in pieces, so that maxEntries also stops it in an endless folder.
func (d *guardedDir) ReadDir(n int) (out []fs.DirEntry, err error) {
	for n <= 0 || len(out) < n {
		piece := 256
		if n > 0 {
			piece = min(piece, n-len(out))
		}
		entries, ended, err := d.readPiece(piece)
		out = append(out, entries...)
		if err != nil {
			return out, err
		}
		if ended || len(entries) == 0 {
			break
		}
	}
	if n > 0 && len(out) == 0 {
		return nil, io.EOF
	}
	return out, nil
}

func (d *guardedDir) readPiece(n int) (out []fs.DirEntry, ended bool, err error) {
	defer guard("read folder "+d.name, &err)
	entries, err := d.dir.ReadDir(n)
	for _, e := range entries {
		if err := d.checkName(e.Name()); err != nil {
			return out, false, err
		}
		out = append(out, guardedEntry{e, d.fsys})
	}
	if errors.Is(err, io.EOF) {
		return out, true, nil
	}
	return out, false, err
}

// checkName fails unless names are in ascending order, each once, as in every erofs.
// Other names would be found by some readers and not by others.
func (d *guardedDir) checkName(name string) error {
	switch {
	case d.fsys.entries.Add(1) > maxEntries:
		return errkind.Errorf(errkind.Corrupt, "read folder %s: the file system has more than %d entries", d.name, maxEntries)
	case name == "" || strings.ContainsAny(name, "/\x00"):
		return errkind.Errorf(errkind.Corrupt, "read folder %s: %q is not a file name", d.name, name)
	case name <= d.last:
		return errkind.Errorf(errkind.Corrupt, "read folder %s: %q is not in order", d.name, name)
	}
	d.last = name
	return nil
}

type guardedEntry struct {
	fs.DirEntry
	fsys guarded
}

func (e guardedEntry) Info() (fs.FileInfo, error) { return e.fsys.checked(e.Name(), e.DirEntry.Info) }
