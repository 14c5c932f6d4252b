package servicing

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing/change"
)

// Plan returns what Update would do with a configuration, and changes nothing. It makes
// the checks of the operation that come before the first change, except those of extensions
// that it would have to fetch.
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

// RequiredKind returns the kind of servicing that Update would begin for a configuration.
// It is cheaper than Plan, and does not check whether the update would succeed.
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

// PlanInstall returns what Install would do to this host, and what it would destroy on
// the disks. It changes nothing, and accepts a provisioned host, too.
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

// PlanRebuild returns what RebuildRAID would do to the disks and arrays of this host, and
// changes nothing.
func (s *Service) PlanRebuild(ctx context.Context) (*Plan, error) {
	st, err := s.State(ctx)
	if err == nil {
		err = unready(st)
	}
	if err != nil {
		return nil, wrap("plan the rebuild of RAID arrays", err)
	}
	p, err := s.arrays.Plan(ctx, st)
	return p, wrap("plan the rebuild of RAID arrays", err)
}
