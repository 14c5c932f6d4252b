package operation

import (
	"context"
	"fmt"
	"slices"
)

// requestSearchDepth is how many operations back a request is looked for: one that is
// repeated is repeated soon.
const requestSearchDepth = 16

// maxAttached bounds the requests that an operation remembers beside its own.
const maxAttached = 8

type requestKey struct{}

// WithRequest has an operation that is begun with the context remember the
// request that it comes from, so that the same request, sent again by a caller
// who never got an answer, finds it: see Requested.
func WithRequest(ctx context.Context, request string) context.Context {
	return context.WithValue(ctx, requestKey{}, request)
}

func requestOf(ctx context.Context) string {
	request, _ := ctx.Value(requestKey{}).(string)
	return request
}

// Attach has an operation remember the request of the context too: one that was
// answered with an operation which is there already.
func (r *Runner) Attach(ctx context.Context, id string) error {
	request := requestOf(ctx)
	if request == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	isActive := r.active != nil && r.active.op.ID == id
	var op Operation
	var err error
	if isActive {
		op = r.active.op
	} else if op, err = r.Journal.Load(ctx, id); err != nil {
		return err
	}
	if op.hasRequest(request) {
		return nil
	}
	op.Attached = append(slices.Clone(op.Attached), request)
	op.Attached = op.Attached[max(0, len(op.Attached)-maxAttached):]
	err = r.Journal.Save(ctx, op)
	if err != nil && !(isActive && r.active.isRunning) { // else the next that is journaled has it
		return fmt.Errorf("attach to operation %s: write journal: %w", id, err)
	}
	if isActive {
		r.active.op = op
	}
	return nil
}

func (o Operation) hasRequest(request string) bool {
	return o.Request == request || slices.Contains(o.Attached, request)
}

// FindByRequest returns the operation that was begun for a request, or that it was
// attached to, by this daemon or by one before it. A request is found for as long
// as a caller may repeat it, which is not for ever.
func (r *Runner) FindByRequest(ctx context.Context, request string) (op Operation, ok bool, err error) {
	ops, err := r.Journal.List(ctx, requestSearchDepth, false)
	if err != nil {
		return Operation{}, false, fmt.Errorf("look for the request: %w", err)
	}
	for _, op := range ops {
		if request != "" && op.hasRequest(request) {
			op, err := r.Get(ctx, op.ID)
			return op, err == nil, err
		}
	}
	return Operation{}, false, nil
}
