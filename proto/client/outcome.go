package client

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/proto/errkind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// An Outcome is the result of servicing.
type Outcome struct {
	// Completed is the result in upstream's form: the kind of servicing, whether a reboot
	// is necessary or has begun, the hash of the image.
	Completed *Completed
	// Operation is nil if there was none: nothing to do, an unreadable configuration,
	// upstream's daemon. If the caller reboots, Watch follows it afterwards.
	Operation *Operation
}

// message returns a configuration for upstream's messages: its handle in a header of the
// context if the daemon has the capability for this method, else its text.
func (f *Config) message(ctx context.Context, l *link, capability string) (*tridentv1.HostConfiguration, context.Context, error) {
	handle, err := f.on(ctx, l, capability)
	if err != nil || handle == 0 {
		return &tridentv1.HostConfiguration{Config: f.Text}, ctx, err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderConfigHandle, strconv.FormatInt(handle, 10))
	return &tridentv1.HostConfiguration{}, ctx, nil
}

// service begins servicing and follows it to its end. The call's stream only begins it:
// the events come from the operation, which outlives the connection, and Completed from a
// repetition of the request.
func (h Host) service(ctx context.Context, how How, fn func(*Event), open func(context.Context, *link) (servicingStream, error)) (Outcome, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	r := h.c.request(func(ctx context.Context, l *link) (*call, error) {
		stream, err := open(ctx, l)
		if err != nil {
			return nil, err
		}
		return &call{ClientStream: stream}, nil
	})
	first, err := r.begin(inner)
	if err != nil {
		return Outcome{}, err
	}
	if first.id == "" {
		return h.alone(ctx, r, first, fn)
	}
	cancel() // the operation does not notice
	w := &watch{client: h.c, id: first.id, after: first.after, fn: fn, forgotten: how.forgotten}
	if how.CallerReboots || how.forgotten {
		w.enough = waitsForReboot
	}
	op, err := w.follow(ctx, nil)
	if op == nil {
		return Outcome{}, err
	}
	out := Outcome{Operation: op, Completed: h.completed(ctx, how, r, op)}
	return out, out.err()
}

// waitsForReboot reports whether the operation waits for a reboot, in a do or an undo.
func waitsForReboot(e *Event) bool { return e.GetChange().GetWaiting() == "reboot" }

// err returns nil for success.
func (o Outcome) err() error {
	if o.Completed.GetStatus() == tridentv1.StatusCode_STATUS_CODE_SUCCESS && !failed(o.Operation) {
		return nil
	}
	return &OperationError{Operation: o.Operation, Trident: o.Completed.GetError()}
}

func failed(op *Operation) bool {
	return settled(op.GetPhase()) && op.GetPhase() != operationsv1.Phase_PHASE_DONE
}

// completed returns the end of a request's operation in upstream's form.
func (h Host) completed(ctx context.Context, how How, r *request, op *Operation) *Completed {
	p := patience{most: h.c.callPatience}
	for {
		completed, err := h.again(ctx, r)
		if err == nil && completed != nil {
			return completed
		}
		if !lost(ctx, err) || !p.wait(ctx) {
			h.c.logger.DebugContext(ctx, "get the result of servicing", "operation", op.GetId(), "error", err)
			return endOf(op, how)
		}
	}
}

// again repeats the request. It returns nil if the daemon would begin another operation.
func (h Host) again(ctx context.Context, r *request) (*Completed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := h.c.link(ctx)
	if err != nil || !l.can(wire.RequestIDs) {
		return nil, err
	}
	call, err := r.attempt(metadata.AppendToOutgoingContext(ctx, wire.HeaderRepeated, "true"), l)
	if err != nil {
		return nil, err
	}
	return completedOf(call, nil)
}

// endOf derives Completed from the operation.
func endOf(op *Operation, how How) *Completed {
	if failed(op) {
		return &Completed{Status: tridentv1.StatusCode_STATUS_CODE_FAILURE, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED}
	}
	reboot := tridentv1.RebootStatus_REBOOT_NOT_REQUIRED
	switch {
	case op.GetWaiting() == "reboot" && how.CallerReboots:
		reboot = tridentv1.RebootStatus_REBOOT_REQUIRED
	case op.GetWaiting() == "reboot":
		reboot = tridentv1.RebootStatus_REBOOT_STARTED
	}
	return &Completed{Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: reboot}
}

// alone follows a call without an operation by its own stream.
func (h Host) alone(ctx context.Context, r *request, call *call, fn func(*Event)) (Outcome, error) {
	completed, err := completedOf(call, fn)
	if err != nil {
		if ctx.Err() != nil || lost(ctx, err) {
			err = errkind.WithHint(h.c.explain(ctx, err), "Servicing may continue: see the status of the host.")
			return Outcome{}, err
		}
		return Outcome{}, h.c.explain(ctx, err)
	}
	out := Outcome{Completed: completed}
	return out, out.err()
}

// completedOf reads the stream of a call to its end. It passes log lines to fn as events
// without an operation.
func completedOf(call *call, fn func(*Event)) (*Completed, error) {
	var completed *Completed
	for sequence := uint64(0); ; {
		m := &tridentv1.ServicingResponse{}
		err := call.RecvMsg(m)
		switch {
		case errors.Is(err, io.EOF) && completed != nil:
			return completed, nil
		case errors.Is(err, io.EOF):
			return nil, errkind.Errorf(errkind.Internal, "the daemon did not report how the operation ended")
		case err != nil:
			return nil, by(call.Trailer(), err)
		}
		if c := m.GetCompleted(); c != nil {
			completed = c
		}
		if line := m.GetLog(); line != nil && fn != nil {
			sequence++
			fn(eventOf(m, line, sequence))
		}
	}
}

// eventOf converts a log line of upstream's API.
func eventOf(m *tridentv1.ServicingResponse, line *tridentv1.Log, sequence uint64) *Event {
	severity := operationsv1.Severity_SEVERITY_DEBUG
	switch line.GetLevel() {
	case tridentv1.LogLevel_LOG_LEVEL_ERROR:
		severity = operationsv1.Severity_SEVERITY_ERROR
	case tridentv1.LogLevel_LOG_LEVEL_WARN:
		severity = operationsv1.Severity_SEVERITY_WARNING
	case tridentv1.LogLevel_LOG_LEVEL_INFO:
		severity = operationsv1.Severity_SEVERITY_INFO
	}
	return &Event{
		Sequence: sequence, Time: m.GetTimestamp(), Phase: operationsv1.Phase_PHASE_DOING, Step: line.GetModule(),
		Body: &operationsv1.Event_Log{Log: &operationsv1.LogLine{Severity: severity, Message: line.GetMessage()}},
	}
}
