package client

import (
	"context"
	"fmt"
	"sync"
)

// A HostError is the error of one host of Each.
type HostError struct {
	Host string // the target, as given to Each
	Err  error
}

func (e *HostError) Error() string { return fmt.Sprintf("%s: %v", e.Host, e.Err) }

// Unwrap returns the error without the host.
func (e *HostError) Unwrap() error { return e.Err }

// Each dials every host with the options, calls fn, and closes the client, for at most
// parallel hosts at a time (at least one). The error of a host does not affect others.
// The result has one entry per host, in the order of hosts: nil or a *HostError;
// errors.Join makes one error of it, or nil. When ctx ends, hosts that have not begun
// fail with its cause; fn itself has to observe ctx.
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
