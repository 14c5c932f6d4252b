package change

import (
	"context"

	"github.com/trident-project/trident/internal/operation"
)

// A Step is an operation.Step that also describes its effects, from the facts P that are
// known before the operation begins.
type Step[S, P any] struct {
	Name     string
	Do, Undo func(context.Context, *operation.Run[S]) error
	// Effects returns the effects of Do; nil for a Do that nobody would notice.
	Effects func(*P) []Effect
}

// Runnable returns the steps of a list for package operation, without Effects.
func Runnable[S, P any](list []Step[S, P]) []operation.Step[S] {
	out := make([]operation.Step[S], len(list))
	for i, s := range list {
		out[i] = operation.Step[S]{Name: s.Name, Do: s.Do, Undo: s.Undo}
	}
	return out
}

// RebootEffects returns the effects of a step that reboots the host.
func RebootEffects[P any](*P) []Effect {
	return []Effect{{"reboot", "", "reboot the host"}}
}

// Planned returns the steps of a list that have an effect, with their effects.
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
