package cli

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// clock is a time that goes on when told.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// doing is an event of an operation that goes forwards.
func doing(e *client.Event) *client.Event {
	e.Phase = 1
	return e
}

func TestProgressWithoutATerminalIsAFewPlainLines(t *testing.T) {
	a, _, stderr := testApp()
	now := &clock{a.now()}
	a.now = now.now
	p := newProgress(a)
	p.event(clienttest.Step(1, "fetch", nil))
	for i := range int64(13) {
		p.event(doing(clienttest.Progress("fetch", i<<20, 12<<20)))
		now.Time = now.Add(time.Second)
	}
	p.event(clienttest.Step(1, "verify", nil))
	unknown := doing(clienttest.Progress("verify", 5<<20, 0))
	p.event(unknown)
	now.Time = now.Add(plainEvery)
	p.event(unknown)
	reboot := clienttest.Step(1, "verify", nil)
	reboot.OperationId, reboot.GetChange().Waiting = "op-1", "reboot"
	p.event(reboot)
	p.event(clienttest.Step(3, "settle", nil))
	p.end()
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
	a, _, stderr := testApp()
	p := newProgress(a)
	p.event(clienttest.Step(1, "write", nil))
	// The clock of the host counts: here it all comes at once, as afterwards.
	for _, e := range partEvents(time.Unix(1e9, 0)) {
		p.event(e)
	}
	p.end()
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

// frames are what a terminal showed of one line, one after the other.
func frames(s string) []string {
	var out []string
	for _, f := range regexp.MustCompile(`\r|\n|\x1b\[[0-9;]*[A-Za-z]`).Split(s, -1) {
		if strings.Contains(f, "|") {
			out = append(out, f)
		}
	}
	return out
}

func TestProgressOnATerminalIsABarPerStep(t *testing.T) {
	a, _, stderr := testApp()
	a.terminal = true
	p := newProgress(a)
	p.event(clienttest.Step(1, "fetch", nil))
	for _, done := range []int64{1 << 20, 6 << 20, 12 << 20} {
		p.event(doing(clienttest.Progress("fetch", done, 12<<20)))
	}
	p.event(clienttest.Step(1, "verify", nil))
	log := clienttest.Log("verify", operationsv1.Severity_SEVERITY_INFO, "signed")
	p.event(doing(log))
	p.end()
	lines := strings.Split(stderr.String(), "\n")
	if len(lines) != 4 || lines[1] != "verify" || lines[2] != "  signed" {
		t.Fatalf("lines %q", lines)
	}
	all := frames(lines[0])
	if last := all[len(all)-1]; !strings.Contains(last, "100%") || !strings.Contains(last, "fetch: 12.0 MiB of 12.0 MiB") {
		t.Errorf("the frames of the bar are %q", all)
	}
}

func TestNoFrameOfABarHasARateThatNeverWas(t *testing.T) {
	a, _, stderr := testApp()
	a.terminal, a.columns = true, 120
	p := newProgress(a)
	p.event(clienttest.Step(1, "write", nil))
	began := time.Unix(1e9, 0)
	for i := range int64(4) { // it is taken up in the middle
		e := doing(clienttest.Part("write", "root", (100+i)<<20, 103<<20, (1000+i)<<20, 1003<<20))
		e.Time = timestamppb.New(began.Add(time.Duration(i) * time.Second))
		p.event(e)
	}
	p.end()
	all := frames(stderr.String())
	for _, f := range all {
		if m := regexp.MustCompile(`, ([^,]*)/s`).FindStringSubmatch(f); m != nil && m[1] != "1.0 MiB" {
			t.Errorf("a frame has the rate %q: %q", m[1], f)
		}
		if n := len([]rune(strings.TrimRight(f, " "))); n > 120 {
			t.Errorf("a frame is %d wide: %q", n, f)
		}
	}
	if first := all[0]; !strings.Contains(first, "1000.0 MiB of 1003.0 MiB (root 97%)") {
		t.Errorf("the first frame is %q", first)
	}
	if last := all[len(all)-1]; !strings.Contains(last, "100%") || !strings.Contains(last, "1003.0 MiB of 1003.0 MiB, 1.0 MiB/s") {
		t.Errorf("the last frame is %q", last)
	}
}

func TestALineOfManyPartsFitsTheTerminal(t *testing.T) {
	a, _, stderr := testApp()
	a.terminal, a.columns = true, 60
	p := newProgress(a)
	p.event(clienttest.Step(1, "write", nil))
	for range 2 {
		for _, name := range strings.Fields("one two three four five six seven eight nine ten") {
			p.event(doing(clienttest.Part("write", "a-partition-called-"+name, 1, 2, 5, 10)))
		}
	}
	p.end()
	for _, f := range frames(stderr.String()) {
		if n := len([]rune(strings.TrimSpace(f))); n > 60 {
			t.Errorf("a frame is %d wide: %q", n, f)
		}
	}
}

func TestTheRateIsOfLateAndAtTheEndOfAll(t *testing.T) {
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

func TestANarrowTerminalShowsAmountRateAndTimeAndNoBar(t *testing.T) {
	for _, columns := range []int{60, 56} {
		a, _, stderr := testApp()
		a.terminal, a.columns = true, columns
		p := newProgress(a)
		p.event(clienttest.Step(1, "write", nil))
		for i := range int64(4) {
			e := doing(clienttest.Part("write", "root", (100+i)<<20, 1003<<20, (1000+i)<<20, 2003<<20))
			e.Time = timestamppb.New(time.Unix(1e9+i, 0))
			p.event(e)
		}
		p.end()
		drawn := regexp.MustCompile(`\r|\n|\x1b\[[0-9;]*[A-Za-z]`).Split(strings.TrimSpace(stderr.String()), -1)
		last := drawn[len(drawn)-1]
		if !strings.Contains(last, "write: 1003.0 MiB of 2.0 GiB, 1.0 MiB/s, 16m40s left") || strings.Contains(last, "|") {
			t.Errorf("at %d columns the line is %q", columns, last)
		}
		for _, line := range drawn {
			if n := len([]rune(line)); n >= columns {
				t.Errorf("a line at %d columns is %d wide: %q", columns, n, line)
			}
		}
	}
}
