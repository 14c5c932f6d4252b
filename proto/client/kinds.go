package client

import "github.com/trident-project/trident/proto/errkind"

// An ErrorKind says what a caller can do about an error. Its text is the reason of an
// ErrorInfo and of a Failure in the API. docs/errors.md explains each kind.
type ErrorKind = errkind.Kind

// The kinds of errors. A later daemon may send others: treat a kind that a program
// does not know as KindInternal.
const (
	KindInternal     = errkind.Internal     // a fault of Trident or of the host; also an error without a kind
	KindInvalid      = errkind.Invalid      // the request can never succeed as it is
	KindNotFound     = errkind.NotFound     // the named thing does not exist
	KindExists       = errkind.Exists       // the host has the requested state already
	KindPrecondition = errkind.Precondition // the host is not in the state that the call needs
	KindBusy         = errkind.Busy         // another operation is running
	KindDenied       = errkind.Denied       // the caller lacks the right
	KindUntrusted    = errkind.Untrusted    // not signed, or not by a trusted key
	KindCorrupt      = errkind.Corrupt      // bytes do not match their hash or their format
	KindIncompatible = errkind.Incompatible // the image is made for another host
	KindForbidden    = errkind.Forbidden    // the policy does not allow the content
	KindTooOld       = errkind.TooOld       // the version is below the lowest one that is allowed
	KindBlocked      = errkind.Blocked      // the version failed on this host before
	KindUnhealthy    = errkind.Unhealthy    // a version or system was tried and did not prove itself
	KindNoSpace      = errkind.NoSpace      // the disk is full
	KindTooLarge     = errkind.TooLarge     // over a limit of size or number
	KindUnavailable  = errkind.Unavailable  // the same call may succeed when repeated
	KindCancelled    = errkind.Cancelled    // a client cancelled the call or the operation
	KindTimeout      = errkind.Timeout      // it took longer than allowed
	KindTLS          = errkind.TLS          // no TLS connection to a server
	KindUnsupported  = errkind.Unsupported  // this version of Trident cannot do it
)
