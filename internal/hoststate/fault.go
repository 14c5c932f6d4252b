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

// ForCallers returns err with the kind that callers of this host get. To them Corrupt
// and Incompatible say that an image is at fault; where the datastore is, it is the
// host: Internal, or Precondition for one that a newer Trident has written.
func ForCallers(err error) error {
	if _, ok := errors.AsType[damageError](err); ok {
		return errkind.With(errkind.Internal, err)
	}
	if _, ok := errors.AsType[newer](err); ok {
		return errkind.With(errkind.Precondition, err)
	}
	return err
}
