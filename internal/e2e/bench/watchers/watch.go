package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// seen is what watchers have seen.
type seen struct {
	Received int `json:"received"`
	// How old an event was when it came, in milliseconds: of half of them at most
	// the median, of one in a hundred more than slow.
	Median float64 `json:"median_ms"`
	Slow   float64 `json:"slow_ms"`
}

// watch is so many watchers. It writes a line when all have begun and, when the
// operation has ended for all but the one that does not read, what they saw.
func watch(socket, id string, watchers int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var (
		begun, done sync.WaitGroup
		mu          sync.Mutex
		all         seen
		ages        []float64
		errs        []error
	)
	for i := range watchers {
		begun.Add(1)
		first := sync.OnceFunc(begun.Done)
		one := func() {
			defer first()
			mine, err := one(ctx, socket, id, i > 0, first)
			mu.Lock()
			defer mu.Unlock()
			all.Received += len(mine)
			ages, errs = append(ages, mine...), append(errs, err)
		}
		if i == 0 { // it never ends
			go one()
		} else {
			done.Go(one)
		}
	}
	begun.Wait()
	if _, err := os.Stdout.WriteString("watching\n"); err != nil {
		return err
	}
	done.Wait()
	mu.Lock()
	defer mu.Unlock()
	if slices.Sort(ages); len(ages) > 0 {
		all.Median, all.Slow = ages[len(ages)/2], ages[len(ages)*99/100]
	}
	return errors.Join(append(errs, json.NewEncoder(os.Stdout).Encode(all))...)
}

// one is a watcher. It says when it has its first event, and returns the ages of
// all others.
func one(ctx context.Context, socket, id string, reads bool, first func()) (ages []float64, err error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := operationsv1.NewOperationsServiceClient(conn).Watch(ctx, &operationsv1.WatchRequest{Id: id})
	if err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); err != nil {
		return nil, err
	}
	first()
	if !reads {
		<-ctx.Done()
		return nil, nil
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ages, nil
		}
		if err != nil {
			return ages, err
		}
		ages = append(ages, float64(time.Since(m.GetEvent().GetTime().AsTime()).Microseconds())/1000)
	}
}
