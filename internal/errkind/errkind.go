// Package errkind names the kinds an error can have for a caller.
//
// A kind is attached once, at the point where it is known, and read once, at
// the edge: the API turns it into a gRPC code and back, the CLI into an exit
// code. In between an error is only wrapped. A new kind is added when a caller
// has to act differently on it, not before.
package errkind

import (
	"errors"
	"fmt"
	"syscall"
)

// Kind is what a caller can do about an error. The text of a kind is part of
// the API: it is the reason in the ErrorInfo of a status (see internal/api).
type Kind string

// The kinds. Internal is what an error without a kind has.
const (
	Internal     Kind = "INTERNAL"     // a fault of ours, or of the host
	Invalid      Kind = "INVALID"      // the request can never work as it is
	NotFound     Kind = "NOT_FOUND"    // the thing named is not there
	Exists       Kind = "EXISTS"       // what was asked for is already so
	Precondition Kind = "PRECONDITION" // the host is not in the state that this needs
	Busy         Kind = "BUSY"         // another operation is running
	Denied       Kind = "DENIED"       // the caller may not do this
	Untrusted    Kind = "UNTRUSTED"    // not signed, or not by a key that counts
	Corrupt      Kind = "CORRUPT"      // bytes do not match their hash, or no format that we know
	Incompatible Kind = "INCOMPATIBLE" // made for another host
	Forbidden    Kind = "FORBIDDEN"    // content that policy does not allow
	TooOld       Kind = "TOO_OLD"      // below the version floor
	Blocked      Kind = "BLOCKED"      // a version that failed here before
	Unhealthy    Kind = "UNHEALTHY"    // it was tried and did not prove itself
	NoSpace      Kind = "NO_SPACE"     // the disk is full
	TooLarge     Kind = "TOO_LARGE"    // over a limit of size or number
	Unavailable  Kind = "UNAVAILABLE"  // may work when tried again
	Cancelled    Kind = "CANCELLED"    // the caller asked to stop
	Timeout      Kind = "TIMEOUT"      // it took longer than allowed
	TLS          Kind = "TLS"          // no TLS connection to a server: its certificate, its protocol
	Unsupported  Kind = "UNSUPPORTED"  // this version of Trident cannot do it
)

// All lists every kind, for the tables that must not miss one.
func All() []Kind {
	return []Kind{
		Internal, Invalid, NotFound, Exists, Precondition, Busy, Denied, Untrusted, Corrupt, Incompatible,
		Forbidden, TooOld, Blocked, Unhealthy, NoSpace, TooLarge, Unavailable, Cancelled, Timeout, TLS, Unsupported,
	}
}

type kindError struct {
	kind Kind
	pc   uintptr
	error
}

func (e *kindError) Unwrap() error { return e.error }

type hintError struct {
	hint string
	error
}

func (e *hintError) Unwrap() error { return e.error }

// Errorf is fmt.Errorf with a kind.
func Errorf(kind Kind, format string, args ...any) error {
	return &kindError{kind, caller(), fmt.Errorf(format, args...)}
}

// With gives err a kind and leaves its text alone. With(k, nil) is nil.
func With(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{kind, caller(), err}
}

// Of returns the outermost kind in err's chain. One without a kind is NoSpace
// when the kernel said so, which any write may meet, and else Internal.
func Of(err error) Kind {
	if e, ok := errors.AsType[*kindError](err); ok {
		return e.kind
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return NoSpace
	}
	return Internal
}

// WithHint adds a sentence that says what to do about err. It is shown after
// the error, never in it. WithHint(nil, …) is nil.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{fmt.Sprintf(format, args...), err}
}

// Hint returns the outermost hint in err's chain, or "".
func Hint(err error) string {
	if e, ok := errors.AsType[*hintError](err); ok {
		return e.hint
	}
	return ""
}
