package operation

import (
	"context"
	"fmt"
)

// requestsBack is how many operations back a request is looked for: one that is
// repeated is repeated soon.
const requestsBack = 16

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

// Requested returns the operation that was begun for a request, by this daemon
// or by one before it. A request is found for as long as a caller may repeat it,
// which is not for ever.
func (r *Runner) Requested(ctx context.Context, request string) (op Operation, ok bool, err error) {
	ops, err := r.Journal.List(ctx, requestsBack, false)
	if err != nil {
		return Operation{}, false, fmt.Errorf("look for the request: %w", err)
	}
	for _, op := range ops {
		if request != "" && op.Request == request {
			op, err := r.Get(ctx, op.ID)
			return op, err == nil, err
		}
	}
	return Operation{}, false, nil
}
