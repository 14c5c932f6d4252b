package runtime

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// checkHealth runs the health checks of a runtime update. It runs none in a rollback that
// a caller has requested: Trident has no better state to which it could return.
func (s *Service) checkHealth(ctx context.Context, r *opRun, w comparison) error {
	if r.State.Purpose == goesBack {
		return nil
	}
	return hooks.CheckHealth(ctx, s.Host, r, r.ID, w.asked.Spec().Health, hostconfig.OnRuntimeUpdate)
}

func (s *Service) preServicing(ctx context.Context, r *opRun, w comparison) error {
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Pre(w.asked, hostconfig.OnRuntimeUpdate))
}

func (s *Service) postConfigure(ctx context.Context, r *opRun, w comparison) error {
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Point{
		ID: "post", Name: "post-configure", On: hostconfig.OnRuntimeUpdate, Scripts: w.asked.Spec().Scripts.PostConfigure,
	})
}
