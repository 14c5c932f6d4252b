package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/content"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// verified is an open image that has the SHA-384 of its source; only Store.verify makes one.
// As long as its state is the same, nobody has changed the bytes: so a process hashes an image
// once and compares it with its hash tree once, and does both again only after somebody has
// changed the file. A new process does both, because the disk may have lost a write when the
// power failed.
type verified struct {
	*os.File
	whole    io.ReaderAt // reads File
	state    regfile.State
	isIntact bool // this process has compared the bytes with the hash tree
}

// Verify loads the images of a change that was read from a journal.
func (s *Store) Verify(ctx context.Context, c Change) (Change, error) {
	var images []Image
	for _, e := range c.New {
		image, err := s.Load(ctx, e)
		if err != nil {
			return Change{}, err
		}
		images = append(images, image)
	}
	return Plan(c.Old, images)
}

func (s *Store) verifyAndRead(ctx context.Context, file string, src Source) (Image, error) {
	v, err := s.verify(ctx, file, src.SHA384)
	if err != nil {
		return Image{}, err
	}
	defer v.Close()
	return s.read(ctx, v, src)
}

// verify opens an image. It fails with errkind.Corrupt if the SHA-384 is not hash.
func (s *Store) verify(ctx context.Context, file, hash string) (verified, error) {
	f, err := openPlain(file)
	if err != nil {
		return verified{}, err
	}
	state, err := regfile.StateOf(f)
	v := verified{File: f, whole: f, state: state}
	if s.whole != nil {
		v.whole = s.whole(f)
	}
	known, ok := s.intact.Load(hash)
	v.isIntact = ok && known == state
	if err == nil && !v.isIntact {
		err = hashIs(ctx, io.NewSectionReader(v.whole, 0, math.MaxInt64), file, hash)
	}
	if err != nil {
		return verified{}, errors.Join(err, f.Close())
	}
	return v, nil
}

// unchanged fails if somebody has changed the file since verify opened it.
func (v verified) unchanged() error {
	if state, err := regfile.StateOf(v.File); err != nil || state != v.state {
		return errors.Join(errkind.Errorf(errkind.Corrupt, "another process changed the file %s while Trident verified it", v.Name()), err)
	}
	return nil
}

// read returns the Image of a verified file after all other checks.
func (s *Store) read(ctx context.Context, v verified, src Source) (Image, error) {
	host, err := hostinfo.Read(s.Root)
	if err != nil {
		return Image{}, err
	}
	found, err := inspect(ctx, v, src.Class, host, s.mounter())
	if err == nil && !found.isOwn() { // package selfservice checks an image of Trident
		err = s.checkFolders(v.File, src.Class, host.Architecture)
	}
	if err != nil {
		return Image{}, err
	}
	if v.unchanged() == nil {
		s.intact.Store(src.SHA384, v.state)
	}
	target, err := found.target(src.Class, src.Path)
	if err != nil {
		return Image{}, err
	}
	return Image{Extension{Class: src.Class, Path: target, SHA384: src.SHA384}, found}, nil
}

// checkFolders compares the folders of an image with those of the host.
func (s *Store) checkFolders(file *os.File, class Class, arch string) (err error) {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	v, err := volume.FindOnly(file, info.Size(), arch)
	if err != nil {
		return err
	}
	tree, err := v.Open(file, s.mounter())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	return content.CompareFolders(tree, s.Root, class.facts().merges...)
}

func (s *Store) mounter() volume.Mounter {
	if s.mount != nil {
		return s.mount
	}
	return volume.KernelMount
}

// openPlain opens a regular file and follows no link.
func openPlain(file string) (*os.File, error) {
	f, err := regfile.OpenPlain(file)
	if errkind.Of(err) == errkind.Invalid {
		err = errkind.With(errkind.Precondition, err)
	}
	return f, err
}

// checkHash hashes a file. It fails with errkind.Corrupt if the hash is not want.
func checkHash(ctx context.Context, file, want string) error {
	f, err := openPlain(file)
	if err != nil {
		return err
	}
	return errors.Join(hashIs(ctx, f, file, want), f.Close())
}

// hashIs is checkHash for an open file.
func hashIs(ctx context.Context, r io.Reader, file, want string) error {
	got, err := regfile.SHA384(ctx, r)
	if err != nil {
		return fmt.Errorf("hash %s: %w", file, err)
	}
	if got != want {
		return errkind.Errorf(errkind.Corrupt, "SHA-384 is %s, not %s", got, want)
	}
	return nil
}
