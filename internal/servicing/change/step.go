package change

import (
	"context"

	"github.com/trident-project/trident/internal/operation"
)

// A Step is one of an operation, as operation.Step is, and says in words what it does: P
// is what is known before the operation begins.
type Step[S, P any] struct {
	Name     string
	Do, Undo func(context.Context, *operation.Run[S]) error
	// Effects are what Do would do; nil: nothing that anybody would notice.
	Effects func(*P) []Effect
}

// Runnable is what package operation runs of a list.
func Runnable[S, P any](list []Step[S, P]) []operation.Step[S] {
	out := make([]operation.Step[S], len(list))
	for i, s := range list {
		out[i] = operation.Step[S]{Name: s.Name, Do: s.Do, Undo: s.Undo}
	}
	return out
}

// Planned are the steps of a list that have an effect, and their effects.
func Planned[S, P any](list []Step[S, P], p *P) []PlannedStep {
	var out []PlannedStep
	for _, s := range list {
		if s.Effects == nil {
			continue
		}
		if effects := s.Effects(p); len(effects) > 0 {
			out = append(out, PlannedStep{s.Name, effects})
		}
	}
	return out
}
