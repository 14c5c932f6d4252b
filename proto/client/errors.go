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

	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
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

// Hint returns a sentence that says what to do about err, or "".
func Hint(err error) string {
	_, hint, _ := grpckind.FromError(err)
	return hint
}

// UpstreamName returns upstream's name of an error that a daemon has sent, which is empty if
// the daemon gave none. ok reports whether the error comes from a daemon.
func UpstreamName(err error) (name string, ok bool) {
	_, _, meta := grpckind.FromError(err)
	return meta[grpckind.MetaName], meta != nil
}

// Retriable reports whether the same call may succeed later without any other change,
// because something was unreachable, too slow, or busy. All other errors are permanent.
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

// A ConnectError reports that the client could not connect to the daemon.
type ConnectError struct {
	Target string
	err    error // with kind and hint
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect to tridentd at %s: %v", e.Target, e.err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// NewConnectError returns the *ConnectError, with its kind and hint, for err, with which a
// program that does without a Client has failed to connect to target.
func NewConnectError(target string, err error) error { return connectError(target, err) }

func connectError(target string, err error) error {
	kind, hint := errkind.Unavailable, "See the log of the daemon: journalctl -u tridentd"
	if known := errkind.Of(err); known != errkind.Internal {
		kind, hint = known, cmp.Or(errkind.Hint(err), hint)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind, hint = errkind.Denied, "Only root may use the socket: run it as root."
	case errors.Is(err, fs.ErrNotExist):
		hint = "There is no such socket. If Trident is installed, start it: systemctl enable --now tridentd.socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "No process listens on the socket. Start the socket again: systemctl restart tridentd.socket"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		kind, hint = errkind.Untrusted, "Trust the authority that signed the server's certificate: see WithTLS, or trident hosts add --ca."
	}
	return &ConnectError{target, errkind.WithHint(errkind.With(kind, err), "%s", hint)}
}

// connectErrors joins the errors of all endpoints of a host. It has the kind and the hint
// of the first retriable one, else of the first.
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

// An OperationError reports that an operation ended without success.
type OperationError struct {
	// Operation is nil if there was none: the daemon could not read the Host
	// Configuration, or keeps no operations.
	Operation *Operation
	// Trident is the failure in upstream's form; only verbs of Host set it.
	Trident *tridentv1.TridentError
}

func (e *OperationError) Error() string { return e.Unwrap().Error() }

// Stuck reports whether an undo failed too, so that a person has to look at the host.
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

// kindOf returns the kind of an error in upstream's form.
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

// A DetachedError reports that the caller's context ended before the operation. The
// operation continues.
type DetachedError struct {
	Operation string
	Sequence  uint64 // of the last event that was delivered
	// Uploading is true if the client had not sent the whole image: the operation then
	// fails and undoes its steps.
	Uploading bool
	cause     error
}

func (e *DetachedError) Error() string {
	return fmt.Sprintf("watch operation %s: %v", e.Operation, e.cause)
}

// Unwrap returns why the context ended.
func (e *DetachedError) Unwrap() error { return e.cause }

// statusError is a status whose text is only the daemon's message.
type statusError struct{ *status.Status }

func (e statusError) Error() string              { return e.Message() }
func (e statusError) GRPCStatus() *status.Status { return e.Status }

// explain returns the error of a call for people: the cause of a context that has ended,
// a ConnectError if the daemon did not answer, else the daemon's message.
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

// saidError is a status that the daemon sent, as opposed to one that our side made.
type saidError struct{ error }

func (e saidError) GRPCStatus() *status.Status { return status.Convert(e.error) }
func (e saidError) Unwrap() error              { return e.error }

// by marks err as sent by the daemon if the call has a trailer.
func by(trailer metadata.MD, err error) error {
	if err != nil && len(trailer) > 0 {
		return saidError{err}
	}
	return err
}

// lost reports whether the connection or the daemon ended during a call.
func lost(ctx context.Context, err error) bool {
	if _, connecting := errors.AsType[*ConnectError](err); connecting {
		return Kind(err) == KindUnavailable
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return Kind(err) != KindBusy
	case codes.Canceled: // by the other end
		return ctx.Err() == nil && errkind.Of(err) != errkind.Cancelled
	case codes.DeadlineExceeded: // the server has our deadline, and its clock may be faster
		end, ok := ctx.Deadline()
		return ok && time.Until(end) < time.Second
	}
	return false
}

// notBegun reports whether a call had no effect: the client did not send it, or the
// daemon refused it because the daemon is shutting down.
func notBegun(err error) bool {
	if _, connecting := errors.AsType[*ConnectError](err); connecting || unsent(err) {
		return true
	}
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.Unavailable && len(st.Details()) > 0 && !grpckind.IsReattach(err) && Kind(err) != KindBusy
}

// settled reports whether an operation will not continue by itself.
func settled(p operationsv1.Phase) bool {
	return p == operationsv1.Phase_PHASE_DONE || p == operationsv1.Phase_PHASE_UNDONE || p == operationsv1.Phase_PHASE_STUCK
}

// result returns the error of an ended operation, nil if it is done.
func result(op *Operation) error {
	if op.GetPhase() == operationsv1.Phase_PHASE_DONE {
		return nil
	}
	return &OperationError{Operation: op}
}
