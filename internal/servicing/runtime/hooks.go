package runtime

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// checkHealth runs the health checks of a runtime update. Where a host is rolled
// back by command nothing is checked: what it was before is where it shall go, and
// there is nowhere else.
func (s *Service) checkHealth(ctx context.Context, r *opRun) error {
	w, err := r.State.compare()
	if err != nil {
		return err
	}
	if r.State.Back {
		return nil
	}
	return hooks.CheckHealth(ctx, s.Host, r, r.ID, w.asked.Spec().Health, hostconfig.OnRuntimeUpdate)
}

func (s *Service) preServicing(ctx context.Context, r *opRun) error {
	w, err := r.State.compare()
	if err != nil {
		return err
	}
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Pre(w.asked, hostconfig.OnRuntimeUpdate))
}

func (s *Service) postConfigure(ctx context.Context, r *opRun) error {
	w, err := r.State.compare()
	if err != nil {
		return err
	}
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Point{
		ID: "post", Name: "post-configure", On: hostconfig.OnRuntimeUpdate, Scripts: w.asked.Spec().Scripts.PostConfigure,
	})
}
