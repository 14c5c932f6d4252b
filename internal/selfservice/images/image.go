package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/trust"
)

// An Opened is an open, verified image of Trident. Only openImage makes one.
type Opened struct {
	verified trust.Verified[*ddi.Image]
	file     *os.File
	state    regfile.State // of file, when the verification began
	Files    extension.Tree
	Release  extension.Release
	RootHash string
	arch     ddi.Arch
	// dateFault says that the certificate of a kept image is not valid at present;
	// nil if it is valid.
	dateFault error
}

// Close closes the image.
func (i *Opened) Close() error {
	if i.Files == nil {
		return i.file.Close()
	}
	return errors.Join(i.Files.Close(), i.file.Close())
}

// OpenNew opens an image that is to enter the store. It fails unless the image is
// intact, is signed for Trident by a certificate that is valid at the time at, is
// an image of Trident for this host, and contains nothing that an image of Trident
// must not contain.
func (s *Store) OpenNew(ctx context.Context, path string, at time.Time, progress func(done, total int64)) (*Opened, error) {
	return s.openImage(path, func(i *Opened, raw *ddi.Image, policy trust.Policy) (err error) {
		i.verified, err = policy.Verify(ctx, raw, at, progress)
		return err
	})
}

// OpenVerified opens an image that this host has verified before: an image in the
// store, or one that a previous configuration of this host had. It checks the same
// as OpenNew, but for the dates of the certificate, which counted when the image
// came, and compares the root hash with the record of that time.
//
// A process reads all blocks of an image once, and again only after somebody has changed
// the file. So an upgrade reads them when the image comes, in verify, and in prove, because
// prove runs in the next process, possibly after a power cut.
func (s *Store) OpenVerified(ctx context.Context, path string, progress func(done, total int64)) (*Opened, error) {
	i, err := s.openImage(path, func(i *Opened, raw *ddi.Image, policy trust.Policy) (err error) {
		if err := s.checkRootHash(path, i.RootHash); err != nil {
			return err
		}
		if before := s.intactImage(path, i.state); before != nil {
			if _, ok := before.verified.Value(); ok {
				i.verified, i.dateFault, err = policy.VerifyAgain(before.verified, raw, s.Now())
				return err
			}
		}
		i.verified, i.dateFault, err = policy.VerifyKept(ctx, raw, s.Now(), progress)
		return err
	})
	if err == nil && i.isUnchanged() {
		s.intact.Store(path, intact{i.state, i.verified})
	}
	return i, err
}

// intact is what this process knows of an image of which it has compared all blocks with
// the root hash.
type intact struct {
	state    regfile.State              // of the file
	verified trust.Verified[*ddi.Image] // the zero value if the signature was not checked
}

// intactImage returns what this process knows of the image at path in its present state,
// or nil.
func (s *Store) intactImage(path string, state regfile.State) *intact {
	if known, ok := s.intact.Load(path); ok {
		if k := known.(intact); k.state == state {
			return &k
		}
	}
	return nil
}

func (s *Store) wholeImage(f *os.File) io.ReaderAt {
	if s.Whole != nil {
		return s.Whole(f)
	}
	return f
}

// isUnchanged reports whether nobody has changed the file since the verification began.
func (i *Opened) isUnchanged() bool {
	state, err := regfile.StateOf(i.file)
	return err == nil && state == i.state
}

func (s *Store) openImage(path string, verify func(*Opened, *ddi.Image, trust.Policy) error) (_ *Opened, err error) {
	f, err := regfile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	i := &Opened{file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Close())
		}
	}()
	state, err := regfile.StateOf(f)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	raw, err := ddi.Open(s.wholeImage(f), state.Size)
	if err != nil {
		return nil, err
	}
	policy, err := trust.Load(s.Root)
	if err != nil {
		return nil, err
	}
	i.state, i.RootHash, i.arch = state, ddi.HashString(raw.RootHash()), raw.Arch()
	if err := verify(i, raw, policy); err != nil {
		return nil, err
	}
	if i.Files, err = extension.OpenTree(raw, f); err != nil { // the image is verified, so the kernel may mount it
		return nil, fmt.Errorf("read image: %w", err)
	}
	if i.Release, err = extension.ReadRelease(i.Files, extension.Own); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	if err := s.checkOurs(i); err != nil {
		return nil, err
	}
	if _, err := extension.CheckImage(raw, i.Files); err != nil {
		return nil, fmt.Errorf("check image: %w", err)
	}
	return i, nil
}

// checkOurs fails if an image is not for this host.
func (s *Store) checkOurs(i *Opened) error {
	host, err := hostinfo.Read(s.Root)
	if err != nil {
		return err
	}
	if err := i.Release.Fits(host); err != nil {
		return err
	}
	// systemd falls back to partitions of another architecture if the image has none
	// of the host's.
	if string(i.arch) != host.Architecture {
		return errkind.Errorf(errkind.Incompatible, "the partitions of the image are for the architecture %q, but the architecture of this host is %q", i.arch, host.Architecture)
	}
	return nil
}

// Publish records a verified image, and renames it from part to its name in the store. at is
// when the certificate of the image was valid.
func (s *Store) Publish(i *Opened, part string, at time.Time) error {
	path := s.Path(i.Release.Version)
	// The record comes first, so that every image in the store has one.
	if err := s.writeRecord(i, at); err != nil {
		return err
	}
	if !i.isUnchanged() {
		return errkind.Errorf(errkind.Corrupt, "another process changed the image while Trident verified it")
	}
	return s.Touch("publish", func() error {
		if err := os.Chmod(part, 0o444); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := errors.Join(rescue.MoveFolderAside(path), os.Rename(part, path)); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := atomicfile.SyncDir(s.dir()); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if state, err := regfile.StateOf(i.file); err == nil { // its mode and name have changed
			s.intact.Store(path, intact{state, i.verified})
		}
		return fetch.Remove(part) // its side file
	})
}

// LinkVerified points the extension link to the image of version v, which must be
// verified.
func (s *Store) LinkVerified(i *Opened, v string) error {
	if _, ok := i.verified.Value(); !ok {
		return errkind.Errorf(errkind.Untrusted, "the image of trident %s is not verified", v)
	}
	return s.SetLink(s.LinkTo(v))
}

// SetLink points the extension link to link. It checks no image: the way back must
// work even if the previous image would no longer be trusted.
func (s *Store) SetLink(link string) error {
	if err := s.MakeFolder(filepath.Dir(rescue.Link)); err != nil {
		return fmt.Errorf("set the extension link: %w", err)
	}
	return rescue.SystemHost{Root: s.Root, Out: io.Discard}.SetLink(link)
}

// CheckMerged fails unless /usr shows the content of the image: its release file
// and its daemon, byte by byte.
func (s *Store) CheckMerged(i *Opened) error {
	names, err := extension.Sysext.Merged(s.Root)
	if err != nil {
		return err
	}
	if !slices.Contains(names, extension.Own) {
		return errkind.Errorf(errkind.Internal, "systemd has merged the extensions, but not the image of trident (merged extensions: %s)", strings.Join(names, ", "))
	}
	for _, path := range []string{extension.OwnRelease, extension.OwnDaemon} {
		want, err := sum(i.Files, path)
		if err != nil {
			return fmt.Errorf("read %s of the image: %w", path, err)
		}
		got, err := sum(inroot.FS(s.Root), path)
		if err != nil {
			return fmt.Errorf("read merged %s: %w", path, err)
		}
		if got != want {
			return errkind.Errorf(errkind.Internal, "systemd has merged another image: /%s differs from the file of the verified image", path)
		}
	}
	return nil
}

func sum(fsys fs.FS, path string) (out [sha256.Size]byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return out, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), errors.Join(err, f.Close())
}

// MergedVersion returns the version of the extension that is merged, or "" if none
// is.
func (s *Store) MergedVersion() (string, error) {
	names, err := extension.Sysext.Merged(s.Root)
	if err != nil || !slices.Contains(names, extension.Own) {
		return "", err
	}
	r, err := extension.ReadRelease(inroot.FS(s.Root), extension.Own)
	return r.Version, err
}

// VersionOf returns the version in the name of an image in the store.
func VersionOf(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".raw")
}
