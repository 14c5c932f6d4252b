//go:build vm

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// killRounds is an environment variable: the number of rounds of kills. Without it there
// are as many rounds as fit into killTime.
const (
	killRounds = "TRIDENT_KILL_ROUNDS"
	killTime   = 3 * time.Minute
)

// The test kills daemon and rescuer at random moments of upgrades to good and bad
// versions: no operation gets stuck, no good version is blocked, the status is right.
func TestKillsOfDaemonAndRescuerBlockNoGoodVersion(t *testing.T) {
	t.Parallel()
	g := start(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	rounds, err := strconv.Atoi(os.Getenv(killRounds))
	if err != nil {
		rounds = 0
	}
	kept, end := 0, time.Now().Add(killTime)
	round := 0
	for ; rounds == 0 && time.Now().Before(end) || round < rounds; round++ {
		name := []string{"trident_2.0.0_x86-64.raw", "trident_2.0.0_x86-64.raw", "exits.raw", "crashes.raw", "lies.raw"}[random.IntN(5)]
		if g.killedWhile(random, name) {
			kept++
		}
	}
	t.Logf("seed %d: %d rounds, a good version was kept in %d", seed, round, kept)
}

// killedWhile upgrades from the base, kills processes meanwhile, checks the host, and rolls
// back to the base. It reports whether Trident kept the new version.
func (g *guest) killedWhile(random *rand.Rand, name string) (kept bool) {
	g.t.Helper()
	kills := ""
	for range 1 + random.IntN(4) {
		kills += fmt.Sprintf("sleep %.2f; ", 12*random.Float64())
		kills += []string{"pkill -9 -x tridentd; ", "pkill -9 -x trident-rescue; ", "pkill -9 -x trident-rescue; pkill -9 -x tridentd; "}[random.IntN(3)]
	}
	g.sh("systemd-run --quiet --collect --unit=kills sh -c '" + kills + "true'")
	ctx, cancel := context.WithTimeout(g.t.Context(), 6*time.Minute)
	defer cancel()
	trial := patientTrial()
	if name == "crashes.raw" {
		trial.Soak = durationpb.New(10 * time.Second) // it crashes after 5
	}
	op, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + name}, trial, nil)
	detached := new(client.DetachedError)
	if errors.As(err, &detached) {
		g.sh("timeout 200 sh -c 'while test -e /var/lib/trident/unsettled; do sleep 0.2; done'")
		op, err = g.api.Operation(g.t.Context(), detached.Operation)
	}
	failed := new(client.OperationError)
	if errors.As(err, &failed) {
		op, err = failed.Operation, nil
	}
	if err != nil || op == nil {
		g.t.Fatalf("%s, killed by %q: %v", name, kills, err)
	}
	g.sh("timeout 120 sh -c 'while systemctl --quiet is-active kills.service; do sleep 0.2; done'")
	g.sh("timeout 60 sh -c 'while pgrep -x trident-rescue; do sleep 0.2; done'") // looks once a second
	good := name == "trident_2.0.0_x86-64.raw"
	kept = op.Phase == operationsv1.Phase_PHASE_DONE
	if kept != good && kept || !kept && op.Phase != operationsv1.Phase_PHASE_UNDONE {
		g.t.Errorf("%s, killed by %q: it ended %v", name, kills, op)
	}
	want := base
	if kept {
		want = "2.0.0"
	}
	g.checkVersion(want)
	st, err := g.api.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, b := range st.Blocked {
		if good || b.Version == base {
			g.t.Errorf("%s, killed by %q: blocked %v; it ended %v", name, kills, b, op)
		}
		if _, errs, code := g.trident("self", "unblock", b.Version); code != 0 {
			g.t.Errorf("unblock: %s", errs)
		}
	}
	if kept {
		if _, errs, code := g.trident("self", "rollback"); code != 0 {
			g.t.Errorf("roll back: %s", errs)
		}
		g.checkVersion(base)
	}
	return kept
}
