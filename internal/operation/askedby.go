package operation

import "context"

type askedByKey struct{}

// WithAskedBy names the remote identity on whose behalf the caller acts. An operation that
// begins with the context stores the name for people and for the log; nothing is decided
// by it.
func WithAskedBy(ctx context.Context, identity string) context.Context {
	return context.WithValue(ctx, askedByKey{}, identity)
}

func askedByOf(ctx context.Context) string {
	identity, _ := ctx.Value(askedByKey{}).(string)
	return identity
}
