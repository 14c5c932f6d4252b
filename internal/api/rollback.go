package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

type rollbackServer struct {
	tridentv1preview.UnimplementedRollbackServiceServer
	servicer
	store *hoststate.Store
}

// CheckRollback returns the kind of the next rollback, if it is the expected one.
func (s *rollbackServer) CheckRollback(ctx context.Context, req *tridentv1preview.CheckRollbackRequest) (*tridentv1preview.CheckRollbackResponse, error) {
	want, err := rollbackFromWire(req.GetKind())
	if err != nil {
		return nil, err
	}
	chain, err := s.chain(ctx)
	if err != nil {
		return nil, err
	}
	out := tridentv1preview.CheckRollbackKind_NO_ROLLBACK_AVAILABLE
	if len(chain) > 0 && (want == "" || want == chain[0].Kind) {
		out = tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED
		if chain[0].Kind == hoststate.ABLink {
			out = tridentv1preview.CheckRollbackKind_AB_ROLLBACK_EXPECTED
		}
	}
	return &tridentv1preview.CheckRollbackResponse{Kind: out}, nil
}

func (s *rollbackServer) Rollback(req *tridentv1preview.RollbackRequest, stream servicingStream) error {
	kind, err := rollbackFromWire(req.GetKind())
	if err != nil {
		return err
	}
	return s.run(stream, req.GetFinalize().GetReboot(), func(ctx context.Context, callerReboots bool) (string, error) {
		return s.host.Rollback(ctx, servicing.RollbackRequest{Kind: kind, Stage: true, Finalize: true, CallerReboots: callerReboots})
	})
}

func (s *rollbackServer) RollbackStage(req *tridentv1preview.RollbackStageRequest, stream servicingStream) error {
	kind, err := rollbackFromWire(req.GetKind())
	if err != nil {
		return err
	}
	return s.run(stream, nil, func(ctx context.Context, _ bool) (string, error) {
		return s.host.Rollback(ctx, servicing.RollbackRequest{Kind: kind, Stage: true})
	})
}

func (s *rollbackServer) RollbackFinalize(req *tridentv1preview.RollbackFinalizeRequest, stream servicingStream) error {
	return s.run(stream, req.GetReboot(), func(ctx context.Context, callerReboots bool) (string, error) {
		return s.host.Rollback(ctx, servicing.RollbackRequest{Finalize: true, CallerReboots: callerReboots})
	})
}

func (s *rollbackServer) GetRollbackChain(ctx context.Context, _ *tridentv1preview.GetRollbackChainRequest) (*tridentv1preview.GetRollbackChainResponse, error) {
	chain, err := s.chain(ctx)
	if err != nil {
		return nil, err
	}
	return &tridentv1preview.GetRollbackChainResponse{RollbackChain: mapSlice(fitting(chain), linkToText)}, nil
}

func (s *rollbackServer) GetRollbackTarget(ctx context.Context, _ *tridentv1preview.GetRollbackTargetRequest) (*tridentv1preview.GetRollbackTargetResponse, error) {
	chain, err := s.chain(ctx)
	if err != nil || len(chain) == 0 {
		return &tridentv1preview.GetRollbackTargetResponse{}, err
	}
	spec := specToText(chain[0].Spec)
	return &tridentv1preview.GetRollbackTargetResponse{RollbackTarget: &spec}, nil
}

// chain returns the states that the host can return to. It fails if the newest record
// cannot be read, because an empty chain means that no rollback is possible.
func (s *rollbackServer) chain(ctx context.Context) ([]hoststate.Link, error) {
	if _, err := s.store.Status(ctx); err != nil {
		return nil, err
	}
	return s.store.Chain(ctx)
}

// rollbackFromWire returns the kind of rollback that the caller expects; "" is any.
func rollbackFromWire(k tridentv1preview.ManualRollbackKind) (hoststate.LinkKind, error) {
	switch k {
	case tridentv1preview.ManualRollbackKind_MANUAL_ROLLBACK_KIND_UNSPECIFIED, tridentv1preview.ManualRollbackKind_ANY_ROLLBACK_REQUESTED:
		return "", nil
	case tridentv1preview.ManualRollbackKind_AB_ROLLBACK_REQUESTED:
		return hoststate.ABLink, nil
	case tridentv1preview.ManualRollbackKind_RUNTIME_ROLLBACK_REQUESTED:
		return hoststate.RuntimeLink, nil
	}
	return "", errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d is not a kind of rollback", k), "kind")
}

// linkToText returns one entry of the chain as upstream prints it: a YAML mapping.
func linkToText(l hoststate.Link) string {
	volume := "null"
	if l.ABActiveVolume != "" {
		volume = string(l.ABActiveVolume)
	}
	indented := "  " + strings.ReplaceAll(strings.TrimSpace(specToText(l.Spec)), "\n", "\n  ")
	return fmt.Sprintf("kind: %s\nspec:\n%s\nabActiveVolume: %s\ninstallIndex: %d\n", l.Kind, indented, volume, l.InstallIndex)
}

// specToText returns a recorded configuration in the current form, or as recorded if it
// cannot be read any more.
func specToText(spec string) string {
	c, err := hostconfig.ParseRecorded([]byte(spec))
	if err != nil {
		return strings.ToValidUTF8(spec, "?")
	}
	return string(c.YAMLWithDefaults())
}

// fitting returns the newest entries of a chain, as many as fit into a message.
func fitting(chain []hoststate.Link) []hoststate.Link {
	total := 0
	for i, l := range chain {
		if total += len(l.Spec); total > maxAnswer/4 {
			return chain[:i]
		}
	}
	return chain
}
