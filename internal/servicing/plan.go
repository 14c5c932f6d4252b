package servicing

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing/change"
)

// Plan says what Update would do for a configuration. It changes nothing. What the
// operation would fail for before it changes something is an error here too, as far as
// it can be known without fetching extensions.
func (s *Service) Plan(ctx context.Context, c *hostconfig.Config) (*Plan, error) {
	p, err := s.planUpdate(ctx, c)
	return p, wrap("plan update", err)
}

func (s *Service) planUpdate(ctx context.Context, c *hostconfig.Config) (*Plan, error) {
	c, err := s.slots.KnownImage(ctx, c)
	if err != nil {
		return nil, err
	}
	st, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.plan(st, c)
	if err != nil {
		return nil, err
	}
	out := &Plan{Kind: kindOfChange(p.change.Kind), Reasons: p.change.Reasons, Effective: p.asked}
	switch {
	case p.change.Kind == diff.KindRuntimeUpdate:
		err = s.runtime.Plan(ctx, p.runs, out)
	case p.change.Kind == diff.KindABUpdate && st.Runs != nil:
		err = s.slots.Plan(ctx, st, out)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func kindOfChange(k diff.Kind) Kind {
	switch k {
	case diff.KindRuntimeUpdate:
		return RuntimeUpdate
	case diff.KindABUpdate:
		return ABUpdate
	case diff.KindCleanInstall:
		return CleanInstall
	}
	return None
}

// RequiredKind says what kind of servicing Update would be for a configuration. It is
// cheaper than Plan, and says nothing of whether the update would succeed.
func (s *Service) RequiredKind(ctx context.Context, c *hostconfig.Config) (Kind, error) {
	c, err := s.slots.KnownImage(ctx, c)
	if err != nil {
		return None, wrap("compare with the host", err)
	}
	st, err := s.State(ctx)
	if err != nil {
		return None, wrap("compare with the host", err)
	}
	p, err := s.plan(st, c)
	return kindOfChange(p.change.Kind), wrap("compare with the host", err)
}

// PlanInstall says what Install would do to this host, and what of its disks it would
// destroy. It changes nothing, and may be asked for on any host.
func (s *Service) PlanInstall(ctx context.Context, c *hostconfig.Config) (*Plan, error) {
	asked, err := s.installable(change.State{Phase: hoststate.Fresh{}}, c)
	if err != nil {
		return nil, wrap("plan installation", err)
	}
	out := &Plan{Kind: CleanInstall, Effective: asked}
	if err := s.slots.PlanInstall(ctx, out); err != nil {
		return nil, wrap("plan installation", err)
	}
	return out, nil
}
