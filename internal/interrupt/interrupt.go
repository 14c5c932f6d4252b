// Package interrupt ends the reading of large files, and pauses, when a context ends.
package interrupt

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Reader returns a reader of r whose Read fails as Err does after ctx has ended. A call of Read
// that waits for r does not end before r answers.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := Err(r.ctx); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

// Err returns nil while ctx goes on, and then its cause. A cause without a kind gets Timeout if
// ctx had a deadline that has passed, else Cancelled.
func Err(ctx context.Context) error {
	err := context.Cause(ctx)
	switch {
	case err == nil || errkind.Of(err) != errkind.Internal:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errkind.With(errkind.Timeout, err)
	}
	return errkind.With(errkind.Cancelled, err)
}

// Sleep waits for d, or until ctx ends, and then returns its cause.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
