package terminal

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// clock is a time that goes on when told.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func doing(e *client.Event) *client.Event {
	e.Phase = 1
	return e
}

func TestProgressWithoutATerminalIsAFewPlainLines(t *testing.T) {
	a, _, stderr := testStreams()
	now := &clock{a.Now()}
	a.Now = now.now
	p := NewProgress(a)
	p.WatchCommand = func(id string) string { return "trident operation watch " + id }
	p.Event(clienttest.Step(1, "fetch", nil))
	for i := range int64(13) {
		p.Event(doing(clienttest.Progress("fetch", i<<20, 12<<20)))
		now.Time = now.Add(time.Second)
	}
	p.Event(clienttest.Step(1, "verify", nil))
	unknown := doing(clienttest.Progress("verify", 5<<20, 0))
	p.Event(unknown)
	now.Time = now.Add(plainEvery)
	p.Event(unknown)
	reboot := clienttest.Step(1, "verify", nil)
	reboot.OperationId, reboot.GetChange().Waiting = "op-1", "reboot"
	p.Event(reboot)
	p.Event(clienttest.Step(3, "settle", nil))
	p.End()
	want := `fetch
fetch: 5.0 MiB of 12.0 MiB, 1.0 MiB/s, 7s left
fetch: 10.0 MiB of 12.0 MiB, 1.0 MiB/s, 2s left
verify
verify: 5.0 MiB
Requesting reboot; watching until the host is back
To see from there on how it goes on: trident operation watch op-1
`
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestNoCommandIsNamedWhereNoneWatches(t *testing.T) {
	a, _, stderr := testStreams()
	p := NewProgress(a)
	reboot := clienttest.Step(1, "reboot", nil)
	reboot.OperationId, reboot.GetChange().Waiting = "op-1", "reboot"
	p.Event(reboot)
	p.End()
	if strings.Contains(stderr.String(), "To see") {
		t.Error(stderr.String())
	}
}

// partEvents are two partitions that are written side by side, at one mebibyte a
// second each.
func partEvents(began time.Time) []*client.Event {
	var out []*client.Event
	whole := map[string]int64{}
	for i := range int64(11) {
		for _, p := range []struct {
			name  string
			total int64
		}{{"esp", 4}, {"root", 10}} {
			whole[p.name] = min(i, p.total)
			e := doing(clienttest.Part("write", p.name, whole[p.name]<<20, p.total<<20, (whole["esp"]+whole["root"])<<20, 14<<20))
			e.Time = timestamppb.New(began.Add(time.Duration(i) * time.Second))
			out = append(out, e)
		}
	}
	return out
}

func TestThePartsOfAStepAreShownWhileTheyMove(t *testing.T) {
	a, _, stderr := testStreams()
	p := NewProgress(a)
	p.Event(clienttest.Step(1, "write", nil))
	// The clock of the host counts: here it all comes at once, as afterwards.
	for _, e := range partEvents(time.Unix(1e9, 0)) {
		p.Event(e)
	}
	p.End()
	want := `write
  esp: 4.0 MiB done
write: 8.0 MiB of 14.0 MiB, 1.6 MiB/s, 4s left (root 40%)
write: 13.0 MiB of 14.0 MiB, 1.3 MiB/s, 1s left (root 90%)
  root: 10.0 MiB done
`
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestTheRateIsRecentAndAtTheEndTheAverage(t *testing.T) {
	var m meter
	at := time.Unix(0, 0)
	step := func(seconds int, done int64) {
		at = at.Add(time.Duration(seconds) * time.Second)
		m.add(at, done, 1000)
	}
	step(0, 0)
	if m.rate() != 0 {
		t.Errorf("a rate after nothing: %v", m.rate())
	}
	for i := range int64(20) { // 10 a second
		step(1, 10*(i+1))
	}
	for i := range int64(20) { // then 30
		step(1, 200+30*(i+1))
	}
	if got := m.rate(); got != 30 {
		t.Errorf("of late %v", got)
	}
	step(0, 1000)
	if got := m.rate(); got != 25 {
		t.Errorf("of all %v", got)
	}
	step(1, 10) // begun again
	if m.rate() != 0 || len(m.samples) > 20 {
		t.Errorf("after a new beginning %v, %d samples", m.rate(), len(m.samples))
	}
}
