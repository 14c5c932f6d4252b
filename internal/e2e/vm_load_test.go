//go:build vm

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/proto/client"
)

// callerReport is the output of the program caller.
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

func TestNoCallFailsAndEachEventArrivesOnceDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	g := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	end := g.call(ctx)

	// Two clients watch: the one that began the upgrade, and another.
	other, err := client.Dial(g.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	began, came := &follower{}, &follower{}
	watched := make(chan error, 1)
	op, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + goodImage}, untimedTrial(2*time.Second), func(e *client.Event) {
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
	g.checkVersion(good)
}

func TestTenUpgradesInARowLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	g := start(t)
	versions := [2]string{good, good2}
	var images [2]string // on this machine
	for i, version := range versions {
		images[i] = g.lean(version)
	}
	const upgrades = 10
	var second string
	for n := range upgrades {
		began := time.Now()
		how := untimedTrial(time.Second)
		how.AllowDowngrade = true
		version := versions[n%2]
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		_, err := g.api.Upgrade(ctx, client.Source{Path: leanPath(version)}, how, nil)
		cancel()
		if err != nil {
			t.Fatalf("upgrade %d: %v", n+1, err)
		}
		t.Logf("upgrade %d took %.1f s", n+1, time.Since(began).Seconds())
		if v, err := g.api.Version(t.Context()); v != version || err != nil {
			t.Fatalf("after upgrade %d: %s, %v", n+1, v, err)
		}
		if n == 1 {
			second = g.leftovers()
		}
	}
	g.checkVersion(good2)
	g.checkVerity(filepath.Base(images[1]))
	last := g.leftovers()
	if last != second {
		t.Errorf("after %d upgrades:\n%s\nafter 2:\n%s", upgrades, last, second)
	}
	if !strings.Contains(last, "loops: /var/lib/trident/self/2.1.0.raw\n") || !strings.Contains(last, "rescuers:\n") {
		t.Errorf("after %d upgrades:\n%s", upgrades, last)
	}
}

// lean writes an image with nothing but the daemon to the guest, because Trident reads
// a small image faster. It returns the path on this machine.
func (g *guest) lean(version string) string {
	g.t.Helper()
	daemon, err := g.f.maker.Daemon(g.t.Context(), "./cmd/tridentd", version)
	if err != nil {
		g.t.Fatal(err)
	}
	path := g.candidate("lean "+version, product.Change{Version: version, Daemon: daemon})
	f, err := os.Open(path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	if err := g.Put(g.t.Context(), leanPath(version), f, 0o644); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// leanPath returns the path on the guest.
func leanPath(version string) string { return "/var/tmp/trident-" + version + ".raw" }
