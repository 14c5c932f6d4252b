package hoststate

import (
	"errors"

	"github.com/trident-project/trident/internal/errkind"
)

// damageError is an error about a datastore that is not as it was written. Its kind is
// Corrupt.
type damageError struct{ error }

func (e damageError) Unwrap() error { return e.error }

func damaged(err error) error { return damageError{errkind.With(errkind.Corrupt, err)} }

// newer is an error about a datastore that another version has written. Its kind is
// Incompatible.
type newer struct{ error }

func (e newer) Unwrap() error { return e.error }

// ForCallers returns an error of the datastore with the kind for callers of the API. To a
// caller, Corrupt and Incompatible mean a fault of an image. A fault of the datastore is
// one of the host: Internal, or Precondition if a newer Trident wrote the datastore.
func ForCallers(err error) error {
	if _, ok := errors.AsType[damageError](err); ok {
		return errkind.With(errkind.Internal, err)
	}
	if _, ok := errors.AsType[newer](err); ok {
		return errkind.With(errkind.Precondition, err)
	}
	return err
}
