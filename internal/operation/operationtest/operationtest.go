// Package operationtest has a journal in memory, and a suite of tests for any
// journal.
package operationtest

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// Memory is a journal that lasts as long as its process.
type Memory struct {
	mu     sync.Mutex
	order  []string
	ops    map[string]operation.Operation
	events map[string][]operation.Event
	// Refuse, if set, is called before each Save, which returns its error.
	Refuse func() error
}

// NewMemory returns an empty journal.
func NewMemory() *Memory {
	return &Memory{ops: map[string]operation.Operation{}, events: map[string][]operation.Event{}}
}

// Clone returns a copy of the journal at this moment.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{order: slices.Clone(m.order), ops: maps.Clone(m.ops), events: map[string][]operation.Event{}}
	for id, e := range m.events {
		c.events[id] = slices.Clone(e)
	}
	return c
}

// Save implements operation.Journal.
func (m *Memory) Save(_ context.Context, op operation.Operation, events ...operation.Event) error {
	if m.Refuse != nil {
		if err := m.Refuse(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.ops[op.ID]; !ok {
		m.order = append(m.order, op.ID)
	}
	m.ops[op.ID] = op
	m.events[op.ID] = append(m.events[op.ID], events...)
	return nil
}

// Load implements operation.Journal.
func (m *Memory) Load(_ context.Context, id string) (operation.Operation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	op, ok := m.ops[id]
	if !ok {
		return op, errkind.Errorf(errkind.NotFound, "there is no operation %q", id)
	}
	return op, nil
}

// List implements operation.Journal.
func (m *Memory) List(_ context.Context, limit int, unsettled bool) ([]operation.Operation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []operation.Operation
	for _, id := range slices.Backward(m.order) {
		if op := m.ops[id]; len(out) < limit && !(unsettled && op.Phase.Settled()) {
			out = append(out, op)
		}
	}
	return out, nil
}

// Events implements operation.Journal.
func (m *Memory) Events(_ context.Context, id string, after uint64, limit int) ([]operation.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []operation.Event
	for _, e := range m.events[id] {
		if e.Sequence > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

// Suite tests a journal. open opens the journal; a second call sees what the first
// one saved.
func Suite(t *testing.T, open func(t *testing.T) operation.Journal) {
	ctx := t.Context()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	op := func(id string, phase operation.Phase) operation.Operation {
		return operation.Operation{
			ID: id, Kind: "k", Summary: "s", Phase: phase, Plan: []string{"a", "b"}, Step: "a", Waiting: operation.Reboot, WaitID: "w",
			Failure: &operation.Failure{Kind: errkind.Corrupt, Message: "m", Hint: "h"}, Created: now, Updated: now, Sequence: 3,
			State: json.RawMessage(`{"x":1}`),
		}
	}
	event := func(id string, n uint64) operation.Event {
		return operation.Event{
			Operation: id, Sequence: n, Time: now, Phase: operation.Doing, Step: "a", Type: operation.Log,
			Level: slog.LevelWarn, Message: "hello", Done: 1, Total: 2, Waiting: operation.Restart, Failure: &operation.Failure{Message: "f"},
		}
	}
	save := func(o operation.Operation, e ...operation.Event) {
		t.Helper()
		if err := open(t).Save(ctx, o, e...); err != nil {
			t.Fatal(err)
		}
	}
	save(op("1", operation.Doing), event("1", 1), event("1", 2))
	save(op("2", operation.Doing), event("2", 1))
	save(op("1", operation.Done), event("1", 3))

	got, err := open(t).Load(ctx, "1")
	if diff := cmp.Diff(op("1", operation.Done), got); diff != "" || err != nil {
		t.Errorf("Load: %v %s", err, diff)
	}
	if _, err := open(t).Load(ctx, "none"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("Load of none: %v", err)
	}
	for _, c := range []struct {
		limit     int
		unsettled bool
		want      []string
	}{{10, false, []string{"2", "1"}}, {1, false, []string{"2"}}, {10, true, []string{"2"}}} {
		list, err := open(t).List(ctx, c.limit, c.unsettled)
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if !slices.Equal(ids, c.want) || err != nil {
			t.Errorf("List(%d, %v) = %v, %v; want %v", c.limit, c.unsettled, ids, err, c.want)
		}
	}
	events, err := open(t).Events(ctx, "1", 1, 10)
	if diff := cmp.Diff([]operation.Event{event("1", 2), event("1", 3)}, events); diff != "" || err != nil {
		t.Errorf("Events: %v %s", err, diff)
	}
	if events, _ := open(t).Events(ctx, "1", 0, 2); len(events) != 2 || events[1].Sequence != 2 {
		t.Errorf("Events with a limit: %v", events)
	}
}
