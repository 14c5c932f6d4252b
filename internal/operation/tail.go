package operation

import (
	"sync"
	"time"
)

const (
	// tailLength is how many of an operation's newest events are held in memory.
	tailLength = 512
	// watchRate is how many events a second all watchers together get while an
	// operation runs: watchers must not slow the operation down.
	watchRate = 2_000
)

// A tail is the newest events of the newest operation, in memory. Watchers that
// keep up read events from the tail and touch neither the journal nor the runner's
// lock, which the operation needs.
type tail struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when anything happens
	id       string
	events   []Event // without gaps, the newest last
	sequence uint64  // of the newest
	settled  bool
	watchers int
	halting  *Event // the event for Follow while the operation is halted; else nil
	halts    uint64 // counts the changes of halting
}

// add appends journaled events and wakes the watchers.
func (t *tail) add(op Operation, events []Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id != op.ID {
		t.id, t.events, t.halting = op.ID, nil, nil
	}
	t.events = append(t.events, events...)
	if n := len(t.events) - tailLength; n > tailLength { // now and then, not each time
		t.events = append([]Event(nil), t.events[n:]...)
	}
	t.sequence, t.settled = op.Sequence, op.Phase.Settled()
	t.wake()
}

// halt records that the operation is halted, or with nil that it goes on, and
// wakes the watchers.
func (t *tail) halt(op Operation, h *Halt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id != op.ID { // resumed, and nothing was journaled since
		t.id, t.events, t.sequence, t.settled = op.ID, nil, op.Sequence, false
	}
	t.halting = nil
	if h != nil {
		e := newEvent(op, Halting)
		e.Time, e.Failure = h.Since, h.Cause
		t.halting = &e
	}
	t.halts++
	t.wake()
}

// haltEvent returns the halting event for a watcher that has seen upTo changes.
// wasHalted says that the last event of that watcher was a halt. count is the
// number of changes after the event; isNew says that there is an event.
func (t *tail) haltEvent(id string, upTo uint64, wasHalted bool) (e Event, count uint64, isNew bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.id != id || t.halts == upTo:
		return Event{}, upTo, false
	case t.halting != nil:
		return *t.halting, t.halts, true
	}
	return Event{Operation: id, Type: Halting}, t.halts, wasHalted
}

// broadcast wakes the watchers.
func (t *tail) broadcast() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake()
}

func (t *tail) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tail) change() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// eventsAfter returns the next events of an operation, and whether they are the
// last ones; ok is false if the tail does not have them.
func (t *tail) eventsAfter(id string, sequence uint64) (events []Event, end, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch missing := t.sequence - sequence; {
	case t.id != id || sequence > t.sequence || missing > uint64(len(t.events)):
		return nil, false, false
	default:
		from := len(t.events) - int(missing)
		to := min(len(t.events), from+watchBatch)
		return append([]Event(nil), t.events[from:to]...), to == len(t.events) && t.settled, true
	}
}

// watch counts a watcher until it calls leave.
func (t *tail) watch() (leave func()) {
	add := func(n int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.watchers += n
	}
	add(1)
	return func() { add(-1) }
}

// pause returns how long a watcher that got so many events has to wait for the
// next ones.
func (t *tail) pause(got int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settled {
		return 0
	}
	return time.Duration(got) * time.Duration(t.watchers) * time.Second / watchRate
}
