package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// Kind returns the kind of err: KindInternal for an error without a kind, "" for nil.
func Kind(err error) ErrorKind {
	if err == nil {
		return ""
	}
	kind, _, _ := grpckind.FromError(err)
	return kind
}

// Hint is a sentence on what to do about err; it may be empty.
func Hint(err error) string {
	_, hint, _ := grpckind.FromError(err)
	return hint
}

// Retriable says that the same call may succeed later without anything else
// being changed: something could not be reached, took too long, or was busy. All
// other errors are permanent.
func Retriable(err error) bool {
	if failed, ok := errors.AsType[*OperationError](err); ok && failed.Stuck() {
		return false
	}
	switch Kind(err) {
	case KindUnavailable, KindBusy, KindTimeout:
		return true
	}
	return false
}

// A ConnectError says that the daemon could not be reached.
type ConnectError struct {
	Target string
	err    error // with kind and hint
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect to tridentd at %s: %v", e.Target, e.err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

func connectError(target string, err error) error {
	kind, hint := errkind.Unavailable, "Look at what the daemon says: journalctl -u tridentd"
	if known := errkind.Of(err); known != errkind.Internal {
		kind, hint = known, cmp.Or(errkind.Hint(err), hint)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind, hint = errkind.Denied, "Only root may use the socket: run it as root."
	case errors.Is(err, fs.ErrNotExist):
		hint = "There is no such socket. If Trident is installed, start it: systemctl enable --now tridentd.socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "Nobody listens there any more. Start the socket again: systemctl restart tridentd.socket"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		kind, hint = errkind.Untrusted, "Trust the authority that signed the server's certificate: see WithTLS."
	}
	return &ConnectError{target, errkind.WithHint(errkind.With(kind, err), "%s", hint)}
}

// connectErrors is that of several ways to one host, of which none works. It is
// worth another attempt if that is true of one of them.
func connectErrors(targets string, faults []error) error {
	worst := faults[0]
	for _, f := range faults {
		if Retriable(f) {
			worst = f
			break
		}
	}
	err := errkind.With(Kind(worst), errors.Join(faults...))
	return &ConnectError{targets, errkind.WithHint(err, "%s", Hint(worst))}
}

// An OperationError says that an operation ended, but not with success.
type OperationError struct {
	// Operation is nil where there was none to begin with: a Host Configuration
	// that cannot be read, or a daemon that keeps no operations.
	Operation *Operation
	// Trident is the failure in upstream's words; only verbs of Host have it.
	Trident *tridentv1.TridentError
}

func (e *OperationError) Error() string { return e.Unwrap().Error() }

// Stuck reports that what the operation did could not be taken back either: a
// person has to look at the host, whatever the failure was.
func (e *OperationError) Stuck() bool {
	return e.Operation.GetPhase() == operationsv1.Phase_PHASE_STUCK
}

// Unwrap returns the operation's failure.
func (e *OperationError) Unwrap() error {
	f := e.Operation.GetFailure()
	if f == nil && e.Trident != nil {
		text := strings.TrimSpace(cmp.Or(e.Trident.GetMessage(), e.Trident.GetErrorMessage(), e.Trident.GetSubkind()))
		// Trident's daemon puts the hint, which is one line, below the error.
		about, hint, ok := strings.Cut(text, "\n")
		if ok = ok && about == e.Trident.GetErrorMessage() && hint != "" && !strings.Contains(hint, "\n"); ok {
			text = about
		}
		err := errkind.With(kindOf(e.Trident.GetKind()), errors.New(text))
		if ok {
			err = errkind.WithHint(err, "%s", hint)
		}
		return err
	}
	kind, message := errkind.Kind(f.GetReason()), f.GetMessage()
	if f.GetReason() == "" {
		kind = errkind.Internal
	}
	if message == "" {
		message = fmt.Sprintf("operation %s ended as %s and does not say why", e.Operation.GetId(), e.Operation.GetPhase())
	}
	err := errkind.With(kind, errors.New(message))
	if f.GetHint() != "" {
		err = errkind.WithHint(err, "%s", f.GetHint())
	}
	return err
}

// kindOf is what a caller can do about an error of upstream's.
func kindOf(k tridentv1.TridentErrorKind) errkind.Kind {
	switch k {
	case tridentv1.TridentErrorKind_EXECUTION_ENVIRONMENT_MISCONFIGURATION_ERROR, tridentv1.TridentErrorKind_INITIALIZATION_ERROR:
		return errkind.Precondition
	case tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR:
		return errkind.Unhealthy
	case tridentv1.TridentErrorKind_INVALID_INPUT_ERROR:
		return errkind.Invalid
	case tridentv1.TridentErrorKind_UNSUPPORTED_CONFIGURATION_ERROR:
		return errkind.Unsupported
	}
	return errkind.Internal
}

// A DetachedError says that the caller's context ended before the operation,
// which goes on.
type DetachedError struct {
	Operation string
	Sequence  uint64 // of the last event that was delivered
	// Uploading is true if the image was not sent whole. The operation will
	// notice and take back what it did.
	Uploading bool
	cause     error
}

func (e *DetachedError) Error() string {
	return fmt.Sprintf("watch operation %s: %v", e.Operation, e.cause)
}

// Unwrap returns why the context ended.
func (e *DetachedError) Unwrap() error { return e.cause }

// statusError is a status whose text is only what the daemon said.
type statusError struct{ *status.Status }

func (e statusError) Error() string              { return e.Message() }
func (e statusError) GRPCStatus() *status.Status { return e.Status }

// explain makes the error of a call one for people.
func (c *Client) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	st, ok := status.FromError(err)
	if _, connecting := errors.AsType[*ConnectError](err); connecting || !ok {
		return err
	}
	if _, said := errors.AsType[saidError](err); !said && st.Code() == codes.Unavailable && len(st.Details()) == 0 {
		return connectError(c.target, errors.New("it does not answer: "+st.Message()))
	}
	return statusError{st}
}

// saidError is a status that came from the daemon, and not from our own side of
// the connection.
type saidError struct{ error }

func (e saidError) GRPCStatus() *status.Status { return status.Convert(e.error) }
func (e saidError) Unwrap() error              { return e.error }

// by marks an error whose call has a trailer: somebody has answered.
func by(trailer metadata.MD, err error) error {
	if err != nil && len(trailer) > 0 {
		return saidError{err}
	}
	return err
}

// lost says that the connection, or the daemon, went away under a call.
func lost(ctx context.Context, err error) bool {
	if _, connecting := errors.AsType[*ConnectError](err); connecting {
		return Kind(err) == KindUnavailable
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return Kind(err) != KindBusy
	case codes.Canceled: // by the other end
		return ctx.Err() == nil && errkind.Of(err) != errkind.Cancelled
	case codes.DeadlineExceeded: // gRPC tells our deadline to the other end, whose clock may be the faster
		end, ok := ctx.Deadline()
		return ok && time.Until(end) < time.Second
	}
	return false
}

// notBegun says that a call did nothing: it was not sent, or the daemon turned it
// down because it is going away.
func notBegun(err error) bool {
	if _, connecting := errors.AsType[*ConnectError](err); connecting || unsent(err) {
		return true
	}
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.Unavailable && len(st.Details()) > 0 && !grpckind.IsReattach(err) && Kind(err) != KindBusy
}

// settled says that an operation will not move again by itself.
func settled(p operationsv1.Phase) bool {
	return p == operationsv1.Phase_PHASE_DONE || p == operationsv1.Phase_PHASE_UNDONE || p == operationsv1.Phase_PHASE_STUCK
}

// result is the error that belongs to the end of an operation.
func result(op *Operation) error {
	if op.GetPhase() == operationsv1.Phase_PHASE_DONE {
		return nil
	}
	return &OperationError{Operation: op}
}
