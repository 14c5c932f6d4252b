package control

import (
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/machine/logs"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type logServer struct {
	machinev1.UnimplementedLogServiceServer
	logs   *logs.Service
	events *logs.Events
}

func (s *logServer) Journal(req *machinev1.JournalRequest, stream grpc.ServerStreamingServer[machinev1.JournalResponse]) error {
	q := logs.Query{
		Units: req.GetUnits(), MaxPriority: req.MaxPriority, Since: timeFromWire(req.GetSince()), Until: timeFromWire(req.GetUntil()), Boot: req.GetBoot(), Grep: req.GetGrep(),
		After: req.GetAfterCursor(), Tail: req.GetTail(), Follow: req.GetFollow(), AllFields: req.GetAllFields(),
	}
	return s.logs.Journal(stream.Context(), q, func(batch []logs.Entry) error {
		out := &machinev1.JournalResponse{}
		for _, e := range batch {
			out.Entries = append(out.Entries, entryToWire(e))
		}
		return stream.Send(out)
	})
}

// timeFromWire returns the zero time for nil.
func timeFromWire(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func entryToWire(e logs.Entry) *machinev1.JournalEntry {
	if e.Omitted > 0 {
		return &machinev1.JournalEntry{OmittedBytes: e.Omitted}
	}
	out := &machinev1.JournalEntry{
		Cursor: e.Cursor, Time: stamp(e.Time), Monotonic: durationpb.New(e.Monotonic), BootId: e.BootID, Unit: e.Unit, Identifier: e.Identifier, Pid: e.PID, Priority: e.Priority,
	}
	if utf8.Valid(e.Message) {
		out.Message = string(e.Message)
	} else {
		out.MessageBytes = e.Message
	}
	for _, f := range e.Fields {
		out.Fields = append(out.Fields, &machinev1.JournalField{Name: f.Name, Value: f.Value})
	}
	return out
}

func (s *logServer) Dmesg(req *machinev1.DmesgRequest, stream grpc.ServerStreamingServer[machinev1.DmesgResponse]) error {
	q := logs.KernelQuery{Tail: req.GetTail(), After: req.AfterSequence, Follow: req.GetFollow()}
	return s.logs.Kernel(stream.Context(), q, func(batch []logs.Record) error {
		out := &machinev1.DmesgResponse{}
		for _, r := range batch {
			out.Records = append(out.Records, &machinev1.KernelRecord{
				Sequence: r.Sequence, SinceBoot: durationpb.New(r.SinceBoot), Time: stamp(r.Time), Priority: r.Priority, Facility: r.Facility, Message: text(r.Message), Lost: r.Lost,
			})
		}
		return stream.Send(out)
	})
}

func (s *logServer) Events(req *machinev1.EventsRequest, stream grpc.ServerStreamingServer[machinev1.EventsResponse]) error {
	return s.logs.Events(stream.Context(), s.events, req.GetStreamId(), req.GetAfterSequence(), req.GetFollow(), func(e logs.Event, isLost bool) error {
		return stream.Send(&machinev1.EventsResponse{StreamId: s.events.ID, Lost: isLost, Event: &machinev1.HostEvent{
			Sequence: e.Sequence, Time: stamp(e.Time), Kind: machinev1.HostEventKind(e.Kind), Subject: text(e.Subject), Text: text(e.Text),
		}})
	})
}
