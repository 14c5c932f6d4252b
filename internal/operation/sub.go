package operation

import "context"

// Sub makes steps over one record steps over a record that has it as a part:
// an operation can be part of a larger one. The names get a prefix, because
// those of one list differ; the steps share the operation's ID and its events.
func Sub[S, T any](prefix string, steps []Step[T], part func(*S) *T) []Step[S] {
	out := make([]Step[S], len(steps))
	for i, s := range steps {
		out[i] = Step[S]{Name: prefix + s.Name, Do: subFunc(s.Do, part), Undo: subFunc(s.Undo, part)}
	}
	return out
}

func subFunc[S, T any](do func(context.Context, *Run[T]) error, part func(*S) *T) func(context.Context, *Run[S]) error {
	if do == nil {
		return nil
	}
	return func(ctx context.Context, whole *Run[S]) error {
		inner := &Run[T]{ID: whole.ID, State: *part(&whole.State), events: whole.events}
		keep := func() { *part(&whole.State) = inner.State }
		inner.save = func(ctx context.Context, advanced bool) error {
			keep()
			return whole.record(ctx, advanced)
		}
		defer keep()
		return do(ctx, inner)
	}
}
