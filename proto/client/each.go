package client

import (
	"context"
	"fmt"
	"sync"
)

// A HostError is what went wrong with one host of Each.
type HostError struct {
	Host string // the target, as it was given
	Err  error
}

func (e *HostError) Error() string { return fmt.Sprintf("%s: %v", e.Host, e.Err) }

// Unwrap returns the error without the host.
func (e *HostError) Unwrap() error { return e.Err }

// Each dials every host with the options and calls fn, for at most parallel hosts
// at a time (at least one), and closes each client afterwards. A host that fails
// stops no other. The result has one entry per host, in the order of hosts: nil,
// or a *HostError; errors.Join makes one error of it, or nil. When ctx ends, hosts
// that were not begun fail with its cause; fn sees to those that were.
func Each(ctx context.Context, hosts []string, parallel int, fn func(context.Context, *Client) error, options ...Option) []error {
	out := make([]error, len(hosts))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(max(parallel, 1), len(hosts)) {
		workers.Go(func() {
			for i := range next {
				if err := one(ctx, hosts[i], fn, options); err != nil {
					out[i] = &HostError{hosts[i], err}
				}
			}
		})
	}
	for i := range hosts {
		next <- i
	}
	close(next)
	workers.Wait()
	return out
}

func one(ctx context.Context, host string, fn func(context.Context, *Client) error, options []Option) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c, err := Dial(host, options...)
	if err != nil {
		return err
	}
	err = fn(ctx, c)
	if closing := c.Close(); err == nil {
		err = closing
	}
	return err
}
