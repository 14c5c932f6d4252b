package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// upgraded is a Trident in memory that restarts into 2.0.0, and drops every
// connection now and then.
func upgraded(t *testing.T) *client.Client {
	t.Helper()
	s := clienttest.New(clienttest.Config{
		Version: "1.0.0", NextVersion: "2.0.0", Drop: 2,
		Script: []*operationsv1.Event{
			clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil),
			clienttest.Progress("fetch", 1, 2),
			clienttest.Restart("restart"),
			clienttest.Step(operationsv1.Phase_PHASE_DOING, "prove", nil),
			clienttest.Step(operationsv1.Phase_PHASE_DONE, "prove", nil),
		},
	})
	t.Cleanup(s.Close)
	c, err := client.Dial("memory", client.WithDialer(s.Dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAWatcherSeesEveryEventOnceOverLostConnections(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := upgraded(t)
	seen := make(chan watched, 1)
	go func() { seen <- watchNext(ctx, c, "") }()
	if _, err := c.Upgrade(ctx, client.Source{Path: "/a.raw"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	w := <-seen
	if w.err != nil || w.events < 5 || w.op.GetPhase() != operationsv1.Phase_PHASE_DONE {
		t.Errorf("%d events, %v, %v", w.events, w.op, w.err)
	}
}

func TestACallerCountsWhoAnsweredInTurn(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := upgraded(t)
	during, stop := context.WithCancel(ctx)
	called := make(chan calls, 1)
	go func() { called <- call(during, c) }()
	for _, want := range []string{"1.0.0", "2.0.0"} {
		for got := ""; got != want; {
			var err error
			if got, err = c.Version(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(everyCall) // the caller's own pace: it has called by then
		}
		if want == "1.0.0" {
			time.Sleep(everyCall)
			if _, err := c.Upgrade(ctx, client.Source{Path: "/a.raw"}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	got := <-called
	if diff := cmp.Diff([]string{"1.0.0", "2.0.0"}, got.versions); diff != "" || got.failed > 0 || got.made < 2 {
		t.Errorf("%v, %s", got, diff)
	}
}

func TestTamperingChangesOneByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	before := bytes.Repeat([]byte{7}, 1001)
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := flip(f); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before[500] ^= 1
	if !bytes.Equal(before, after) {
		t.Error("more or less than one byte in the middle was changed")
	}
}

func TestTheTableIsAligned(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, bold: func(text string) string { return "*" + text + "*" }}
	s.chapter("A title", "What it is.")
	s.command("$", "trident version")
	s.table([]row{{"a thing", "done", 1500 * time.Millisecond}, {"another, longer thing", "refused", 75 * time.Second}})
	want := `
*1. A title*
What it is.

$ *trident version*
WHAT WAS DONE           TOOK         HOW IT ENDED
a thing                 2 s          done
another, longer thing   1 min 15 s   refused
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
