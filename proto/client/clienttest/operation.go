package clienttest

import (
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/errkind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

type operation struct {
	*operationsv1.Operation
	events        []*operationsv1.Event
	rest          []*operationsv1.Event // the events of the next boot
	callerReboots bool
	passed        uint64 // the last event that ended a daemon
	boot          uint64 // the last event before this boot
}

// start describes a call that begins an operation.
type start struct {
	kind, summary string
	source        *selfv1.Source
	next          func() ([]byte, error) // of an upload
	callerReboots bool
	config        *tridentv1.HostConfiguration
}

// begin adds an operation and plays its script, after the upload if that is the source.
// For a request name that it knows it returns the first operation.
func (s *Server) begin(stream grpc.ServerStream, what start) (*operation, error) {
	if s.config.Refuse != nil {
		return nil, s.config.Refuse
	}
	if given := metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRequest); len(given) > 1 || len(given) == 1 && (given[0] == "" || len(given[0]) > wire.MaxRequest) {
		return nil, invalid(wire.HeaderRequest, "%s must be there once, with 1 to %d bytes", wire.HeaderRequest, wire.MaxRequest)
	}
	if from, ok := what.source.GetFrom().(*selfv1.Source_ImageHandle); ok {
		if _, err := s.opened(stream.Context(), from.ImageHandle, handlesv1.ImageKind_IMAGE_KIND_TRIDENT); err != nil {
			return nil, errkind.WithField(err, "start.source.image_handle")
		}
	}
	request := s.requestOf(stream)
	s.mu.Lock()
	op, known := s.requests[request]
	s.mu.Unlock()
	if !known && len(metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRepeated)) > 0 {
		return nil, errkind.WithField(errkind.Errorf(errkind.NotFound, "no operation has this request ID"), wire.HeaderRequest)
	}
	if !known || request == "" {
		text, err := s.text(stream.Context(), what.config)
		if err != nil {
			return nil, err
		}
		op = s.enter(request, what, text)
	}
	s.mu.Lock()
	lose := s.config.LoseAnswers > 0
	if lose {
		s.config.LoseAnswers--
	}
	s.mu.Unlock()
	if lose {
		s.breakConnections()
		return nil, status.Error(codes.Unavailable, "the answer is lost")
	}
	return op, nil
}

// requestOf returns the method and the request name of a call, or "" without request-ids.
func (s *Server) requestOf(stream grpc.ServerStream) string {
	given := metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRequest)
	if len(given) != 1 || !s.can(wire.RequestIDs) {
		return ""
	}
	method, _ := grpc.MethodFromServerStream(stream)
	return method + " " + given[0]
}

// enter adds the operation of a request.
func (s *Server) enter(request string, what start, config string) *operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := &operation{callerReboots: what.callerReboots, Operation: &operationsv1.Operation{
		Id: "op-" + strconv.Itoa(len(s.operations)+1), Kind: what.kind, Summary: what.summary, CreateTime: timestamppb.Now(),
		Phase: operationsv1.Phase_PHASE_DOING,
	}}
	for _, name := range s.config.Steps {
		op.Steps = append(op.Steps, &operationsv1.Step{Name: name, State: operationsv1.StepState_STEP_STATE_PENDING})
	}
	s.operations = append(s.operations, op)
	s.requests[request] = op
	if what.config != nil {
		s.configs = append(s.configs, config)
	}
	if upload := what.source.GetUpload(); upload != nil {
		go s.receive(op, upload.GetSize(), what.next)
	} else {
		s.play(op, s.config.Script)
	}
	return op
}

// play adds events, up to one that waits for a reboot. The caller holds s.mu.
func (s *Server) play(op *operation, events []*operationsv1.Event) {
	for i, e := range events {
		s.add(op, proto.CloneOf(e))
		if e.GetChange().GetWaiting() == "reboot" {
			op.rest = events[i+1:]
			return
		}
	}
}

// add adds an event to an operation. The caller holds s.mu.
func (s *Server) add(op *operation, e *operationsv1.Event) {
	e.OperationId, e.Sequence = op.GetId(), uint64(len(op.events)+1)
	if e.Phase == 0 {
		e.Phase = operationsv1.Phase_PHASE_DOING
	}
	if e.Time == nil {
		e.Time = timestamppb.Now()
	}
	op.events = append(op.events, e)
	op.Waiting = e.GetChange().GetWaiting()
	op.Phase, op.Step, op.LastSequence, op.UpdateTime = e.GetPhase(), e.GetStep(), e.GetSequence(), e.GetTime()
	op.setSteps()
	if f := e.GetChange().GetFailure(); f != nil {
		op.Failure = f
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// setSteps sets the states of the steps by the phase and the step of the operation.
func (op *operation) setSteps() {
	at := slices.IndexFunc(op.Steps, func(s *operationsv1.Step) bool { return s.GetName() == op.GetStep() })
	for i, s := range op.Steps {
		switch phase := op.GetPhase(); {
		case phase == operationsv1.Phase_PHASE_DONE || phase == operationsv1.Phase_PHASE_DOING && i < at:
			s.State = operationsv1.StepState_STEP_STATE_DONE
		case phase == operationsv1.Phase_PHASE_DOING && i == at:
			s.State = operationsv1.StepState_STEP_STATE_DOING
		case phase == operationsv1.Phase_PHASE_UNDOING && i == at:
			s.State = operationsv1.StepState_STEP_STATE_UNDOING
		case phase == operationsv1.Phase_PHASE_UNDONE || phase == operationsv1.Phase_PHASE_UNDOING && i > at:
			if s.State != operationsv1.StepState_STEP_STATE_PENDING {
				s.State = operationsv1.StepState_STEP_STATE_UNDONE
			}
		}
	}
}

func (s *Server) find(id string) (*operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.operations {
		if op.GetId() == id {
			return op, nil
		}
	}
	return nil, errkind.Errorf(errkind.NotFound, "there is no operation %s", id)
}

// cancel ends an operation as undone, at once.
func (s *Server) cancel(op *operation) (*operationsv1.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended(op.GetPhase()) {
		return nil, errkind.Errorf(errkind.Precondition, "cancel operation %s: it has ended", op.GetId())
	}
	if s.cancels++; s.config.IgnoreCancel {
		return proto.CloneOf(op.Operation), nil
	}
	failure := &operationsv1.Failure{Reason: "CANCELLED", Message: op.GetSummary() + ": cancelled by request"}
	s.add(op, Step(operationsv1.Phase_PHASE_UNDOING, op.GetStep(), failure))
	s.add(op, Step(operationsv1.Phase_PHASE_UNDONE, op.GetStep(), failure))
	return proto.CloneOf(op.Operation), nil
}

func ended(p operationsv1.Phase) bool {
	return p == operationsv1.Phase_PHASE_DONE || p == operationsv1.Phase_PHASE_UNDONE || p == operationsv1.Phase_PHASE_STUCK
}
