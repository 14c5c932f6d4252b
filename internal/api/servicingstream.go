package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// servicer is what all of upstream's services that change a host have.
type servicer struct {
	host   Servicing
	runner *operation.Runner
}

type servicingStream = grpc.ServerStreamingServer[tridentv1.ServicingResponse]

// run begins an operation and shows it as upstream does (reference, 2.8):
// Started, then log lines, then Completed, which also tells of a failure. What
// keeps an operation from beginning at all ends the stream with a status
// instead: a request that cannot be, a busy host, what is not built.
func (s servicer) run(stream servicingStream, callerReboots bool, begin func(context.Context) (string, error)) error {
	id, err := once(stream, s.runner, begin)
	if err != nil && isRefusal(err) {
		return err
	}
	out := &projection{stream: stream, servicer: s, id: id, callerReboots: callerReboots}
	if err != nil || id == "" {
		return out.atOnce(err)
	}
	op, err := s.runner.Get(stream.Context(), id)
	if err != nil {
		return err
	}
	noteOperation(stream.Context(), id)
	if err := stream.SendHeader(metadata.Pairs(operationHeader, id)); err != nil {
		return err
	}
	if err := out.send(op.Created, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Started{Started: &tridentv1.Started{}}}); err != nil {
		return err
	}
	return out.follow()
}

// isRefusal tells what is no servicing error: it has nothing to do with what was
// asked for.
func isRefusal(err error) bool {
	switch errkind.Of(err) {
	case errkind.Busy, errkind.Unsupported, errkind.Denied, errkind.Cancelled:
		return true
	case errkind.Unavailable:
		return errors.Is(err, operation.ErrDetached)
	}
	return errkind.Field(err) != ""
}

// projection is one stream's view of an operation.
type projection struct {
	servicer
	stream        servicingStream
	id            string
	callerReboots bool
}

func (p *projection) send(at time.Time, m *tridentv1.ServicingResponse) error {
	m.Timestamp = timeToWire(at)
	return p.stream.Send(m)
}

func (p *projection) complete(at time.Time, c *tridentv1.Completed) error {
	return p.send(at, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Completed{Completed: c}})
}

// atOnce is the stream of an operation that never was.
func (p *projection) atOnce(err error) error {
	now := time.Now()
	if err := p.send(now, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Started{Started: &tridentv1.Started{}}}); err != nil {
		return err
	}
	if err != nil {
		return p.complete(now, failed(errorToWire(err)))
	}
	return p.complete(now, p.succeeded(servicing.Outcome{Kind: servicing.None}))
}

// follow sends the log of the operation and how it ended. All lines are in the
// journal before the end is, so none comes after Completed and none is lost.
func (p *projection) follow() error {
	before := operation.Event{Time: time.Now()}
	for e, err := range p.runner.Watch(p.stream.Context(), p.id, 0) {
		switch {
		case errors.Is(err, operation.ErrDetached):
			return grpckind.Reattach(p.id, before.Sequence)
		case err != nil:
			return err
		}
		if line := logToUpstream(e, before); line != nil {
			if err := p.send(e.Time, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Log{Log: line}}); err != nil {
				return err
			}
		}
		before = e
		// The caller's part ends here: nobody can watch through a reboot.
		if e.Waiting == operation.Reboot && e.Phase == operation.Doing && p.waitsAt(e) {
			break
		}
	}
	return p.end(before.Time)
}

// waitsAt tells a wait that goes on from one that a repeated request reads of.
func (p *projection) waitsAt(e operation.Event) bool {
	op, err := p.runner.Get(p.stream.Context(), p.id)
	return err == nil && op.Waiting == e.Waiting && op.Sequence == e.Sequence
}

func (p *projection) end(at time.Time) error {
	ctx := p.stream.Context()
	op, err := p.runner.Get(ctx, p.id)
	if err != nil {
		return err
	}
	if op.Failure != nil {
		return p.complete(at, failed(failureToUpstream(op.Failure)))
	}
	outcome, ok := p.host.Outcome(op)
	if !ok {
		return errkind.Errorf(errkind.Internal, "tell what came of operation %s: it is of the kind %q, which services no host", p.id, op.Kind)
	}
	if outcome.Failure != nil {
		return p.complete(at, failed(failureToUpstream(outcome.Failure)))
	}
	return p.complete(at, p.succeeded(outcome))
}

func failed(err *tridentv1.TridentError) *tridentv1.Completed {
	return &tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_FAILURE, Error: err, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED,
	}
}

func (p *projection) succeeded(o servicing.Outcome) *tridentv1.Completed {
	reboot := tridentv1.RebootStatus_REBOOT_NOT_REQUIRED
	switch {
	case o.RebootNeeded && p.callerReboots:
		reboot = tridentv1.RebootStatus_REBOOT_REQUIRED
	case o.RebootNeeded:
		reboot = tridentv1.RebootStatus_REBOOT_STARTED
	}
	return &tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: reboot, ServicingKind: kindToWire(o.Kind).Enum(),
	}
}
