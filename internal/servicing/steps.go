package servicing

import (
	"context"
	"log/slog"

	"github.com/trident-project/trident/internal/errkind"
)

// staged is where the list is cut: staging ends before it, finalizing begins there.
const staged = 4

// steps is a runtime update. What a configuration does not have, its step finds
// in the record and does nothing.
func (s *Service) steps() []opStep {
	later := func(context.Context, *opRun) error {
		return errkind.Errorf(errkind.Unsupported, "runtime updates are being built")
	}
	return []opStep{
		{Name: "begin", Do: later},
		{Name: "fetch", Do: later},
		{Name: "check", Do: later},
		{Name: "stage", Do: later},
		{Name: "finalize", Do: later},
		{Name: "settle", Do: later},
	}
}

// look is all of an operation that has nothing to do: it says why.
func (s *Service) look(_ context.Context, r *opRun) error {
	for _, why := range r.State.Reasons {
		r.Logf(slog.LevelInfo, "%s", why)
	}
	return nil
}
