package extension

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/systemd"
)

// maxImage bounds an image, in bytes.
const maxImage = 4 << 30

// Store activates the extensions of a Host Configuration on one host, and restores the
// previous ones.
//
// The images are in a folder of their own, each named after the hash of its content, and
// systemd finds links to them. So an update of an extension and a rollback are one rename,
// and the Store never fetches an image twice. The order of calls is Stage (or Load, for a
// staged image), Plan, Check, Apply, and then Undo or Prune. After a crash another process
// may repeat each call with the same values.
type Store struct {
	// Root is the root folder of the host, "/".
	Root string
	// Files is the root folder of the host that fetches: it has the files of file URLs,
	// credentials for registries and certificate authorities. "" is Root. It differs for
	// an OS that does not run: the running OS fetches the extensions.
	Files   string
	Systemd systemd.Manager
	// Tools runs journalctl for the text of an error; nil: the text has no journal.
	Tools interface {
		Run(ctx context.Context, name string, args ...string) ([]byte, error)
	}
	// Touch, if set, gets the name of each change of the host and a function that makes
	// the change, and calls that function. For the power-cut test.
	Touch func(name string, change func() error) error

	mount  volume.Mounter               // nil: the kernel's
	whole  func(f *os.File) io.ReaderAt // reads a whole image; nil: f does. Tests count with it
	intact sync.Map                     // of regfile.State, by SHA-384; see verified
}

// Source is an image that a Host Configuration lists.
type Source struct {
	Class  Class
	URL    string  // http, https, oci or file; it may have secrets in it
	SHA384 string  // of the image, hexadecimal
	Path   string  // of the extension on the host; "": NAME.raw in the default folder of its class
	Budget *Budget // bounds what Stage receives for this and other sources; nil: no bound
}

// Progress gets the fetched bytes of an image, and its size; total is 0 while unknown.
type Progress func(done, total int64)

// Stage fetches an image, checks it, and adds it to the store; it changes nothing else. It
// fetches the image only if neither the store nor the current extensions have it. It keeps
// the part of an interrupted fetch, which the next call continues, and deletes a refused
// image.
//
// Errors are of kind Invalid (a wrong source, or a Path that does not fit the image),
// Corrupt (another hash, or not an extension of this class), Forbidden, Incompatible
// (made for another host), or those of package fetch.
func (s *Store) Stage(ctx context.Context, src Source, current Generation, progress Progress, log func(string)) (Image, error) {
	image, err := s.stage(ctx, src, current, progress, log)
	if err != nil {
		return Image{}, fmt.Errorf("stage %s %s: %w", src.Class, fetch.Redact(src.URL), err)
	}
	return image, nil
}

func (s *Store) stage(ctx context.Context, src Source, current Generation, progress Progress, log func(string)) (Image, error) {
	src.SHA384 = strings.ToLower(src.SHA384)
	err := checkSource(src)
	if err != nil {
		return Image{}, err
	}
	dir, err := s.folder(storeDir, 0)
	if err == nil && dir == "" {
		err = s.touch("make store", func() error {
			dir, err = s.folder(storeDir, 0o700)
			return err
		})
	}
	if err != nil {
		return Image{}, err
	}
	file := filepath.Join(dir, src.SHA384+".raw")
	switch v, err := s.verify(ctx, file, src.SHA384); {
	case err == nil:
		defer v.Close()
		return s.read(ctx, v, src)
	case errors.Is(err, fs.ErrNotExist):
	case errkind.Of(err) != errkind.Corrupt:
		return Image{}, err
	default: // the stored image is damaged
		if err := s.touch("discard damaged image", func() error { return atomicfile.Remove(file) }); err != nil {
			return Image{}, err
		}
	}
	if s.keepCurrent(ctx, src, current) {
		return s.verifyAndRead(ctx, file, src)
	}
	return s.fetchImage(ctx, src, file, s.relatives(src, current), progress, log)
}

// keepCurrent copies an image that upstream's Trident placed on this host into the store. It
// reports whether it did; if not, the caller fetches the image.
func (s *Store) keepCurrent(ctx context.Context, src Source, current Generation) bool {
	for _, e := range current {
		if !e.Regular || e.Class != src.Class || e.SHA384 != src.SHA384 {
			continue
		}
		p, ok, err := s.placeOf(e, 0)
		if err == nil && ok && s.touch("keep image", func() error { return p.copyToStore(ctx) }) == nil {
			return true
		}
	}
	return false
}

// Load is Stage for an image that this host has: in the store, or at the path to which
// upstream's Trident wrote it. It fails with errkind.NotFound if the host does not have it.
func (s *Store) Load(ctx context.Context, e Extension) (Image, error) {
	image, err := s.load(ctx, e)
	if err != nil {
		return Image{}, fmt.Errorf("load %s %s: %w", e.Class, e.Name(), err)
	}
	return image, nil
}

func (s *Store) load(ctx context.Context, e Extension) (Image, error) {
	src := Source{Class: e.Class, SHA384: e.SHA384, Path: e.Path}
	if err := checkSource(src); err != nil {
		return Image{}, err
	}
	p, ok, err := s.placeOf(e, 0)
	if err != nil {
		return Image{}, err
	}
	file := filepath.Join(s.Root, storeDir, e.SHA384+".raw")
	if ok && e.Regular {
		file = p.file
	} else if dir, err := s.folder(storeDir, 0); err != nil {
		return Image{}, err
	} else if dir != "" {
		file = filepath.Join(dir, e.SHA384+".raw")
	}
	image, err := s.verifyAndRead(ctx, file, src)
	if errors.Is(err, fs.ErrNotExist) {
		err = errkind.With(errkind.NotFound, err)
	}
	image.ext.Regular = e.Regular
	return image, err
}

// checkSource makes the checks of a source that do not need its image.
func checkSource(src Source) error {
	if !src.Class.valid() {
		return errkind.Errorf(errkind.Invalid, "%q is not a class of extensions", src.Class)
	}
	if !storedName.MatchString(src.SHA384 + ".raw") {
		return errkind.Errorf(errkind.Invalid, "the expected SHA-384 must be %d hexadecimal digits", 2*sha512.Size384)
	}
	if src.Path != "" {
		return checkPath(src.Class, src.Path)
	}
	return nil
}

// touch makes a change of the host, through s.Touch if that is set.
func (s *Store) touch(name string, change func() error) error {
	if s.Touch == nil {
		return change()
	}
	return s.Touch(name, change)
}
