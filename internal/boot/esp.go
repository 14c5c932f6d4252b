package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// esp is the mounted ESP. It is a FAT: it has no links, upper and lower case are the same,
// and a rename is several writes. So a file is whole and on disk under another name before
// it is renamed, the file that it replaces keeps its blocks until the rename is on disk, and
// each change is on disk before the next one. A rename is on disk after a sync of the file
// and then of the folder.
type esp struct {
	ctx   context.Context
	read  fs.FS
	root  *os.Root // nil: it is only read
	touch func(string, func() error) error
}

// files returns the names in a folder, or none if the folder does not exist.
func (e esp) files(dir string) ([]string, error) {
	d, err := e.read.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	folder, ok := d.(fs.ReadDirFile)
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: dir, Err: errors.New("it is not a folder")}
	}
	entries, err := folder.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > maxEntries {
		return nil, errkind.Errorf(errkind.TooLarge, "%s on the ESP has more than %d entries", dir, maxEntries)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

const maxEntries = 4096

// has reports whether a file or folder with this name exists.
func (e esp) has(name string) bool {
	_, err := fs.Stat(e.read, name)
	return err == nil
}

// file returns an existing file.
func (e esp) file(name string) (file, error) {
	info, err := fs.Stat(e.read, name)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: name, Err: errNoFile}
	}
	if err != nil {
		return file{}, err
	}
	return file{path.Base(name), info.Size(), func() (fs.File, error) { return e.read.Open(name) }}, nil
}

var errNoFile = errors.New("it is not a file")

// readFile returns the content of a file, at most its first limit bytes.
func (e esp) readFile(name string, limit int64) ([]byte, error) {
	f, err := e.read.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// mkdir makes a folder and its parents.
func (e esp) mkdir(dir string) error {
	if dir == "." || e.has(dir) {
		return nil
	}
	if err := e.mkdir(path.Dir(dir)); err != nil {
		return err
	}
	return e.touch("make "+dir, func() error {
		if err := e.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return e.sync(path.Dir(dir))
	})
}

// put makes dir/f.name a copy of f, unless it has the content of f already.
func (e esp) put(dir string, f file) (err error) {
	name := path.Join(dir, f.name)
	if same, err := e.same(name, f); err != nil || same {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s on the ESP: %w", name, err), e.remove(name+newSuffix))
		}
	}()
	if err := e.touch("write "+name+newSuffix, func() error { return e.copy(name+newSuffix, f) }); err != nil {
		return err
	}
	return e.rename(name+newSuffix, name)
}

func (e esp) copy(name string, f file) (err error) {
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := e.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	n, err := io.Copy(out, interrupt.Reader(e.ctx, io.LimitReader(in, f.size+1)))
	if err != nil {
		return err
	}
	if n != f.size {
		return errkind.Errorf(errkind.Corrupt, "read %d bytes of %s, which has %d", n, f.name, f.size)
	}
	return out.Sync()
}

// same reports whether name has the content of f.
func (e esp) same(name string, f file) (bool, error) {
	info, err := e.root.Stat(name)
	if err != nil || info.Size() != f.size {
		return false, nil // it is not there, or has to be replaced in any case
	}
	a, err := e.root.Open(name)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := f.open()
	if err != nil {
		return false, err
	}
	defer b.Close()
	var have, want [64 << 10]byte
	for {
		n, err := io.ReadFull(b, want[:])
		m, _ := io.ReadFull(a, have[:])
		if !bytes.Equal(have[:m], want[:n]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// rename renames a file and replaces another file with the new name; see [esp].
func (e esp) rename(from, to string) error {
	return e.touch("rename to "+to, func() error {
		if old, err := e.root.Open(to); err == nil {
			defer old.Close()
		}
		if err := e.root.Rename(from, to); err != nil {
			return err
		}
		// Until then the kernel has an entry on disk of a file that is empty.
		if err := e.sync(to); err != nil {
			return err
		}
		return e.sync(path.Dir(to))
	})
}

// remove removes a file, or a folder with its content, if it exists.
func (e esp) remove(name string) error {
	if !e.has(name) {
		return nil
	}
	return e.touch("remove "+name, func() error {
		if err := e.root.RemoveAll(name); err != nil {
			return err
		}
		return e.sync(path.Dir(name))
	})
}

// sync writes a file or folder to disk.
func (e esp) sync(name string) error {
	f, err := e.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// statfs returns the room in the file system at dir, and the size of the blocks
// that it gives to files.
func statfs(dir string) (free, block int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("ask for the room on %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, st.Bsize, nil
}

func prefix(doing string, err error) error { return fmt.Errorf("%s: %w", doing, err) }
