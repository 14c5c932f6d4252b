package interrupt_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

func TestReadingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := interrupt.Reader(ctx, strings.NewReader("abc"))
	first := make([]byte, 1)
	if _, err := r.Read(first); err != nil || first[0] != 'a' {
		t.Errorf("%q, %v", first, err)
	}
	cancel()
	if rest, err := io.ReadAll(r); len(rest) != 0 || !errors.Is(err, context.Canceled) || errkind.Of(err) != errkind.Cancelled {
		t.Errorf("%q, %v", rest, err)
	}
	if rest, err := io.ReadAll(interrupt.Reader(t.Context(), strings.NewReader("abc"))); err != nil || string(rest) != "abc" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestTheErrorIsTheCauseWithAKind(t *testing.T) {
	ended := func(cause error) context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		return ctx
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	plain, busy := errors.New("the daemon ends"), errkind.Errorf(errkind.Busy, "another operation began")
	for name, tt := range map[string]struct {
		ctx   context.Context
		cause error
		kind  errkind.Kind
	}{
		"a deadline":          {late, context.DeadlineExceeded, errkind.Timeout},
		"a cause":             {ended(plain), plain, errkind.Cancelled},
		"a cause with a kind": {ended(busy), busy, errkind.Busy},
		"one without a cause": {ended(nil), context.Canceled, errkind.Cancelled},
	} {
		if err := interrupt.Err(tt.ctx); !errors.Is(err, tt.cause) || errkind.Of(err) != tt.kind {
			t.Errorf("%s: %s, %v", name, errkind.Of(err), err)
		}
	}
	if err := interrupt.Err(t.Context()); err != nil {
		t.Errorf("a context that goes on: %v", err)
	}
}

func TestAPauseEndsWithItsContext(t *testing.T) {
	if err := interrupt.Sleep(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ends := errors.New("the daemon ends")
	time.AfterFunc(time.Millisecond, func() { cancel(ends) })
	if err := interrupt.Sleep(ctx, time.Hour); !errors.Is(err, ends) {
		t.Error(err)
	}
}
