// Command watchers compares an operation that nobody watches with the same operation
// under 50 watchers, of which one never reads its events.
//
//	go run ./internal/e2e/bench/watchers
//
// The operation hashes a fixed number of blocks and reports progress after each, ten to
// twenty thousand times a second. In three loads it logs nothing, a line for every hundredth
// block, or a line for every second block. One process runs the runner, the datastore and
// the API server; another process has the watchers, each with a connection of its own. The
// datastore is in memory where the host has a folder for that, because the waits for a disk
// would hide the cost of watchers. Run it on an idle machine: on two cores the watchers
// compete with the operation for processor time.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A variant is a load, and how many watch it.
type variant struct {
	name string
	line int // blocks between lines of its log; 0 for none
	// What was measured, of each round.
	alone, watched []round
}

func main() {
	rounds := flag.Int("rounds", 5, "how often each is measured")
	watchers := flag.Int("watchers", 50, "how many watch; one of them never reads")
	blocks := flag.Int("blocks", 64<<10, "how many blocks of 64 KiB the operation hashes")
	role := flag.String("role", "", "serve or watch: what this program calls itself for")
	socket, id, line := flag.String("socket", "", "for roles"), flag.String("id", "", "for roles"), flag.Int("line", 0, "for roles")
	flag.Parse()
	var err error
	switch *role {
	case "serve":
		err = serve(filepath.Dir(*socket), *socket, load{Blocks: *blocks, Line: *line})
	case "watch":
		err = watch(*socket, *id, *watchers)
	default:
		err = measure(*rounds, *watchers, *blocks)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(rounds, watchers, blocks int) error {
	variants := []*variant{
		{name: "nothing"},
		{name: "some 200 lines/s", line: 100},
		{name: "over 10 000 lines/s", line: 2},
	}
	for i := range rounds {
		for _, v := range variants {
			for _, n := range []int{0, watchers} {
				r, err := run(n, blocks, v.line)
				if err != nil {
					return fmt.Errorf("%s, %d watchers, round %d: %w", v.name, n, i, err)
				}
				if n == 0 {
					v.alone = append(v.alone, r)
				} else {
					v.watched = append(v.watched, r)
				}
			}
		}
	}
	fmt.Printf("An operation that hashes %d MiB, alone and with %d watchers, one of whom never reads:\n", blocks*blockSize>>20, watchers)
	fmt.Printf("%-22s %8s %10s %8s %14s %20s %22s\n", "its log", "alone", "watched", "ratio", "events/s", "late, of 50 %, 99 %", "memory, alone, watched")
	for _, v := range variants {
		v.print()
	}
	fmt.Printf("%-22s %8s %10s %8s\n", "expected", "", "", "1.02x")
	return nil
}

func (v *variant) print() {
	alone, watched := median(v.alone, took), median(v.watched, took)
	fmt.Printf("%-22s %6.2f s %8.2f s %7.3fx %14.0f %7.1f ms %7.1f ms %9.1f MiB %6.1f MiB\n", v.name, alone, watched, watched/alone,
		median(v.watched, func(r round) float64 { return float64(r.events) / r.took.Seconds() }),
		median(v.watched, func(r round) float64 { return r.Median }), median(v.watched, func(r round) float64 { return r.Slow }),
		median(v.alone, memory), median(v.watched, memory))
}

func took(r round) float64 { return r.took.Seconds() }

func memory(r round) float64 { return float64(r.memory) / (1 << 20) }

func median(all []round, of func(round) float64) float64 {
	var sorted []float64
	for _, r := range all {
		sorted = append(sorted, of(r))
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// inMemory is a folder whose files are on no disk, if there is one.
func inMemory() (string, error) {
	dir, err := os.MkdirTemp("/dev/shm", "bench-watchers-")
	if errors.Is(err, os.ErrNotExist) {
		dir, err = os.MkdirTemp("", "bench-watchers-")
	}
	return dir, err
}
