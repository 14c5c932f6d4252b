// Package operation runs what changes a host: one operation at a time,
// journaled, resumed after a restart or a reboot, undone on failure, watched.
//
// An operation is a list of steps over one record. The journal is written
// before each step, so whatever dies, the daemon that comes after knows the step
// that may have been half done and runs it again. Hence the one rule for
// authors: Do and Undo must be safe to run twice, also after half of a Do.
//
//	Doing ──▶ Done
//	  │ ▲
//	  │ └───── waiting (for a restart or a reboot) ◀─┐
//	  ▼                                              │
//	Undoing ─────────────────────────────────────────┘
//	  ├──▶ Undone
//	  └──▶ Stuck  (an Undo failed: a person must look)
//
// A journal that refuses what is written (its disk is full) halts the operation where
// it is until it takes it; see Halt. A step in which the process ends again and again
// has failed; see tooOften.
//
// It is a list and not a graph because one host does one thing at a time, and a
// list can be read. The last step is the point of no return: until it is begun
// an operation can be cancelled.
package operation

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// A Step is one line of an operation.
type Step[S any] struct {
	// Name is shown to people and stored in the journal. It is never changed:
	// another version of Trident may have to carry on with it.
	Name string
	// Do makes the change. Nil means that the step exists for its Undo, and is passed
	// over on the way there.
	Do func(context.Context, *Run[S]) error
	// Undo takes Do back. Nil means that Do leaves nothing behind, and that the step
	// is passed over on the way back, unless it is the one that failed.
	Undo func(context.Context, *Run[S]) error
}

// A Kind is an operation that a runner can run and resume.
type Kind[S any] struct {
	Name  string
	Steps []Step[S]
}

// ErrRestart and ErrReboot are returned by a step that has asked for a restart
// of this process, or a reboot of the host. The step counts as finished in the
// next process, or in the next boot.
var (
	ErrRestart = errors.New("waiting for a restart")
	ErrReboot  = errors.New("waiting for a reboot")
)

// ErrDecided is what the Undo of the last step returns once nothing can be taken back
// any more: the operation is stuck there, and a Cancel of it does that step again.
var ErrDecided = errkind.With(errkind.Precondition, errors.New("it is decided, and is not taken back"))

// RequestReboot is what a step returns, in place of ErrReboot, whose reboot is still to
// be asked for. The runner calls ask once the journal says, and those who watch have
// been told, that the operation waits: a host that goes down tells nobody anything.
// When ask fails so has the step. When the runner stops before ask has worked, the
// step is run again by the next one in the same boot.
func RequestReboot(ask func(context.Context) error) error { return &rebootRequest{ask} }

type rebootRequest struct{ request func(context.Context) error }

func (*rebootRequest) Error() string { return ErrReboot.Error() }
func (*rebootRequest) Unwrap() error { return ErrReboot }

// Phase says where an operation stands.
type Phase string

// The phases. An operation ends Done, Undone or Stuck.
const (
	Doing   Phase = "doing"
	Undoing Phase = "undoing"
	Done    Phase = "done"
	Undone  Phase = "undone"
	Stuck   Phase = "stuck"
)

// Settled reports whether the operation will not move again by itself.
func (p Phase) Settled() bool { return p == Done || p == Undone || p == Stuck }

// Wait is what an operation waits for outside of itself.
type Wait string

// What there is to wait for; empty means nothing.
const (
	Restart Wait = "restart"
	Reboot  Wait = "reboot"
)

// A Failure is why an operation turned back.
type Failure struct {
	Kind    errkind.Kind `json:"kind"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
	// Name is upstream's name of the error, where it was given one.
	Name string `json:"name,omitempty"`
	// File and Line are where in our source it arose; see errkind.Location.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func failureOf(err error) *Failure {
	f := &Failure{Kind: errkind.Of(err), Message: err.Error(), Hint: errkind.Hint(err), Name: errkind.Variant(err)}
	f.File, f.Line = errkind.Location(err)
	return f
}

// Err is the failure as an error; nil for no failure.
func (f *Failure) Err() error {
	if f == nil {
		return nil
	}
	err := errkind.With(f.Kind, errors.New(f.Message))
	if f.Name != "" {
		err = errkind.WithName(err, f.Name)
	}
	if f.Hint != "" {
		err = errkind.WithHint(err, "%s", f.Hint)
	}
	return err
}

// An Operation is the journal's view of one operation. Fields are only ever
// added: the release before and the release after read it too.
type Operation struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	Summary string   `json:"summary"`
	Phase   Phase    `json:"phase"`
	Plan    []string `json:"plan"` // the names of the steps, in order
	Step    string   `json:"step"` // the step to do, or to undo, next
	// Reached is the step that failed or was cancelled.
	Reached string `json:"reached,omitempty"`
	Waiting Wait   `json:"waiting,omitempty"`
	// WaitID is the boot or process to leave behind.
	WaitID string `json:"wait_id,omitempty"`
	// RequestOwed: what is waited for is still to be asked for; see AskReboot.
	RequestOwed bool `json:"owed,omitempty"`
	Cancelled   bool `json:"cancelled,omitempty"`
	// Request is what the caller named its request; see WithRequest. Attached are
	// those that came to it later, the newest last.
	Request  string          `json:"request,omitempty"`
	Attached []string        `json:"attached,omitempty"`
	Failure  *Failure        `json:"failure,omitempty"`
	Created  time.Time       `json:"created"`
	Updated  time.Time       `json:"updated"`
	Sequence uint64          `json:"sequence"` // of the newest event
	State    json.RawMessage `json:"state"`
	// StepBegan is when Step was first begun, in this direction; zero when it was
	// begun by a version that did not write it down.
	StepBegan time.Time `json:"step_began,omitzero"`
	// Begins is how often Step was begun in this direction since it last got on, and
	// Stops how many of these ended because the daemon was asked to stop; see
	// tooOften. A record of a version that did not count has 0.
	Begins int `json:"begins,omitempty"`
	Stops  int `json:"stops,omitempty"`
	// Kept is how far Step has got that it will not go again; see Run.ProgressKept.
	Kept int64 `json:"kept,omitempty"`
	// Traceparent and RequestID are those of the call that began it; see Origin.
	Traceparent string `json:"traceparent,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
	// Halted is set while the operation does not go on; it is of this process only.
	Halted *Halt `json:"-"`
}

// StepState is where one step stands.
type StepState string

// The states of a step.
const (
	StepPending StepState = "pending"
	StepDoing   StepState = "doing"
	StepDone    StepState = "done"
	StepUndoing StepState = "undoing"
	StepUndone  StepState = "undone"
)

// StepStatus is one step of an operation and where it stands.
type StepStatus struct {
	Name  string
	State StepState
}

// Steps lists the operation's steps and where each stands.
func (o Operation) Steps() []StepStatus {
	at, reached := slices.Index(o.Plan, o.Step), slices.Index(o.Plan, o.Reached)
	out := make([]StepStatus, len(o.Plan))
	for i, name := range o.Plan {
		out[i] = StepStatus{name, o.stepState(i, at, reached)}
	}
	return out
}

// stepState is the state of step i when the operation is at one step and turned
// back at another.
func (o Operation) stepState(i, at, reached int) StepState {
	switch {
	case o.Phase == Done, o.Phase != Undone && i < at:
		return StepDone
	case o.Phase == Doing && i == at:
		return StepDoing
	case o.Phase == Doing, i > reached:
		return StepPending
	case o.Phase != Undone && i == at:
		return StepUndoing
	}
	return StepUndone
}

// EventType tells which fields of an Event count.
type EventType string

// The types of events.
const (
	Change   EventType = "change"   // Waiting, Failure
	Progress EventType = "progress" // Done, Total; Part and what is of it
	Log      EventType = "log"      // Level, Message, Attributes
	Metric   EventType = "metric"   // Name, Value, Unit
	Halting  EventType = "halt"     // Failure, why it is halted; nil: it goes on. Only Follow yields it.
)

// An Event is one thing that happened to an operation. Phase and Step are those
// after the event.
type Event struct {
	Operation string    `json:"-"`
	Sequence  uint64    `json:"-"` // from 1, without gaps
	Time      time.Time `json:"time"`
	Phase     Phase     `json:"phase"`
	Step      string    `json:"step"`
	Type      EventType `json:"type"`
	Waiting   Wait      `json:"waiting,omitempty"`
	Failure   *Failure  `json:"failure,omitempty"`
	Done      int64     `json:"done,omitempty"` // bytes
	Total     int64     `json:"total,omitempty"`
	// Part is what has moved of a step that works on several things; see ProgressPart.
	Part      string     `json:"part,omitempty"`
	PartDone  int64      `json:"part_done,omitempty"`
	PartTotal int64      `json:"part_total,omitempty"`
	Level     slog.Level `json:"level,omitempty"`
	Message   string     `json:"message,omitempty"`
	// Attributes are for programs; the message says it all to people.
	Attributes map[string]string `json:"attributes,omitempty"`
	Name       string            `json:"name,omitempty"`
	Value      float64           `json:"value,omitempty"`
	Unit       string            `json:"unit,omitempty"`
}

// A Journal keeps operations across restarts. Save is atomic and durable: the
// operation and its events are there after a power cut, or neither is. Load
// returns an error of kind NotFound when there is no such operation. List
// returns the newest first; Events those after a sequence number, in order.
type Journal interface {
	Save(ctx context.Context, op Operation, events ...Event) error
	Load(ctx context.Context, id string) (Operation, error)
	List(ctx context.Context, limit int, unsettled bool) ([]Operation, error)
	Events(ctx context.Context, id string, after uint64, limit int) ([]Event, error)
}
