// Command caller calls Version of a daemon at a steady rate and reports the results, so that
// tests can see what a client notices of an upgrade.
//
// The command is a plain gRPC client without options: it has one connection and repeats no
// call. Each call begins at its time, whether or not the calls before have an answer, and
// its duration counts from that time, so that a stall shows in all calls that it delays.
//
// It calls until its standard input ends, and then writes a report as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// callTime is how long a call may take before it counts as failed. It is long, because the
// report has the duration of calls apart from their failures.
const callTime = 2 * time.Minute

// errorsKept bounds the report.
const errorsKept = 5

func main() {
	socket := flag.String("socket", "/run/trident/trident.sock", "the daemon's socket")
	rate := flag.Int("rate", 200, "calls a second")
	flag.Parse()
	if err := run(*socket, *rate, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(1)
	}
}

// report is the output of the caller.
type report struct {
	Calls  int `json:"calls"`
	Failed int `json:"failed"`
	// Errors are the first ones.
	Errors []string `json:"errors"`
	// Versions counts the answers.
	Versions map[string]int `json:"versions"`
	Seconds  float64        `json:"seconds"`
	// Longest is the longest that a call took, in milliseconds.
	Longest float64 `json:"longest_ms"`
}

type caller struct {
	client tridentv1.VersionServiceClient
	idle   sync.WaitGroup

	mu sync.Mutex
	report
}

func run(socket string, rate int, until io.Reader, out io.Writer) error {
	if rate < 1 {
		return fmt.Errorf("a rate of %d calls a second: it must be 1 at least", rate)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	c := &caller{client: tridentv1.NewVersionServiceClient(conn), report: report{Versions: map[string]int{}}}
	enough := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, until)
		close(enough)
	}()
	begun := time.Now()
	c.callUntil(enough, time.Second/time.Duration(rate))
	c.Seconds = time.Since(begun).Seconds()
	c.idle.Wait()
	return json.NewEncoder(out).Encode(c.report)
}

// callUntil begins a call in each period. Calls that were due while the process did not run
// begin late.
func (c *caller) callUntil(enough <-chan struct{}, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for due := time.Now(); ; {
		for ; !due.After(time.Now()); due = due.Add(period) {
			c.idle.Go(func() { c.call(due) })
		}
		select {
		case <-tick.C:
		case <-enough:
			return
		}
	}
}

func (c *caller) call(due time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	resp, err := c.client.Version(ctx, &tridentv1.VersionRequest{})
	took := time.Since(due)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Calls++
	c.Longest = max(c.Longest, float64(took.Microseconds())/1000)
	switch {
	case err == nil:
		c.Versions[resp.GetVersion()]++
	case len(c.Errors) < errorsKept:
		c.Errors = append(c.Errors, err.Error())
		fallthrough
	default:
		c.Failed++
	}
}
