package servicing

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

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
