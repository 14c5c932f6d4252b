package selfservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/rescue"
)

// An imageRecord is written when an image enters the store, beside the image in
// <version>.json. Other versions of Trident read it: add fields, never rename,
// remove or retype one.
type imageRecord struct {
	RootHash   string    `json:"root_hash"`
	Signer     string    `json:"signer"`      // the subject of the certificate
	VerifiedAt time.Time `json:"verified_at"` // the certificate was valid then
}

// maxImageRecord bounds a record, in bytes.
const maxImageRecord = 64 << 10

func (s *Service) recordPath(v string) string { return filepath.Join(s.dir, v+".json") }

// readImageRecord returns the record of an image in the store. It reports false
// for a missing or damaged record: the way back must not depend on the record.
func (s *Service) readImageRecord(v string) (imageRecord, bool) {
	rel, err := filepath.Rel(s.Root, s.recordPath(v))
	if err != nil {
		return imageRecord{}, false
	}
	data, err := inroot.FS(s.Root).ReadFile(rel, maxImageRecord)
	if err != nil {
		return imageRecord{}, false
	}
	var k imageRecord
	err = json.Unmarshal(data, &k)
	return k, err == nil && len(k.RootHash) == 64
}

// writeImageRecord writes the record of a verified image, unless the store has a
// record with the same root hash.
func (s *Service) writeImageRecord(i *image, at time.Time) error {
	v := i.release.Version
	if k, ok := s.readImageRecord(v); ok && k.RootHash == i.rootHash {
		return nil
	}
	return s.touch("record image", func() error {
		data, err := json.Marshal(imageRecord{RootHash: i.rootHash, Signer: i.verified.Signer(), VerifiedAt: at.UTC()})
		if err != nil {
			return err
		}
		if err := errors.Join(rescue.MoveFolderAside(s.recordPath(v)), atomicfile.Write(s.recordPath(v), append(data, '\n'), 0o600)); err != nil {
			return fmt.Errorf("write the record of the image of trident %s: %w", v, err)
		}
		return nil
	})
}

// checkRootHash compares the root hash of an image with the record of the image.
// It returns nil if there is no record: for an image outside of the store, or one
// that a release without records staged.
func (s *Service) checkRootHash(path, rootHash string) error {
	v := versionOfImage(path)
	if path != s.imagePath(v) {
		return nil
	}
	if k, ok := s.readImageRecord(v); ok && k.RootHash != rootHash {
		return errkind.WithHint(
			errkind.Errorf(errkind.Corrupt, "the image of trident %s in the store has the root hash %s, but the image that was verified on %s had the root hash %s", v, rootHash, k.VerifiedAt.UTC().Format(time.DateOnly), k.RootHash),
			"Stage the version again: trident self stage SOURCE")
	}
	return nil
}

// dateWarning returns a warning for the events of an operation if the certificate
// of a kept image is not valid at present, else "".
func (s *Service) dateWarning(i *image) string {
	if i.dateFault == nil {
		return ""
	}
	k, ok := s.readImageRecord(i.release.Version)
	if !ok || k.RootHash != i.rootHash {
		return fmt.Sprintf("the dates of the certificate do not count for an image that this host has kept: %v (there is no record of when it was verified)", i.dateFault)
	}
	return fmt.Sprintf("the dates of the certificate do not count for an image that was verified on %s: %v", k.VerifiedAt.UTC().Format(time.DateOnly), i.dateFault)
}

// checkActivatable fails if an image in the store cannot be activated.
func (s *Service) checkActivatable(ctx context.Context, v string) error {
	i, err := s.openVerified(ctx, s.imagePath(v), nil)
	if err != nil {
		return err
	}
	return i.Close()
}

// checkIntact fails if an image in the store is damaged, so that systemd could not
// merge it. It does not check the signature.
func (s *Service) checkIntact(ctx context.Context, v string) error {
	path := s.imagePath(v)
	f, err := regfile.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	state, err := regfile.StateOf(f)
	if err != nil || s.intactImage(path, state) != nil {
		return err
	}
	raw, err := ddi.Open(s.wholeImage(f), state.Size)
	if err == nil {
		err = raw.VerifyTree(ctx, nil)
	}
	if err == nil {
		s.intactImages.Store(path, intact{state: state})
	}
	return err
}

// removeImage deletes an image from the store, and then its record.
func (s *Service) removeImage(v string) error {
	return errors.Join(discard(s.imagePath(v)), discard(s.recordPath(v)))
}

// discard deletes a file of the store. A folder that is in its place is put aside.
func discard(path string) error {
	if err := rescue.MoveFolderAside(path); err != nil {
		return err
	}
	return atomicfile.Remove(path)
}
