package servicing

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/runtime"
	"github.com/trident-project/trident/internal/servicing/slots"
	"github.com/trident-project/trident/internal/servicing/slots/rebuild"
	"github.com/trident-project/trident/internal/servicing/slots/wholedisk"
)

// Update begins to update the host to the configuration. If that is staged already,
// Update begins to finalize it. If there is nothing to do, the operation only logs why.
//
// Errors: of kind Invalid for a configuration that does not fit the host, Precondition
// if the state of the host does not permit the update, Busy.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (operationID string, err error) {
	if req.Config, err = s.slots.KnownImage(ctx, req.Config); err != nil {
		return "", wrap("update", err)
	}
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		p, err := s.plan(st, req.Config)
		if err != nil {
			return nil, err
		}
		return s.decideUpdate(st, p, req)
	})
	return id, wrap("update", err)
}

func (s *Service) decideUpdate(st change.State, p plan, req UpdateRequest) (change.Begin, error) {
	switch {
	case !req.Stage && !req.Finalize:
		return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
	case st.Phase == hoststate.StagedRuntimeUpdate && same(p.asked, st.Next),
		st.Phase == hoststate.StagedABUpdate && same(withImageHash(p.asked, st.Next), st.Next):
		if req.Finalize {
			return s.decideFinalize(st, req.CallerReboots)
		}
		return s.nothing(st, "the configuration is staged already"), nil
	case st.Phase == hoststate.StagedInstall:
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "an installation is staged, not an update"))
	case p.change.Kind == diff.KindNone:
		return s.runtime.Nothing(st.Runs, st.Next != nil, append([]string{change.NoUpdate}, reasons(p.change)...)...), nil
	case p.change.Kind > diff.KindRuntimeUpdate:
		return s.updateSlot(st, p, req)
	case !req.Stage:
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "the configuration is not staged, and may not be staged now"))
	}
	return s.runtime.Update(p.runs, p.asked, st.Runs == nil, reasons(p.change), req.Finalize, req.CallerReboots), nil
}

// updateSlot decides to update into the other slot.
func (s *Service) updateSlot(st change.State, p plan, req UpdateRequest) (change.Begin, error) {
	switch {
	case st.Runs == nil:
		err := errkind.Errorf(errkind.Precondition, "this host was never provisioned")
		return nil, errkind.WithName(errkind.WithHint(err, "Install it, or leave image and storage out of the configuration."), errkind.NameHostNotProvisioned)
	case !req.Stage:
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "the configuration is not staged, and may not be staged now"))
	}
	begin, err := s.slots.Update(st, p.asked, reasons(p.change), req.Finalize, req.CallerReboots)
	if err != nil {
		return nil, fmt.Errorf("this needs the servicing %s (%s): %w", p.change.Kind, strings.Join(reasons(p.change), "; "), err)
	}
	return begin, nil
}

// Finalize begins to finalize the update that Update has staged. If nothing is staged, the
// operation only logs that. It fails with Precondition on a host that was never
// provisioned, and if a rollback or an installation is staged.
func (s *Service) Finalize(ctx context.Context, callerReboots bool) (operationID string, err error) {
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		switch st.Phase {
		case hoststate.StagedRuntimeUpdate, hoststate.StagedABUpdate:
			return s.decideFinalize(st, callerReboots)
		case hoststate.Settled{}:
			return s.nothing(st, "nothing is staged"), nil
		case hoststate.Fresh{}:
			err := errkind.Errorf(errkind.Precondition, "the host was never provisioned, and nothing is staged")
			return nil, errkind.WithName(err, errkind.NameHostNotProvisioned)
		}
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "no update is staged: the host is in the state %s", st.Phase.State()))
	})
	return id, wrap("finalize update", err)
}

// decideFinalize decides to finalize the staged update or rollback.
func (s *Service) decideFinalize(st change.State, callerReboots bool) (change.Begin, error) {
	if st.Phase == hoststate.StagedABUpdate || st.Phase == hoststate.StagedABRollback {
		return s.slots.Finalize(st, callerReboots)
	}
	return s.runtime.Finalize(st, callerReboots), nil
}

// Rollback begins to roll the host back to the first state of Chain. It first cancels an
// operation that has only fetched. If no rollback is possible, the operation only logs why.
func (s *Service) Rollback(ctx context.Context, req RollbackRequest) (operationID string, err error) {
	if err := s.endFetch(ctx, req); err != nil {
		return "", wrap("roll back", err)
	}
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		if !req.Stage && !req.Finalize {
			return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
		}
		switch st.Phase {
		case hoststate.StagedRuntimeRollback, hoststate.StagedABRollback:
			if req.Finalize {
				return s.decideFinalize(st, req.CallerReboots)
			}
			return s.nothing(st, "the rollback is staged already"), nil
		case hoststate.Settled{}:
			if req.Stage {
				return s.decideRollback(ctx, st, req)
			}
			err := errkind.Errorf(errkind.Precondition, "no rollback is staged: the host is in the state %s", st.Phase.State())
			err = errkind.WithHint(err, "Stage it first: trident rollback --allowed-operations stage")
			return nil, errkind.WithName(err, errkind.NameInvalidRollbackState)
		}
		return s.nothing(st, fmt.Sprintf("no rollback is possible in the state %s", st.Phase.State())), nil
	})
	return id, wrap("roll back", err)
}

// endFetch cancels an operation that fetches and has not changed what the host runs, and
// waits until it is undone, so that no server can delay a rollback. It does nothing if
// req does not begin a rollback to the first state of Chain.
func (s *Service) endFetch(ctx context.Context, req RollbackRequest) error {
	chain, err := s.Chain(ctx)
	if err != nil || len(chain) == 0 || !req.Stage || req.Kind != "" && req.Kind != chain[0].Kind {
		return err
	}
	return s.Runner.Preempt(ctx, func(op operation.Operation) bool {
		return runtime.OnlyFetches(op) || slots.OnlyWrites(op) || s.runtime.Self.IsOnlyFetching(op)
	})
}

func (s *Service) decideRollback(ctx context.Context, st change.State, req RollbackRequest) (change.Begin, error) {
	chain, err := s.Chain(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(chain) == 0:
		return s.nothing(st, "there is nothing to roll back to"), nil
	case req.Kind != "" && req.Kind != chain[0].Kind:
		err := errkind.Errorf(errkind.Precondition, "the next rollback is of the kind %s, not %s", chain[0].Kind, req.Kind)
		return nil, errkind.WithName(err, errkind.NameInvalidRollbackExpectation)
	}
	back, err := hostconfig.ParseRecorded([]byte(chain[0].Spec))
	if err != nil {
		return nil, err
	}
	if chain[0].Kind == hoststate.ABLink {
		return s.slots.RollBack(st, back, req.Finalize, req.CallerReboots)
	}
	return s.runtime.RollBack(st, back, req.Finalize, req.CallerReboots), nil
}

// decide calls weigh with the state of the host and begins the operation that weigh
// returns. It fails with Precondition during a trial, and with Busy beside an operation.
func (s *Service) decide(ctx context.Context, weigh func(change.State) (change.Begin, error)) (id string, err error) {
	return s.decideAny(ctx, func(st change.State) (change.Begin, error) {
		if err := unready(st); err != nil {
			return nil, err
		}
		return weigh(st)
	})
}

// decideAny is decide for requests that are allowed during a trial, too.
func (s *Service) decideAny(ctx context.Context, weigh func(change.State) (change.Begin, error)) (id string, err error) {
	s.begin.Lock()
	defer s.begin.Unlock()
	if id, busy := s.Runner.Active(); busy { // the state is about to change
		return "", errkind.WithHint(errkind.Errorf(errkind.Busy, "another operation is running: %s", id),
			"follow it with: trident operation watch %s; end it with: trident operation cancel %s", id, id)
	}
	st, err := s.State(ctx)
	if err != nil {
		return "", err
	}
	begin, err := weigh(st)
	if err != nil {
		return "", err
	}
	op, err := begin(ctx)
	return op.ID, err
}

// nothing decides to only log why. The image in the Outcome of that operation is the image
// of the staged configuration, or else of the one that the host has.
func (s *Service) nothing(st change.State, why string) change.Begin {
	return s.runtime.Nothing(cmp.Or(st.Next, st.Runs), false, why)
}

// Status returns the recorded status of the host, also during an operation.
func (s *Service) Status(ctx context.Context) (hoststate.Status, error) { return s.Store.Status(ctx) }

// Chain returns the states to which the host can be rolled back, the next one first.
func (s *Service) Chain(ctx context.Context) ([]hoststate.Link, error) { return s.Store.Chain(ctx) }

// Outcome returns the outcome of an operation so far; false if its kind is unknown here.
func (s *Service) Outcome(op operation.Operation) (Outcome, bool) {
	o := Outcome{Failure: op.Failure, RebootNeeded: op.Waiting == operation.Reboot}
	if o.Kind, _ = kindOf(op.Kind); o.Kind == "" {
		return Outcome{}, false
	}
	var r struct {
		Install, Back bool
		SHA384, Asked string
	}
	if json.Unmarshal(op.State, &r) == nil {
		o.ImageSHA384 = cmp.Or(r.SHA384, change.ImageOf(r.Asked))
	}
	if op.Kind == slots.OpCommit { // its record has the kind of the trial
		switch {
		case r.Install:
			o.Kind = CleanInstall
		case r.Back:
			o.Kind = ABRollback
		}
	}
	return o, true
}

// ImageSHA384 returns the hash of the image in the staged configuration, or else in the
// recorded one; "" if that configuration has no image or the status cannot be read.
func (s *Service) ImageSHA384(ctx context.Context) string {
	st, err := s.Store.Status(ctx)
	if err != nil {
		return ""
	}
	return change.ImageOf(st.Spec)
}

// CarriedExtension is an extension that the image of the running OS carries.
type CarriedExtension struct {
	Class  string // sysext or confext
	Path   string // of the image on the host
	SHA384 string // hexadecimal
}

// CarriedExtensions returns the extensions that the image of the running OS carries; none for a
// host that was never provisioned.
func (s *Service) CarriedExtensions(ctx context.Context) ([]CarriedExtension, error) {
	st, err := s.State(ctx)
	if err != nil || st.Runs == nil || st.Runs.Spec().Image == nil {
		return nil, err
	}
	carried, err := s.Carried(st.Runs)
	var out []CarriedExtension
	for _, e := range carried {
		out = append(out, CarriedExtension{string(e.Class), e.Path, e.SHA384})
	}
	return out, wrap("list the extensions that the OS image carries", err)
}

// kindOf returns the Kind for a kind in the journal, "" if the kind is unknown here, and
// upstream's name of the metric that counts successful operations of it, or "".
func kindOf(kind string) (does Kind, successMetric string) {
	switch kind {
	case wholedisk.OpStreamDisk:
		return CleanInstall, ""
	case rebuild.OpRebuild:
		return None, "" // of upstream's kinds
	}
	if does, successMetric = runtime.KindOf(kind); does == "" {
		does, successMetric = slots.KindOf(kind)
	}
	return does, successMetric
}

func unexpected(err error) error { return errkind.WithName(err, errkind.NameUnexpectedServicingState) }

func same(a, b *hostconfig.Config) bool {
	return a != nil && b != nil && bytes.Equal(a.YAML(), b.YAML())
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
