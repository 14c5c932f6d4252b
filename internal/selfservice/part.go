package selfservice

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// Record is the state of an upgrade. It is exported so that another operation can
// embed it in its own record (see operation.Sub); no other package reads its
// fields.
type Record = record

// Steps returns the steps of an upgrade for an operation that contains one (see
// operation.Sub). The operation runs them in this order over a record of
// NewFileRecord, the last one as its own point of no return.
func (s *Service) Steps() []operation.Step[Record] { return s.steps() }

// NewFileRecord returns the record of an upgrade to the image at path on the host,
// which the first steps copy and verify. With back, the version may be older than
// the running one, or blocked.
func (s *Service) NewFileRecord(path string, back bool) (Record, error) {
	r, err := s.newRecord(Trial{AllowDowngrade: back, AllowReadOnlyUsr: true})
	r.Source.Path, r.Back = path, back
	return r, err
}

// CheckFile verifies the image at path on the host as an upgrade would, and
// changes nothing. active says that the image has the running version, so that
// there is nothing to upgrade.
func (s *Service) CheckFile(ctx context.Context, path string, back bool) (version string, active bool, err error) {
	r, err := s.NewFileRecord(path, back)
	if err != nil {
		return "", false, err
	}
	image, err := s.openFor(ctx, r, filepath.Join(s.Root, path), nil)
	if err != nil {
		return "", false, fmt.Errorf("check image of trident: %w", err)
	}
	defer image.Close()
	r.Version, r.RootHash = image.Release.Version, image.RootHash
	if r.Version == s.Version {
		return r.Version, true, nil
	}
	err = s.checkVersion(ctx, r)
	if errkind.Of(err) == errkind.Exists { // the version is active but another one runs, after an operation that failed
		err = errkind.With(errkind.Precondition, err)
	}
	return r.Version, false, err
}
