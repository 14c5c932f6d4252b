package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/handles"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// servicer has what upstream's services that change a host share.
type servicer struct {
	host    changer
	results reporter
	runner  *operation.Runner
	handles *handles.Table
	parser  *parser
}

type servicingStream = grpc.ServerStreamingServer[tridentv1.ServicingResponse]

// run begins an operation and streams it. begin gets whether the caller reboots the host.
func (s servicer) run(stream servicingStream, reboot *tridentv1.RebootManagement, begin func(ctx context.Context, callerReboots bool) (string, error)) error {
	callerReboots, err := rebootFromWire(reboot)
	if err != nil {
		return err
	}
	p := &projection{servicer: s, stream: stream, callerReboots: callerReboots}
	return p.run(func(ctx context.Context) (string, error) { return begin(ctx, callerReboots) })
}

// isRefusal reports whether err refuses the request itself, so that the call ends with a
// status instead of a servicing error.
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
	// commit is set for Commit. If the booted system is to be rolled back, the host needs
	// one more reboot. That is not a failure yet: the caller has to reboot or let Trident
	// do so. Commit in the next boot returns the failure.
	commit bool
}

// run begins an operation and streams it as upstream does: Started, then log lines, then
// Completed, which also has a failure. If no operation begins because the request is not
// valid, the host is busy, or the method is not built, it returns a status instead.
func (p *projection) run(begin func(context.Context) (string, error)) error {
	id, err := once(p.stream, p.runner, begin)
	if err != nil && isRefusal(err) {
		return err
	}
	if err != nil || id == "" {
		return p.atOnce(err)
	}
	ctx := p.stream.Context()
	p.id = id
	op, err := p.runner.Get(ctx, id)
	if err != nil {
		return err
	}
	noteOperation(ctx, id)
	header, after := metadata.Pairs(wire.HeaderOperation, id), uint64(0)
	if p.commit {
		if after, err = p.boot(op); err != nil {
			return err
		}
		header.Set(wire.HeaderAfter, strconv.FormatUint(after, 10))
	}
	if err := p.stream.SendHeader(header); err != nil {
		return err
	}
	if err := p.send(op.Created, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Started{Started: &tridentv1.Started{}}}); err != nil {
		return err
	}
	return p.follow(after)
}

// boot returns the sequence number of the event with which the operation went into the
// current boot; 0 if it began in this boot.
func (p *projection) boot(op operation.Operation) (uint64, error) {
	after := uint64(0)
	for e, err := range p.runner.Watch(p.stream.Context(), op.ID, 0) {
		switch {
		case errors.Is(err, operation.ErrDetached):
			return 0, grpckind.Reattach(op.ID, 0)
		case err != nil:
			return 0, err
		case e.Waiting == operation.Reboot && (e.Sequence < op.Sequence || op.Waiting == ""):
			after = e.Sequence
		}
		if e.Sequence >= op.Sequence {
			break
		}
	}
	return after, nil
}

func (p *projection) send(at time.Time, m *tridentv1.ServicingResponse) error {
	m.Timestamp = timeToWire(at)
	return p.stream.Send(m)
}

func (p *projection) complete(at time.Time, c *tridentv1.Completed) error {
	return p.send(at, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Completed{Completed: c}})
}

// atOnce sends the whole stream of a request without an operation.
func (p *projection) atOnce(err error) error {
	now := time.Now()
	if err := p.send(now, &tridentv1.ServicingResponse{Response: &tridentv1.ServicingResponse_Started{Started: &tridentv1.Started{}}}); err != nil {
		return err
	}
	if err != nil {
		return p.complete(now, failed(errorToWire(err)))
	}
	return p.complete(now, p.succeeded(servicing.Outcome{Kind: servicing.None, ImageSHA384: p.results.ImageSHA384(p.stream.Context())}))
}

// follow sends the log of the operation and its result. The journal has all log lines
// before the end, so none follows Completed and none is lost.
func (p *projection) follow(after uint64) error {
	before := operation.Event{Time: time.Now(), Sequence: after}
	for e, err := range p.runner.Follow(p.stream.Context(), p.id, after) {
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
		if e.Type == operation.Halting {
			continue
		}
		before = e
		// The stream ends before a reboot, through which nobody can watch.
		if e.Waiting != operation.Reboot {
			continue
		}
		waits, err := p.waitsAt(e)
		if errors.Is(err, operation.ErrDetached) {
			return grpckind.Reattach(p.id, before.Sequence)
		}
		if err != nil {
			return err
		}
		if waits {
			break
		}
	}
	return p.end(before.Time)
}

// waitsAt reports whether the operation still waits at event e. It does not if a repeated
// request reads of an earlier wait, or if the reboot could not be requested.
func (p *projection) waitsAt(e operation.Event) (bool, error) {
	op, err := p.runner.AwaitRequest(p.stream.Context(), p.id)
	return op.Waiting == e.Waiting && op.Sequence == e.Sequence, err
}

func (p *projection) end(at time.Time) error {
	ctx := p.stream.Context()
	op, err := p.runner.Get(ctx, p.id)
	if err != nil {
		return err
	}
	going := p.commit && op.Waiting == operation.Reboot
	if op.Failure != nil && !going {
		return p.complete(at, failed(failureToUpstream(op.Failure)))
	}
	outcome, ok := p.results.Outcome(op)
	if !ok {
		return errkind.Errorf(errkind.Internal, "get the result of operation %s: its kind %q does not service a host", p.id, op.Kind)
	}
	if outcome.Failure != nil && !going {
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
		Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: reboot, ImageHash: imageHashToWire(o.ImageSHA384),
		ServicingKind: kindToWire(o.Kind).Enum(),
	}
}
