package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// Kind names what a caller can do about err, in the words that the API uses as
// the reason of an ErrorInfo and of a Failure: UNTRUSTED, BUSY, UNHEALTHY, …
// INTERNAL is what an error without a kind has, and "" is that of nil.
func Kind(err error) string {
	if err == nil {
		return ""
	}
	kind, _, _ := grpckind.FromError(err)
	return string(kind)
}

// Hint is a sentence on what to do about err; it may be empty.
func Hint(err error) string {
	_, hint, _ := grpckind.FromError(err)
	return hint
}

// Retriable says that the same call may succeed later without anything else
// being changed: the daemon could not be reached or was busy.
func Retriable(err error) bool {
	switch errkind.Kind(Kind(err)) {
	case errkind.Unavailable, errkind.Busy:
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
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind, hint = errkind.Denied, "Only root may use the socket: try it as root."
	case errors.Is(err, fs.ErrNotExist):
		hint = "There is no such socket. If Trident is installed, start it: systemctl enable --now tridentd.socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "Nobody listens there any more. Start the socket again: systemctl restart tridentd.socket"
	}
	return &ConnectError{target, errkind.WithHint(errkind.With(kind, err), "%s", hint)}
}

// An OperationError says that an operation ended, but not with success.
type OperationError struct {
	Operation *Operation
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
	if !ok {
		return err
	}
	if st.Code() == codes.Unavailable && len(st.Details()) == 0 { // not by the daemon
		c.mu.Lock()
		dialErr := c.dialErr
		c.mu.Unlock()
		if dialErr == nil {
			dialErr = errors.New("it does not answer: " + st.Message())
		}
		return connectError(c.target, dialErr)
	}
	return statusError{st}
}

// lost says that the connection, or the daemon, went away under a call.
func lost(ctx context.Context, err error) bool {
	switch status.Code(err) {
	case codes.Unavailable:
		return true
	case codes.Canceled: // by the other end
		return ctx.Err() == nil
	case codes.DeadlineExceeded: // gRPC tells our deadline to the other end, whose clock may be the faster
		end, ok := ctx.Deadline()
		return ok && time.Until(end) < time.Second
	}
	return false
}

// notBegun says that the daemon turned a call down because it is going away.
func notBegun(err error) bool {
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.Unavailable && len(st.Details()) > 0 && !grpckind.IsReattach(err)
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
	return &OperationError{op}
}
