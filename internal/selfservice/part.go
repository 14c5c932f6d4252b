package selfservice

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// Record is what an upgrade knows. It is exported as a part of the record of an
// operation that has an upgrade as a part of it; nobody else looks into it.
type Record = record

// Steps is an upgrade, for an operation that has one as a part of it (see
// operation.Sub): in this order, the last one as the operation's own point of no
// return, and over a record that FromFile made.
func (s *Service) Steps() []operation.Step[Record] { return s.steps() }

// NewFileRecord is the record of an upgrade to the image in a file of the host, which
// the first steps copy and verify. Back allows the version to be an older or a
// blocked one.
func (s *Service) NewFileRecord(path string, back bool) (Record, error) {
	r, err := s.newRecord(Trial{AllowDowngrade: back, AllowReadOnlyUsr: true})
	r.Source.Path, r.Back = path, back
	return r, err
}

// CheckFile verifies the image in a file of the host as an upgrade would, and
// changes nothing. Active says that its version is the one that runs, so that
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
	r.Version, r.RootHash = image.release.Version, image.rootHash
	if r.Version == s.Version {
		return r.Version, true, nil
	}
	err = s.checkVersion(ctx, r)
	if errkind.Of(err) == errkind.Exists { // active, though another one runs: by an operation that went wrong
		err = errkind.With(errkind.Precondition, err)
	}
	return r.Version, false, err
}
