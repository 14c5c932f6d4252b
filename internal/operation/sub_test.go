package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"github.com/trident-project/trident/internal/operation"
)

// whole is a record with a part that has steps of its own.
type whole struct {
	Name string `json:"name"`
	Part record `json:"part"`
}

func TestTheStepsOfAPartRunInAWhole(t *testing.T) {
	b := newBench(t)
	count := func(_ context.Context, r *run) error { r.State.Count++; return nil }
	parts := []step{
		{Name: "one", Do: func(ctx context.Context, r *run) error {
			r.State.Count++
			if err := r.Save(ctx); err != nil {
				return err
			}
			op, err := b.journal.Load(ctx, r.ID)
			if want := `{"name":"n","part":{"count":6,"newer":1},"newest":2}`; err != nil || !sameJSON(string(op.State), want) {
				t.Errorf("saved %s, %v, want %s", op.State, err, want)
			}
			r.Logf(slog.LevelInfo, "from a part")
			return nil
		}, Undo: count},
		{Name: "two", Undo: count},
	}
	steps := operation.Sub("part ", parts, func(w *whole) *record { return &w.Part })
	if steps[0].Name != "part one" || steps[1].Name != "part two" || steps[1].Do != nil {
		t.Fatalf("the steps are %+v", steps)
	}
	steps = append(steps, operation.Step[whole]{Name: "fail", Do: func(context.Context, *operation.Run[whole]) error { return errors.New("no") }})
	op := operation.Operation{ID: "1", Kind: "whole", Phase: operation.Doing, Plan: []string{"part one", "part two", "fail"}, Step: "part one",
		State: json.RawMessage(`{"name":"n","part":{"count":5,"newer":1},"newest":2}`)}
	if err := b.journal.Save(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	r := operation.New(t.Context(), operation.Config{Journal: b.journal, Logger: slog.New(slog.DiscardHandler)})
	operation.Register(r, operation.Kind[whole]{Name: "whole", Steps: steps})
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop(r) })
	op = b.finish(r, "1")
	if want := `{"name":"n","part":{"count":8,"newer":1},"newest":2}`; op.Phase != operation.Undone || !sameJSON(string(op.State), want) {
		t.Errorf("%s with %s, want %s", op.Phase, op.State, want)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	xs, _ := json.Marshal(x)
	ys, _ := json.Marshal(y)
	return string(xs) == string(ys)
}
