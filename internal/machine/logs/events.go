package logs

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// maxEvents is how many events a daemon remembers.
const maxEvents = 1024

// EventKind says what happened.
type EventKind int

// The kinds of events, as in trident.machine.v1.HostEventKind.
const (
	Booted EventKind = iota + 1
	OperationChanged
	UnitFailed
	Mounted
	Unmounted
	Blind // some kind of event cannot be watched
)

// An Event is something that happened on the host.
type Event struct {
	Sequence uint64 // from 1, without gaps
	Time     time.Time
	Kind     EventKind
	Subject  string // a boot ID, the ID of an operation, a unit, a mount point
	Text     string
}

// Events remembers the last 1024 events of this daemon.
type Events struct {
	// ID identifies this daemon among those whose events have the same numbers.
	ID string

	mu      sync.Mutex
	ring    []Event
	last    uint64
	changed chan struct{} // closed by the next event
	// operation is the last one with an event, and the text of the event.
	operation [2]string
	watch     func(ctx context.Context, ready func())
	once      sync.Once
	begun     chan struct{} // closed when the watch has begun
	beginTime time.Duration // how long events wait for that
	life      context.Context
}

// beginTime is how long systemd may take until the watch of its units has begun.
const beginTime = 5 * time.Second

// NewEvents returns the events of a host that booted at a time. The first call of Send begins
// to watch the host, by calling watch with life; watch calls ready when it misses nothing any more.
func NewEvents(life context.Context, bootID string, booted time.Time, watch func(ctx context.Context, ready func())) *Events {
	e := &Events{ID: rand.Text(), changed: make(chan struct{}), watch: watch, begun: make(chan struct{}), beginTime: beginTime, life: life}
	e.Add(Event{Time: booted, Kind: Booted, Subject: bootID})
	return e
}

// Add gives an event its number, and its time if it has none. It never waits.
func (e *Events) Add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	event.Sequence = e.last
	if event.Time.IsZero() {
		event.Time = time.Now()
	}
	if len(e.ring) == maxEvents {
		copy(e.ring, e.ring[1:])
		e.ring = e.ring[:maxEvents-1]
	}
	e.ring = append(e.ring, event)
	close(e.changed)
	e.changed = make(chan struct{})
}

// Operation adds an event for an operation, unless its last event has the same text.
func (e *Events) Operation(id, text string) {
	e.mu.Lock()
	isNew := e.operation != [2]string{id, text}
	e.operation = [2]string{id, text}
	e.mu.Unlock()
	if isNew {
		e.Add(Event{Kind: OperationChanged, Subject: id, Text: text})
	}
}

// after returns the events after a number, whether events between are forgotten, and a channel
// that is closed by the next event.
func (e *Events) after(number uint64) (events []Event, isLost bool, changed <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	oldest := e.last - uint64(len(e.ring)) + 1
	begin := min(max(number+1, oldest), e.last+1)
	return append(events, e.ring[begin-oldest:]...), number+1 < oldest, e.changed
}

// Send gives the events after a number to send, until the last one or, with follow, the end of
// ctx. isLost says that events before that one are forgotten. id is the ID of the Events that
// had the number; if it is not empty and another one, Send begins with the oldest event, and
// the first is marked as if others were lost. Whoever has got an event, or the end, misses nothing
// that happens on the host from then on.
func (e *Events) Send(ctx context.Context, id string, number uint64, follow bool, send func(event Event, isLost bool) error) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	wasOther := id != "" && id != e.ID
	if wasOther || number > e.lastNumber() {
		number, wasOther = 0, true
	}
	for {
		events, isLost, changed := e.after(number)
		// Without a number the caller asks for what is remembered, and has lost nothing.
		isLost = isLost && number > 0 || wasOther
		for _, event := range events {
			if err := send(event, isLost); err != nil {
				return err
			}
			number, isLost, wasOther = event.Sequence, false, false
		}
		if len(events) > 0 {
			continue
		}
		if !follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begin begins to watch the host, and returns when the watch has begun. It does not wait for ever:
// a systemd that does not answer holds no events back that are remembered.
func (e *Events) begin(ctx context.Context) error {
	if e.watch == nil {
		return nil
	}
	e.once.Do(func() { go e.watch(e.life, sync.OnceFunc(func() { close(e.begun) })) })
	select {
	case <-e.begun:
		return nil
	case <-time.After(e.beginTime):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Events gives events to send, as Events.Send does, and counts the stream.
func (s *Service) Events(ctx context.Context, e *Events, id string, number uint64, follow bool, send func(Event, bool) error) error {
	end, err := s.begin("read the events")
	if err != nil {
		return err
	}
	defer end()
	return e.Send(ctx, id, number, follow, send)
}

func (e *Events) lastNumber() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}
