// Command caller calls a daemon's Version at a steady rate and says how that
// went, for the tests and figures of what a client notices of an upgrade.
//
// It is a client such as any program of the host may be: plain gRPC without
// options, on one connection, that tries nothing twice. Calls begin when it is
// their time, whether or not those before them were answered, and their time is
// counted from then: a stall is seen in full by everybody who would have called.
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

// callTime is when a call counts as failed. It is long: how long calls take is
// one question, whether they fail another.
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

// report is what the caller writes.
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

// callUntil begins a call each period; those that are due after the process was
// kept from running begin late, but all the same.
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
