// Package operation runs the operations that change a host: one at a time,
// journaled, resumed after a restart or a reboot, undone on failure, watched.
//
// An operation is a list of steps over one record. The runner writes the journal
// before each step, so that after a crash the next daemon knows the step that may
// be half done, and runs it again. Hence the one rule for authors: Do and Undo
// must be safe to run twice, also after half of a Do.
//
//	Doing ──▶ Done
//	  │ ▲
//	  │ └───── waiting (for a restart, a reboot, a person) ◀─┐
//	  ▼                                                      │
//	Undoing ─────────────────────────────────────────────────┘
//	  ├──▶ Undone
//	  └──▶ Stuck  (an Undo failed: a person must act)
//
// If the disk of the journal refuses writes, the operation is halted until the
// disk accepts them; see Halt. A step in which the process ends again and again
// has failed; see tooManyBegins.
//
// The steps are a list and not a graph, because one host does one thing at a time,
// and a person can read a list. The last step is the point of no return: an
// operation can be cancelled until that step begins.
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

// A Step is one step of an operation.
type Step[S any] struct {
	// Name is shown to people and stored in the journal. It never changes: another
	// version of Trident may resume the operation.
	Name string
	// Do makes the change. Nil means that the step exists for its Undo; the runner
	// skips the step on the way forward.
	Do func(context.Context, *Run[S]) error
	// Undo reverses Do. Nil means that Do changes nothing that lasts; the runner
	// skips the step on the way back, unless it is the step that failed.
	Undo func(context.Context, *Run[S]) error
}

// A Kind is an operation that a runner can run and resume.
type Kind[S any] struct {
	Name  string
	Steps []Step[S]
}

// A step returns ErrRestart or ErrReboot when it has requested a restart of this
// process, or a reboot of the host. The step is finished in the next process, or
// in the next boot.
var (
	ErrRestart = errors.New("waiting for a restart")
	ErrReboot  = errors.New("waiting for a reboot")
)

// ErrDecided is returned by the Undo of the last step once nothing can be undone
// any more. The operation is stuck then, and Cancel runs the last step again.
var ErrDecided = errkind.With(errkind.Precondition, errors.New("the verdict is given and cannot be undone"))

// RequestReboot is returned by a step, in place of ErrReboot, to have the runner
// request the reboot. The runner calls request after it has journaled that the
// operation waits, and has told the watchers, because a host that reboots sends no more
// events. If request fails, the step has failed. If the runner stops before request has
// worked, the next runner in the same boot runs the step again.
func RequestReboot(ask func(context.Context) error) error { return &rebootRequest{ask} }

type rebootRequest struct{ request func(context.Context) error }

func (*rebootRequest) Error() string { return ErrReboot.Error() }
func (*rebootRequest) Unwrap() error { return ErrReboot }

// A Phase is the phase of an operation.
type Phase string

// The phases. An operation ends Done, Undone or Stuck.
const (
	Doing   Phase = "doing"
	Undoing Phase = "undoing"
	Done    Phase = "done"
	Undone  Phase = "undone"
	Stuck   Phase = "stuck"
)

// Settled reports whether the operation is over, or is stuck until a person acts.
func (p Phase) Settled() bool { return p == Done || p == Undone || p == Stuck }

// A Wait is an event outside of the operation that the operation waits for.
type Wait string

// The events that an operation can wait for; empty means none.
const (
	Restart Wait = "restart"
	Reboot  Wait = "reboot"
	// Continue is a call of [Runner.Continue]: the operation is paused.
	Continue Wait = "continue"
)

// A Failure says why an operation turned back.
type Failure struct {
	Kind    errkind.Kind `json:"kind"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
	// Name is upstream's name of the error, if the error has one.
	Name string `json:"name,omitempty"`
	// File and Line are the place in Trident's source; see errkind.Location.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func failureOf(err error) *Failure {
	f := &Failure{Kind: errkind.Of(err), Message: err.Error(), Hint: errkind.Hint(err), Name: errkind.Variant(err)}
	f.File, f.Line = errkind.Location(err)
	return f
}

// Err returns the failure as an error; nil for no failure.
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

// An Operation is one operation as the journal has it. Other versions read it: add
// fields, never rename, remove or retype one.
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
	// WaitID is the ID of the boot or process that has to end.
	WaitID string `json:"wait_id,omitempty"`
	// PauseBefore is the step before which the operation pauses; see WithPause. While the
	// operation is paused, Step is the last step that was done: a version that does not
	// know of pauses goes on with the next step.
	PauseBefore string `json:"pause_before,omitempty"`
	// RequestOwed says that the runner has yet to request the reboot; see
	// RequestReboot.
	RequestOwed bool `json:"owed,omitempty"`
	Cancelled   bool `json:"cancelled,omitempty"`
	// Request is the name that the caller gave its request; see WithRequest.
	// Attached are later requests that were answered with this operation, the newest
	// last.
	Request  string          `json:"request,omitempty"`
	Attached []string        `json:"attached,omitempty"`
	Failure  *Failure        `json:"failure,omitempty"`
	Created  time.Time       `json:"created"`
	Updated  time.Time       `json:"updated"`
	Sequence uint64          `json:"sequence"` // of the newest event
	State    json.RawMessage `json:"state"`
	// StepBegan is when Step first began in this direction; zero if an older version
	// began it.
	StepBegan time.Time `json:"step_began,omitzero"`
	// Begins is how often Step began in this direction since it last advanced. Stops
	// is how many of these attempts ended because the daemon was asked to stop; see
	// tooManyBegins. Both are 0 in records of older versions.
	Begins int `json:"begins,omitempty"`
	Stops  int `json:"stops,omitempty"`
	// Kept is how many bytes of Step are done for good; see Run.ProgressKept.
	Kept int64 `json:"kept,omitempty"`
	// Traceparent and RequestID are those of the call that began the operation; see
	// Origin.
	Traceparent string `json:"traceparent,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
	// AskedBy is the remote identity that asked for the operation; see WithAskedBy.
	AskedBy string `json:"asked_by,omitempty"`
	// Halted is set while the operation is halted. Only this process knows it.
	Halted *Halt `json:"-"`
}

// A StepState is the state of one step.
type StepState string

// The states of a step.
const (
	StepPending StepState = "pending"
	StepDoing   StepState = "doing"
	StepDone    StepState = "done"
	StepUndoing StepState = "undoing"
	StepUndone  StepState = "undone"
)

// A StepStatus is one step of an operation and its state.
type StepStatus struct {
	Name  string
	State StepState
}

// Steps lists the operation's steps and their states.
func (o Operation) Steps() []StepStatus {
	at, reached := slices.Index(o.Plan, o.Step), slices.Index(o.Plan, o.Reached)
	out := make([]StepStatus, len(o.Plan))
	for i, name := range o.Plan {
		out[i] = StepStatus{name, o.stepState(i, at, reached)}
	}
	return out
}

// stepState returns the state of step i. at is the index of the current step,
// reached that of the step at which the operation turned back.
func (o Operation) stepState(i, at, reached int) StepState {
	switch {
	case o.Phase == Done, o.Phase != Undone && i < at, o.Waiting == Continue && i == at:
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

// An EventType says which fields of an Event count.
type EventType string

// The types of events. Each comment lists the fields of Event that the type fills.
const (
	Change   EventType = "change"   // Waiting, Failure
	Progress EventType = "progress" // Done, Total; Part, PartDone, PartTotal
	Log      EventType = "log"      // Level, Message, Attributes
	Metric   EventType = "metric"   // Name, Value, Unit
	Halting  EventType = "halt"     // Failure: why the operation is halted, or nil if it continues; only Follow yields it
)

// An Event is one event of an operation. Phase and Step are those after the event.
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
	// Part is the name of the part that has advanced; see ProgressPart.
	Part      string     `json:"part,omitempty"`
	PartDone  int64      `json:"part_done,omitempty"`
	PartTotal int64      `json:"part_total,omitempty"`
	Level     slog.Level `json:"level,omitempty"`
	Message   string     `json:"message,omitempty"`
	// Attributes are for programs; Message is complete without them.
	Attributes map[string]string `json:"attributes,omitempty"`
	Name       string            `json:"name,omitempty"`
	Value      float64           `json:"value,omitempty"`
	Unit       string            `json:"unit,omitempty"`
}

// A Journal stores operations across restarts. Save is atomic and durable: after a
// power cut the journal has the operation and its events, or neither. Load returns
// an error of kind NotFound if there is no such operation. List returns the newest
// operations first; Events returns those after a sequence number, in order.
type Journal interface {
	Save(ctx context.Context, op Operation, events ...Event) error
	Load(ctx context.Context, id string) (Operation, error)
	List(ctx context.Context, limit int, unsettled bool) ([]Operation, error)
	Events(ctx context.Context, id string, after uint64, limit int) ([]Event, error)
}
