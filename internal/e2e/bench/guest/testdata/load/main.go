// Command load calls a Version method from within a guest and prints how that
// went as JSON.
//
//	load steady SOCKET RATE        so many calls a second until standard input ends
//	load first (SOCKET UNIT)...    the first answer after activation, in turns
//
// Its client is gRPC's own and has no policy for calls that failed: what is lost
// counts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

const (
	patience = 30 * time.Second // for one answer
	rounds   = 9
	flying   = 200 // calls at a time: a server that is a second late is not buried under more
)

// report is what the bench reads.
type report struct {
	Calls   int               `json:"calls,omitempty"`
	Failed  int               `json:"failed,omitempty"`
	Error   string            `json:"error,omitempty"`   // the last one
	Longest time.Duration     `json:"longest,omitempty"` // from when a call was due to its answer
	First   [][]time.Duration `json:"first,omitempty"`   // of each unit
}

func main() {
	r, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string) (report, error) {
	switch {
	case len(args) == 3 && args[0] == "steady":
		rate, err := strconv.Atoi(args[2])
		if err != nil || rate < 1 {
			return report{}, fmt.Errorf("%s is not a rate", args[2])
		}
		return steady(args[1], time.Second/time.Duration(rate))
	case len(args) >= 3 && len(args)%2 == 1 && args[0] == "first":
		return turns(slices.Collect(slices.Chunk(args[1:], 2)))
	}
	return report{}, errors.New("usage: load steady SOCKET RATE | load first (SOCKET UNIT)...")
}

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func call(c grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := tridentv1.NewVersionServiceClient(c).Version(ctx, &tridentv1.VersionRequest{})
	return err
}

// steady makes calls when they are due, whether or not those before were
// answered: a stall is not hidden by calls that were not made.
func steady(socket string, every time.Duration) (r report, err error) {
	conn, err := dial(socket)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	if err := call(conn); err != nil { // connects
		return r, err
	}
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, flying)
	for due := time.Now(); ; due = due.Add(every) {
		select {
		case <-over:
			wait.Wait()
			return r, nil
		case <-time.After(time.Until(due)):
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			err := call(conn)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			r.Calls++
			r.Longest = max(r.Longest, took)
			if err != nil {
				r.Failed++
				r.Error = err.Error()
			}
		})
	}
}

// turns measures first answers. Those of the first turn do not count: they are
// of cold caches.
func turns(units [][]string) (r report, err error) {
	r.First = make([][]time.Duration, len(units))
	for turn := range rounds + 1 {
		for i, u := range units {
			took, err := first(u[0], u[1])
			if err != nil {
				return r, err
			}
			if turn > 0 {
				r.First[i] = append(r.First[i], took)
			}
		}
	}
	return r, nil
}

// first stops the unit and measures how long the call takes that starts it.
func first(socket, unit string) (time.Duration, error) {
	if out, err := exec.Command("systemctl", "stop", unit).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("stop %s: %w: %s", unit, err, out)
	}
	conn, err := dial(socket)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	err = call(conn)
	return time.Since(begun), errors.Join(err, conn.Close())
}
