package images

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

// A record is written when an image enters the store, beside the image in
// <version>.json. Other versions of Trident read it: add fields, never rename,
// remove or retype one.
type record struct {
	RootHash   string    `json:"root_hash"`
	Signer     string    `json:"signer"`      // the subject of the certificate
	VerifiedAt time.Time `json:"verified_at"` // the certificate was valid then
	// Retired is when the image stopped being the one that a rollback returns to; zero for
	// every other image.
	Retired time.Time `json:"retired,omitzero"`
}

// maxRecord bounds a record, in bytes.
const maxRecord = 64 << 10

func (s *Store) recordPath(v string) string { return filepath.Join(s.dir(), v+".json") }

// readRecord returns the record of an image in the store. It reports false
// for a missing or damaged record: the way back must not depend on the record.
func (s *Store) readRecord(v string) (record, bool) {
	rel, err := filepath.Rel(s.Root, s.recordPath(v))
	if err != nil {
		return record{}, false
	}
	data, err := inroot.FS(s.Root).ReadFile(rel, maxRecord)
	if err != nil {
		return record{}, false
	}
	var k record
	err = json.Unmarshal(data, &k)
	return k, err == nil && len(k.RootHash) == 64
}

// writeRecord writes the record of a verified image, unless the store has a
// record with the same root hash. An image that was retired is a staged one again.
func (s *Store) writeRecord(i *Opened, at time.Time) error {
	v := i.Release.Version
	if k, ok := s.readRecord(v); ok && k.RootHash == i.RootHash && k.Retired.IsZero() {
		return nil
	}
	return s.Touch("record image", func() error {
		return s.replaceRecord(v, record{RootHash: i.RootHash, Signer: i.verified.Signer(), VerifiedAt: at.UTC()})
	})
}

func (s *Store) replaceRecord(v string, k record) error {
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := errors.Join(rescue.MoveFolderAside(s.recordPath(v)), atomicfile.Write(s.recordPath(v), append(data, '\n'), 0o600)); err != nil {
		return fmt.Errorf("write the record of the image of trident %s: %w", v, err)
	}
	return nil
}

// checkRootHash compares the root hash of an image with the record of the image.
// It returns nil if there is no record: for an image outside of the store, or one
// that a release without records staged.
func (s *Store) checkRootHash(path, rootHash string) error {
	v := VersionOf(path)
	if path != s.Path(v) {
		return nil
	}
	if k, ok := s.readRecord(v); ok && k.RootHash != rootHash {
		return errkind.WithHint(
			errkind.Errorf(errkind.Corrupt, "the image of trident %s in the store has the root hash %s, but the image that was verified on %s had the root hash %s", v, rootHash, k.VerifiedAt.UTC().Format(time.DateOnly), k.RootHash),
			"Stage the version again: trident self stage SOURCE")
	}
	return nil
}

// DateWarning returns a warning for the events of an operation if the certificate
// of a kept image is not valid at present, else "".
func (s *Store) DateWarning(i *Opened) string {
	if i.dateFault == nil {
		return ""
	}
	k, ok := s.readRecord(i.Release.Version)
	if !ok || k.RootHash != i.RootHash {
		return fmt.Sprintf("the dates of the certificate do not count for an image that this host has kept: %v (there is no record of when it was verified)", i.dateFault)
	}
	return fmt.Sprintf("the dates of the certificate do not count for an image that was verified on %s: %v", k.VerifiedAt.UTC().Format(time.DateOnly), i.dateFault)
}

// CheckActivatable fails if an image in the store cannot be activated.
func (s *Store) CheckActivatable(ctx context.Context, v string) error {
	i, err := s.OpenVerified(ctx, s.Path(v), nil)
	if err != nil {
		return err
	}
	return i.Close()
}

// CheckIntact fails if an image in the store is damaged, so that systemd could not
// merge it. It does not check the signature.
func (s *Store) CheckIntact(ctx context.Context, v string) error {
	path := s.Path(v)
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
		s.intact.Store(path, intact{state: state})
	}
	return err
}

// Remove deletes an image from the store, and then its record.
func (s *Store) Remove(v string) error {
	return errors.Join(discard(s.Path(v)), discard(s.recordPath(v)))
}

// discard deletes a file of the store. A folder that is in its place is put aside.
func discard(path string) error {
	if err := rescue.MoveFolderAside(path); err != nil {
		return err
	}
	return atomicfile.Remove(path)
}
