// Package grpckind turns errors into gRPC statuses and back.
//
// One table has both directions, so that a kind is the same at the server and at the
// client. The server and the SDK must not import each other, so both import this package.
// It is apart from errkind, so that errkind needs no gRPC. A test of a program that uses the
// SDK makes the errors of a daemon in memory with it.
//
// A status has one google.rpc.ErrorInfo: reason is the kind, domain is Domain, metadata
// has the keys below. The status message is for people; the metadata's hint says what to
// do. An error about a field of the request also has a google.rpc.BadRequest.
package grpckind

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/proto/errkind"
)

// Domain is the domain of every ErrorInfo that Trident sends.
const Domain = "trident-project"

// The keys of an ErrorInfo's metadata.
const (
	MetaHint         = "hint"          // a sentence that says what to do
	MetaName         = "name"          // upstream's name of the error
	MetaOperation    = "operation_id"  // the operation that the error is about
	MetaSequence     = "last_sequence" // the last event that a stream sent before its Reattach
	MetaCapabilities = "capabilities"  // the capabilities that the daemon lacks, separated by commas
)

// reattach is the reason of a stream that ends because the daemon exits while its
// operation continues. It is not a kind, because nothing failed.
const reattach = "REATTACH"

// maxMessage is the largest status message, in bytes: a header has to hold it.
const maxMessage = 8 << 10

// row is one line of the table. If a code has several kinds, the first row is the kind of
// that code in a status that Trident did not send.
type row struct {
	kind errkind.Kind
	code codes.Code
}

func table() []row {
	return []row{
		{errkind.Internal, codes.Internal},
		{errkind.Internal, codes.Unknown},
		{errkind.Invalid, codes.InvalidArgument},
		{errkind.Invalid, codes.OutOfRange},
		{errkind.NotFound, codes.NotFound},
		{errkind.Exists, codes.AlreadyExists},
		{errkind.Precondition, codes.FailedPrecondition},
		{errkind.Incompatible, codes.FailedPrecondition},
		{errkind.Forbidden, codes.FailedPrecondition},
		{errkind.TooOld, codes.FailedPrecondition},
		{errkind.Blocked, codes.FailedPrecondition},
		{errkind.Untrusted, codes.FailedPrecondition},
		{errkind.TLS, codes.FailedPrecondition},
		{errkind.Corrupt, codes.DataLoss},
		{errkind.Busy, codes.Aborted},
		{errkind.Unhealthy, codes.Aborted},
		{errkind.Denied, codes.PermissionDenied},
		{errkind.Denied, codes.Unauthenticated},
		{errkind.TooLarge, codes.ResourceExhausted},
		{errkind.NoSpace, codes.ResourceExhausted},
		{errkind.Unavailable, codes.Unavailable},
		{errkind.Cancelled, codes.Canceled},
		{errkind.Timeout, codes.DeadlineExceeded},
		{errkind.Unsupported, codes.Unimplemented},
	}
}

// Code returns the gRPC code of a kind, and Internal for a kind that is not in the table.
func Code(kind errkind.Kind) codes.Code {
	for _, r := range table() {
		if r.kind == kind {
			return r.code
		}
	}
	return codes.Internal
}

// statusError is what status.Error returns.
type statusError interface {
	error
	GRPCStatus() *status.Status
}

// Error returns err as a status with its kind, its hint and the given metadata. It
// returns nil, and an error that is a status already, unchanged.
func Error(err error, meta map[string]string) error {
	return toStatus(err, meta, Code(kindOf(err)), "")
}

// UpstreamError is Error for upstream's services. An error with one of upstream's names
// has the code named, which is that of the name's category. A busy host is Unavailable,
// with upstream's words.
func UpstreamError(err error, named codes.Code, meta map[string]string) error {
	code, prefix := Code(kindOf(err)), ""
	switch {
	case kindOf(err) == errkind.Busy:
		code, prefix = codes.Unavailable, "Servicing is active: "
	case errkind.Name(err) != "":
		code = named
	}
	return toStatus(err, meta, code, prefix)
}

func toStatus(err error, meta map[string]string, code codes.Code, prefix string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[statusError](err); ok {
		return err
	}
	all := map[string]string{}
	maps.Copy(all, meta)
	for key, value := range map[string]string{MetaHint: errkind.Hint(err), MetaName: errkind.Name(err)} {
		if value != "" {
			all[key] = value
		}
	}
	st := withInfo(code, prefix+err.Error(), string(kindOf(err)), all)
	if field := errkind.Field(err); field != "" {
		violation := &errdetails.BadRequest_FieldViolation{Field: field, Description: st.Message()}
		if detailed, err := st.WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}}); err == nil {
			st = detailed
		}
	}
	return st.Err()
}

// Reattach returns the status of a stream whose daemon exits while the operation
// continues; last is the sequence number of the last event sent.
func Reattach(operation string, last uint64) error {
	return withInfo(codes.Unavailable, "tridentd exits, and operation "+operation+" continues: watch it again", reattach,
		map[string]string{MetaOperation: operation, MetaSequence: strconv.FormatUint(last, 10)}).Err()
}

// IsReattach reports whether err tells the caller to watch its operation again.
func IsReattach(err error) bool {
	info := infoOf(err)
	return info != nil && info.GetReason() == reattach
}

// FromError returns the kind, hint and metadata of a status. From a status that Trident
// did not send it uses only the code; for an error that is not a status, errkind.
func FromError(err error) (kind errkind.Kind, hint string, meta map[string]string) {
	st, ok := status.FromError(err)
	if !ok {
		return kindOf(err), errkind.Hint(err), nil
	}
	kind = fromCode(st.Code())
	info := infoOf(err)
	if info == nil {
		return kind, "", nil
	}
	for _, r := range table() {
		if string(r.kind) == info.GetReason() {
			kind = r.kind
		}
	}
	return kind, info.GetMetadata()[MetaHint], info.GetMetadata()
}

// kindOf is errkind.Of, but knows the errors of contexts, which have no kind.
func kindOf(err error) errkind.Kind {
	kind := errkind.Of(err)
	switch {
	case kind != errkind.Internal:
		return kind
	case errors.Is(err, context.Canceled):
		return errkind.Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return errkind.Timeout
	}
	return kind
}

func fromCode(code codes.Code) errkind.Kind {
	for _, r := range table() {
		if r.code == code {
			return r.kind
		}
	}
	return errkind.Internal
}

func withInfo(code codes.Code, message, reason string, meta map[string]string) *status.Status {
	for k, v := range meta {
		meta[k] = strings.ToValidUTF8(v, "?")
	}
	message = strings.ToValidUTF8(message, "?")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + " …"
	}
	st := status.New(code, message)
	info := &errdetails.ErrorInfo{Reason: reason, Domain: Domain, Metadata: meta}
	if detailed, err := st.WithDetails(info); err == nil {
		st = detailed
	}
	return st
}

func infoOf(err error) *errdetails.ErrorInfo {
	st, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info
		}
	}
	return nil
}
