package servicing

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// Update begins to make the host what the configuration says. It may be asked
// again for what is staged already, and then finalizes that. Where there is
// nothing to do the operation only says why.
//
// Errors: of kind Invalid for a configuration that does not fit what the host
// has, Unsupported where more than a runtime update would be needed, Busy.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (operationID string, err error) {
	id, err := s.decide(ctx, func(st state) (string, string, record, error) {
		p, err := st.plan(req.Config)
		if err != nil {
			return "", "", record{}, err
		}
		return s.decideUpdate(st, p, req)
	})
	return id, wrap("update", err)
}

func (s *Service) decideUpdate(st state, p plan, req UpdateRequest) (kind, summary string, r record, err error) {
	r = record{CallerReboots: req.CallerReboots, Reasons: reasons(p.change)}
	switch {
	case !req.Stage && !req.Finalize:
		return "", "", r, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
	case st.phase == hoststate.StagedRuntimeUpdate && same(p.asked, st.next):
		if req.Finalize {
			return s.decideFinalize(st, req.CallerReboots)
		}
		return nothing("the configuration is staged already")
	case p.change.Kind == hostconfig.KindNone:
		return unwanted(st, append([]string{"no update is needed: the host has what the configuration says"}, r.Reasons...)...)
	case p.change.Kind > hostconfig.KindRuntimeUpdate:
		return "", "", r, unbuilt(p.change)
	case !req.Stage:
		return "", "", r, unexpected(errkind.Errorf(errkind.Precondition, "the configuration is not staged, and may not be staged now"))
	}
	r.Asked, r.Old, r.Fresh = string(p.asked.YAML()), string(p.runs.YAML()), st.runs == nil
	if !req.Finalize {
		return opUpdateStage, "stage a runtime update", r, nil
	}
	return opUpdate, "update the host at run time", r, nil
}

// Finalize begins to put into effect what is staged by Update.
func (s *Service) Finalize(ctx context.Context, callerReboots bool) (operationID string, err error) {
	id, err := s.decide(ctx, func(st state) (string, string, record, error) {
		switch st.phase {
		case hoststate.StagedRuntimeUpdate:
			return s.decideFinalize(st, callerReboots)
		case hoststate.Settled{}:
			return nothing("nothing is staged")
		case hoststate.Fresh{}:
			err := errkind.Errorf(errkind.Precondition, "the host was never provisioned, and nothing is staged")
			return "", "", record{}, errkind.WithName(err, "HostNotProvisioned")
		}
		return "", "", record{}, unexpected(errkind.Errorf(errkind.Precondition, "a rollback is staged, not an update"))
	})
	return id, wrap("finalize update", err)
}

// decideFinalize is for what is staged, be it an update or a rollback.
func (s *Service) decideFinalize(st state, callerReboots bool) (kind, summary string, r record, err error) {
	r = record{Asked: string(st.next.YAML()), Old: string(st.runs.YAML()), CallerReboots: callerReboots}
	if st.phase == hoststate.StagedRuntimeRollback {
		r.Back = true
		return opRollbackFinalize, "finalize a rollback at run time", r, nil
	}
	return opUpdateFinalize, "finalize a runtime update", r, nil
}

// Commit confirms what was booted. A runtime update needs no such thing, so that
// "" is the result, without an operation, unless the host is in a state that only
// a version with A/B updates knows.
func (s *Service) Commit(ctx context.Context, _ bool) (operationID string, err error) {
	st, err := s.state(ctx)
	if err != nil {
		return "", wrap("commit", err)
	}
	if _, trying := st.phase.(hoststate.Trying); trying {
		return "", wrap("commit", st.unready())
	}
	return "", nil
}

// Rollback begins to go back one step of the chain (see Chain).
func (s *Service) Rollback(ctx context.Context, req RollbackRequest) (operationID string, err error) {
	id, err := s.decide(ctx, func(st state) (string, string, record, error) {
		if !req.Stage && !req.Finalize {
			return "", "", record{}, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
		}
		switch st.phase {
		case hoststate.StagedRuntimeRollback:
			if req.Finalize {
				return s.decideFinalize(st, req.CallerReboots)
			}
			return nothing("the rollback is staged already")
		case hoststate.Settled{}:
			if req.Stage {
				return s.decideRollback(ctx, st, req)
			}
			return nothing("no rollback is staged")
		}
		return nothing(fmt.Sprintf("no rollback is possible in the state %s", st.phase.State()))
	})
	return id, wrap("roll back", err)
}

func (s *Service) decideRollback(ctx context.Context, st state, req RollbackRequest) (kind, summary string, r record, err error) {
	chain, err := s.Chain(ctx)
	switch {
	case err != nil:
		return "", "", r, err
	case len(chain) == 0:
		return nothing("there is nothing to roll back to")
	case req.Kind != "" && req.Kind != chain[0].Kind:
		err := errkind.Errorf(errkind.Precondition, "the next rollback is of the kind %s, not %s", chain[0].Kind, req.Kind)
		return "", "", r, errkind.WithName(err, "InvalidRollbackExpectation")
	case chain[0].Kind != hoststate.RuntimeLink:
		return "", "", r, errkind.Errorf(errkind.Unsupported, "this version of Trident cannot roll back an A/B update yet")
	}
	back, err := hostconfig.ParseRecorded([]byte(chain[0].Spec))
	if err != nil {
		return "", "", r, err
	}
	r = record{Asked: string(back.YAML()), Old: string(st.runs.YAML()), Back: true, CallerReboots: req.CallerReboots}
	if !req.Finalize {
		return opRollbackStage, "stage a rollback at run time", r, nil
	}
	return opRollback, "roll the host back at run time", r, nil
}

// decide weighs a request against the state of the host and begins what it comes
// to.
func (s *Service) decide(ctx context.Context, weigh func(state) (kind, summary string, r record, err error)) (id string, err error) {
	s.begin.Lock()
	defer s.begin.Unlock()
	if id, busy := s.Runner.Active(); busy { // what it is about to change need not be looked at
		return "", errkind.WithHint(errkind.Errorf(errkind.Busy, "another operation is running: %s", id),
			"follow it with: trident operation watch %s", id)
	}
	st, err := s.state(ctx)
	if err != nil {
		return "", err
	}
	if err := st.unready(); err != nil {
		return "", err
	}
	kind, summary, r, err := weigh(st)
	if err != nil {
		return "", err
	}
	op, err := s.start[kind](ctx, summary, r)
	return op.ID, err
}

// nothing is the decision to do nothing but say why.
func nothing(why ...string) (kind, summary string, r record, err error) {
	return opNothing, "nothing to do: " + why[0], record{Reasons: why}, nil
}

// unwanted is the same where the host has what it shall have, so that what is
// staged is not wanted any more.
func unwanted(st state, why ...string) (kind, summary string, r record, err error) {
	kind, summary, r, err = nothing(why...)
	r.Unstage = st.next != nil
	return kind, summary, r, err
}

// Plan says what Update would do for a configuration, and what that is once it
// is completed from what the host has. It changes nothing.
func (s *Service) Plan(ctx context.Context, c *hostconfig.Config) (hostconfig.Change, *hostconfig.Config, error) {
	st, err := s.state(ctx)
	if err != nil {
		return hostconfig.Change{}, nil, wrap("plan update", err)
	}
	p, err := st.plan(c)
	return p.change, p.asked, wrap("plan update", err)
}

// Status is what the host is recorded to be; it may be asked for at any time.
func (s *Service) Status(ctx context.Context) (hoststate.Status, error) { return s.Store.Status(ctx) }

// Chain is what the host can be rolled back to, the next first.
func (s *Service) Chain(ctx context.Context) ([]hoststate.Link, error) { return s.Store.Chain(ctx) }

// Outcome tells what came of an operation; false if it is none of this package's.
func (s *Service) Outcome(op operation.Operation) (Outcome, bool) {
	o := Outcome{Failure: op.Failure, RebootNeeded: op.Waiting == operation.Reboot}
	switch op.Kind {
	case opNothing:
		o.Kind = None
	case opUpdate, opUpdateStage, opUpdateFinalize:
		o.Kind = RuntimeUpdate
	case opRollback, opRollbackStage, opRollbackFinalize:
		o.Kind = RuntimeRollback
	default:
		return Outcome{}, false
	}
	return o, true
}

// unbuilt refuses what needs more than a runtime update.
func unbuilt(c hostconfig.Change) error {
	err := errkind.Errorf(errkind.Unsupported, "this needs the servicing %s, which this version of Trident cannot do yet: %s", c.Kind, strings.Join(reasons(c), "; "))
	if c.Kind == hostconfig.KindABUpdate {
		err = errkind.WithHint(err, "What can be changed at run time is os.sysexts, os.confexts, os.netplan and os.additionalFiles.")
	}
	return err
}

func unexpected(err error) error { return errkind.WithName(err, "UnexpectedServicingState") }

func same(a, b *hostconfig.Config) bool {
	return a != nil && b != nil && bytes.Equal(a.YAML(), b.YAML())
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
