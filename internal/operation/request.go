package operation

import (
	"context"
	"fmt"
	"slices"
)

// requestSearchDepth is how many of the newest operations are searched for a
// request: a caller that repeats a request does so soon.
const requestSearchDepth = 16

// maxAttached bounds Operation.Attached.
const maxAttached = 8

type requestKey struct{}

// WithRequest names the request of the caller. An operation that begins with the
// context stores the name, so that FindByRequest finds it when the caller, who got
// no answer, repeats the request.
func WithRequest(ctx context.Context, request string) context.Context {
	return context.WithValue(ctx, requestKey{}, request)
}

func requestOf(ctx context.Context) string {
	request, _ := ctx.Value(requestKey{}).(string)
	return request
}

// Attach records that the answer to the request of ctx is the operation id, so that a
// repeated request finds that operation.
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
	if err != nil && !(isActive && r.active.isRunning) { // otherwise the next save journals it
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

// FindByRequest returns the operation that this or an earlier daemon began for a
// request or attached to it. It searches the newest operations only.
func (r *Runner) FindByRequest(ctx context.Context, request string) (op Operation, ok bool, err error) {
	ops, err := r.Journal.List(ctx, requestSearchDepth, false)
	if err != nil {
		return Operation{}, false, fmt.Errorf("find the operation of the request: %w", err)
	}
	for _, op := range ops {
		if request != "" && op.hasRequest(request) {
			op, err := r.Get(ctx, op.ID)
			return op, err == nil, err
		}
	}
	return Operation{}, false, nil
}
