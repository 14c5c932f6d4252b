package operation

import "context"

// Sub turns steps over the record T into steps over the record S of which T is a
// part, so that an operation can contain another. prefix makes the names unique.
// The steps share the operation's ID and events.
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
