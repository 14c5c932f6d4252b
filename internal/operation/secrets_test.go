package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/operation"
)

func TestPasswordsLeaveTheRecordWhenTheOperationHasEnded(t *testing.T) {
	type record struct {
		URL   string   `json:"url"`
		Text  string   `json:"text"`
		Parts []string `json:"parts"`
		Big   uint64   `json:"big"`
	}
	const url = "https://ann:hu:s@h'&%3cx@host:8443/a/b.raw?sig=hush2&x=1#frag"
	state := record{url, "os:\n  image:\n    url: " + url + "\n    sha384: ab # mail x@y\n", []string{"oci://bob:hush@r/x:1"}, 1<<64 - 1}
	for _, fails := range []bool{false, true} {
		b := newBench(t)
		r := operation.New(t.Context(), operation.Config{Journal: b.journal, Logger: slog.New(slog.DiscardHandler), Life: operation.Life{Boot: "1", Process: "1"}})
		seen := ""
		start := operation.Register(r, operation.Kind[record]{Name: "test", Steps: []operation.Step[record]{
			{Name: "a", Do: func(context.Context, *operation.Run[record]) error { return nil }, Undo: func(_ context.Context, run *operation.Run[record]) error {
				seen = run.State.URL
				return nil
			}},
			{Name: "b", Do: func(_ context.Context, run *operation.Run[record]) error {
				seen = run.State.URL
				if fails {
					return errors.New("no")
				}
				return nil
			}},
		}})
		if err := r.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		op, err := start(t.Context(), "it", state)
		if err != nil {
			t.Fatal(err)
		}
		op = b.finish(r, op.ID)
		if seen != url {
			t.Errorf("a step had %q", seen)
		}
		stored, err := b.journal.Load(t.Context(), op.ID)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(stored.State) + string(op.State); strings.Contains(text, "hush") || strings.Contains(text, "ann") || strings.Contains(text, "hu:s") {
			t.Errorf("%s: %s", op.Phase, text)
		}
		var got record
		if err := json.Unmarshal(stored.State, &got); err != nil {
			t.Fatal(err)
		}
		if got.URL != "https://host:8443/a/b.raw#frag" || got.Big != state.Big || got.Parts[0] != "oci://r/x:1" || !strings.Contains(got.Text, "sha384: ab # mail x@y") {
			t.Errorf("%+v", got)
		}
		b.stop(r)
	}
}
