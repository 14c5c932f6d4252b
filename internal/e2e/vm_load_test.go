//go:build vm

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// callerReport is what the program caller writes.
type callerReport struct {
	Calls    int            `json:"calls"`
	Failed   int            `json:"failed"`
	Errors   []string       `json:"errors"`
	Versions map[string]int `json:"versions"`
	Seconds  float64        `json:"seconds"`
	Longest  float64        `json:"longest_ms"`
}

// call starts a caller in the guest. end stops it and returns its report.
func (g *guest) call(ctx context.Context) (end func() callerReport) {
	g.t.Helper()
	program, err := g.f.maker.Daemon(ctx, "./internal/e2e/caller", "caller")
	if err != nil {
		g.t.Fatal(err)
	}
	f, err := os.Open(program)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	if err := g.Put(ctx, "/var/tmp/caller", f, 0o755); err != nil {
		g.t.Fatal(err)
	}
	stdin, stop := io.Pipe()
	done := make(chan struct{})
	var out string
	go func() {
		defer close(done)
		out, err = g.Run(ctx, "/var/tmp/caller -rate 200", stdin)
	}()
	return func() (r callerReport) {
		g.t.Helper()
		_ = stop.Close()
		<-done
		if err == nil {
			err = json.Unmarshal([]byte(out), &r)
		}
		if err != nil {
			g.t.Fatal(err)
		}
		return r
	}
}

func TestNoCallFailsAndEveryEventComesOnceWhileTridentUpgradesFromAFileOnTheHost(t *testing.T) {
	t.Parallel()
	g := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	end := g.call(ctx)

	// Two watch: the one that began it, and one that comes by with a connection of its own.
	other, err := client.Dial(g.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	began, came := &follower{}, &follower{}
	watched := make(chan error, 1)
	op, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + goodImage}, atLeisure(2*time.Second), func(e *client.Event) {
		if e.Sequence == 1 {
			go func() {
				_, err := other.Watch(ctx, e.OperationId, 0, came.event)
				watched <- err
			}()
		}
		began.event(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-watched; err != nil {
		t.Fatal(err)
	}
	r := end()
	t.Logf("%d calls in %.1f s, %.0f a second, the longest took %.0f ms: %v", r.Calls, r.Seconds, float64(r.Calls)/r.Seconds, r.Longest, r.Versions)
	if r.Failed != 0 || r.Versions[base] == 0 || r.Versions[good] == 0 || r.Versions[base]+r.Versions[good] != r.Calls {
		t.Errorf("calls: %+v", r)
	}
	if rate := float64(r.Calls) / r.Seconds; rate < 190 {
		t.Errorf("only %.0f calls a second", rate)
	}

	began.complete(t)
	began.same(t, came)
	if n := len(began.seen()); uint64(n) != op.LastSequence {
		t.Errorf("%d events of %d", n, op.LastSequence)
	}
	late := &follower{}
	if _, err := other.Watch(ctx, op.Id, 0, late.event); err != nil {
		t.Fatal(err)
	}
	began.same(t, late)
	g.runs(good)
}

func TestTwentyUpgradesInARowLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	g := start(t)
	var second string
	for n := range 20 {
		version, image := good, goodImage
		if n%2 == 1 {
			version, image = good2, good2Image
		}
		began := time.Now()
		how := atLeisure(time.Second)
		how.AllowDowngrade = true
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		_, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + image}, how, nil)
		cancel()
		if err != nil {
			t.Fatalf("upgrade %d: %v", n+1, err)
		}
		t.Logf("upgrade %d took %.1f s", n+1, time.Since(began).Seconds())
		if v, err := g.api.Version(t.Context()); v != version || err != nil {
			t.Fatalf("after upgrade %d: %s, %v", n+1, v, err)
		}
		if n == 1 {
			second = g.things()
		}
	}
	g.runs(good2)
	g.throughVerity(good2Image)
	last := g.things()
	if last != second {
		t.Errorf("after 20 upgrades:\n%s\nafter 2:\n%s", last, second)
	}
	if !strings.Contains(last, "loops: /var/lib/trident/self/2.1.0.raw\n") || !strings.Contains(last, "rescuers:\n") {
		t.Errorf("after 20 upgrades:\n%s", last)
	}
	t.Log(last)
}
