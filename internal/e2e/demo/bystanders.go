package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// everyCall is the time between two calls of the caller. lookEvery is the time between two
// searches of the watcher for an operation.
const (
	everyCall = 100 * time.Millisecond
	lookEvery = 200 * time.Millisecond
)

// calls is the record of a caller.
type calls struct {
	made, failed int
	longest      time.Duration
	versions     []string // that answered, one after the other
	err          error    // the last one
}

func (c calls) String() string {
	return fmt.Sprintf("%d calls, %d failed, longest wait %.1f s", c.made, c.failed, c.longest.Seconds())
}

// call asks for the version at a steady pace until ctx ends.
func call(ctx context.Context, api *client.Client) (c calls) {
	tick := time.NewTicker(everyCall)
	defer tick.Stop()
	for {
		begun := time.Now()
		version, err := api.Version(ctx)
		if ctx.Err() != nil { // it was stopped, it did not fail
			return c
		}
		c.made++
		c.longest = max(c.longest, time.Since(begun))
		if err != nil {
			c.failed++
			c.err = err
		} else if n := len(c.versions); n == 0 || c.versions[n-1] != version {
			c.versions = append(c.versions, version)
		}
		select {
		case <-ctx.Done():
			return c
		case <-tick.C:
		}
	}
}

// watched is what a watcher received of one operation.
type watched struct {
	op     *client.Operation
	events uint64
	err    error // the watch failed, or an event was missing or came twice
}

// watchNext watches the first operation after the operation last, from its first event to
// its end.
func watchNext(ctx context.Context, api *client.Client, last string) watched {
	id, err := next(ctx, api, last)
	if err != nil {
		return watched{err: fmt.Errorf("find the operation: %w", err)}
	}
	var w watched
	var gaps error
	w.op, err = api.Watch(ctx, id, 0, func(e *client.Event) {
		w.events++
		if e.GetSequence() != w.events {
			gaps = errors.Join(gaps, fmt.Errorf("event %d came as number %d", e.GetSequence(), w.events))
		}
	})
	// Some operations of the story are meant to fail.
	if failed, ok := errors.AsType[*client.OperationError](err); ok {
		w.op, err = failed.Operation, nil
	}
	w.err = errors.Join(err, gaps)
	return w
}

// next waits for an operation that is newer than the operation last.
func next(ctx context.Context, api *client.Client, last string) (string, error) {
	for {
		ops, err := api.Operations(ctx, 1, false)
		if err != nil {
			return "", err
		}
		if len(ops) > 0 && ops[0].GetId() != last {
			return ops[0].GetId(), nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}
