// Package errkind has the kinds of errors, for the code of Trident's programs.
//
// The code that knows the cause of an error gives it a kind. Other code only wraps the
// error, and the edge reads the kind: the API turns it into a gRPC code and back, the CLI
// into an exit code. A new kind needs a caller that acts differently on it.
//
// Kinds, hints, fields and names of errors are on the wire, so they are those of
// proto/errkind, which the SDK has too. This package adds what only Trident's programs
// need: where an error was made, and what upstream calls it.
package errkind

import "github.com/trident-project/trident/proto/errkind"

// Kind says what a caller can do about an error.
type Kind = errkind.Kind

// The kinds, which proto/errkind explains. An error without a kind is Internal.
const (
	Internal     = errkind.Internal
	Invalid      = errkind.Invalid
	NotFound     = errkind.NotFound
	Exists       = errkind.Exists
	Precondition = errkind.Precondition
	Busy         = errkind.Busy
	Denied       = errkind.Denied
	Untrusted    = errkind.Untrusted
	Corrupt      = errkind.Corrupt
	Incompatible = errkind.Incompatible
	Forbidden    = errkind.Forbidden
	TooOld       = errkind.TooOld
	Blocked      = errkind.Blocked
	Unhealthy    = errkind.Unhealthy
	NoSpace      = errkind.NoSpace
	TooLarge     = errkind.TooLarge
	Unavailable  = errkind.Unavailable
	Cancelled    = errkind.Cancelled
	Timeout      = errkind.Timeout
	TLS          = errkind.TLS
	Unsupported  = errkind.Unsupported
)

// kindError is the place where an error got its kind.
type kindError struct {
	pc uintptr
	error
}

func (e *kindError) Unwrap() error { return e.error }

// Errorf returns fmt.Errorf's error with a kind.
func Errorf(kind Kind, format string, args ...any) error {
	return &kindError{caller(), errkind.Errorf(kind, format, args...)}
}

// With returns err with a kind and the same text. With(k, nil) is nil.
func With(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{caller(), errkind.With(kind, err)}
}

// Of returns the outermost kind in err's chain. Without one it returns NoSpace if the
// kernel reported that, which any write may cause, else Internal.
func Of(err error) Kind { return errkind.Of(err) }

// WithHint adds a sentence that says what to do about err. The text of err does not
// contain it; the edge shows it after the error. WithHint(nil, …) is nil.
func WithHint(err error, format string, args ...any) error {
	return errkind.WithHint(err, format, args...)
}

// Hint returns the outermost hint in err's chain, or "".
func Hint(err error) string { return errkind.Hint(err) }

// WithField adds the field of a request that err is about, as a path of field names
// joined by dots. WithField(nil, …) is nil.
func WithField(err error, field string) error { return errkind.WithField(err, field) }

// Field returns the outermost field in err's chain, or "".
func Field(err error) string { return errkind.Field(err) }
