package errkind

import "errors"

type fieldError struct {
	field string
	error
}

func (e *fieldError) Unwrap() error { return e.error }

// WithField adds the field of a request that err is about, as a path of field names
// joined by dots. WithField(nil, …) is nil.
func WithField(err error, field string) error {
	if err == nil {
		return nil
	}
	return &fieldError{field, err}
}

// Field returns the outermost field in err's chain, or "".
func Field(err error) string {
	if e, ok := errors.AsType[*fieldError](err); ok {
		return e.field
	}
	return ""
}
