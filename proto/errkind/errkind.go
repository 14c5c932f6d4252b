// Package errkind has the kinds of errors, as they are on the wire.
//
// The code that knows the cause of an error gives it a kind. Other code only wraps the
// error, and a program reads the kind where it decides what to do. The package grpckind
// turns such an error into a gRPC status and back. A new kind needs a caller that acts
// differently on it.
package errkind

import (
	"errors"
	"fmt"
	"syscall"
)

// Kind says what a caller can do about an error. Its text is part of the API: the reason
// in the ErrorInfo of a status (see errkind/grpckind).
type Kind string

// The kinds. An error without a kind is Internal.
const (
	Internal     Kind = "INTERNAL"     // a fault of Trident, or of the host
	Invalid      Kind = "INVALID"      // the request can never work as it is
	NotFound     Kind = "NOT_FOUND"    // the named thing does not exist
	Exists       Kind = "EXISTS"       // the host has the requested state already
	Precondition Kind = "PRECONDITION" // the host is not in the state that the request needs
	Busy         Kind = "BUSY"         // another operation is running
	Denied       Kind = "DENIED"       // the caller may not do this
	Untrusted    Kind = "UNTRUSTED"    // not signed, or not by a trusted key
	Corrupt      Kind = "CORRUPT"      // bytes do not match their hash or a known format
	Incompatible Kind = "INCOMPATIBLE" // made for another host
	Forbidden    Kind = "FORBIDDEN"    // the policy does not permit the content
	TooOld       Kind = "TOO_OLD"      // the version is below the lowest that is permitted
	Blocked      Kind = "BLOCKED"      // the version failed on this host before
	Unhealthy    Kind = "UNHEALTHY"    // a version or system was tried and did not prove itself
	NoSpace      Kind = "NO_SPACE"     // the disk is full
	TooLarge     Kind = "TOO_LARGE"    // over a limit of size or number
	Unavailable  Kind = "UNAVAILABLE"  // a repetition may succeed
	Cancelled    Kind = "CANCELLED"    // the caller asked to stop
	Timeout      Kind = "TIMEOUT"      // it took longer than allowed
	TLS          Kind = "TLS"          // no TLS connection to a server: bad certificate or protocol
	Unsupported  Kind = "UNSUPPORTED"  // this version of Trident cannot do it
)

type kindError struct {
	kind Kind
	error
}

func (e *kindError) Unwrap() error { return e.error }

type hintError struct {
	hint string
	error
}

func (e *hintError) Unwrap() error { return e.error }

type nameError struct {
	name string
	error
}

func (e *nameError) Unwrap() error { return e.error }

// Errorf returns fmt.Errorf's error with a kind.
func Errorf(kind Kind, format string, args ...any) error {
	return &kindError{kind, fmt.Errorf(format, args...)}
}

// With returns err with a kind and the same text. With(k, nil) is nil.
func With(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{kind, err}
}

// Of returns the outermost kind in err's chain. Without one it returns NoSpace if the
// kernel reported that, which any write may cause, else Internal.
func Of(err error) Kind {
	if e, ok := errors.AsType[*kindError](err); ok {
		return e.kind
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return NoSpace
	}
	return Internal
}

// WithHint adds a sentence that says what to do about err. The text of err does not
// contain it; the edge shows it after the error. WithHint(nil, …) is nil.
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

// WithName adds upstream's name of an error (RunPostConfigureScript). Text and kind do not
// change. WithName(nil, …) is nil.
func WithName(err error, name string) error {
	if err == nil {
		return nil
	}
	return &nameError{name, err}
}

// Name returns the outermost name in err's chain, or "".
func Name(err error) string {
	if e, ok := errors.AsType[*nameError](err); ok {
		return e.name
	}
	return ""
}
