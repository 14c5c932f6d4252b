package servicing

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
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
	if req.Config, err = s.knownImage(ctx, req.Config); err != nil {
		return "", wrap("update", err)
	}
	id, err := s.decide(ctx, func(st state) (decision, error) {
		p, err := st.plan(req.Config)
		if err != nil {
			return nil, err
		}
		return s.decideUpdate(st, p, req)
	})
	return id, wrap("update", err)
}

func (s *Service) decideUpdate(st state, p plan, req UpdateRequest) (decision, error) {
	r := record{CallerReboots: req.CallerReboots, Reasons: reasons(p.change)}
	switch {
	case !req.Stage && !req.Finalize:
		return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
	case st.phase == hoststate.StagedRuntimeUpdate && same(p.asked, st.next),
		st.phase == hoststate.StagedABUpdate && same(like(p.asked, st.next), st.next):
		if req.Finalize {
			return s.decideFinalize(st, req.CallerReboots)
		}
		return s.begins(nothing(st, "the configuration is staged already"))
	case st.phase == hoststate.StagedInstall:
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "an installation is staged, not an update"))
	case p.change.Kind == diff.KindNone:
		return s.begins(unwanted(st, append([]string{noUpdate}, r.Reasons...)...))
	case p.change.Kind > diff.KindRuntimeUpdate:
		return s.updateOS(st, p, req)
	case !req.Stage:
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "the configuration is not staged, and may not be staged now"))
	}
	r.Asked, r.Old, r.Fresh = string(p.asked.YAML()), string(p.runs.YAML()), st.runs == nil
	if !req.Finalize {
		return s.begins(opUpdateStage, "stage a runtime update", r, nil)
	}
	return s.begins(opUpdate, "update the host at run time", r, nil)
}

// Finalize begins to put into effect what is staged by Update.
func (s *Service) Finalize(ctx context.Context, callerReboots bool) (operationID string, err error) {
	id, err := s.decide(ctx, func(st state) (decision, error) {
		switch st.phase {
		case hoststate.StagedRuntimeUpdate, hoststate.StagedABUpdate:
			return s.decideFinalize(st, callerReboots)
		case hoststate.Settled{}:
			return s.begins(nothing(st, "nothing is staged"))
		case hoststate.Fresh{}:
			err := errkind.Errorf(errkind.Precondition, "the host was never provisioned, and nothing is staged")
			return nil, errkind.WithName(err, errkind.NameHostNotProvisioned)
		}
		return nil, unexpected(errkind.Errorf(errkind.Precondition, "what is staged is no update: the state is %s", st.phase.State()))
	})
	return id, wrap("finalize update", err)
}

// decideFinalize is for what is staged, be it an update or a rollback.
func (s *Service) decideFinalize(st state, callerReboots bool) (decision, error) {
	if st.phase == hoststate.StagedABUpdate || st.phase == hoststate.StagedABRollback {
		return s.finalizeOS(st, callerReboots)
	}
	r := record{Asked: string(st.next.YAML()), Old: string(st.runs.YAML()), CallerReboots: callerReboots}
	if st.phase == hoststate.StagedRuntimeRollback {
		r.Back = true
		return s.begins(opRollbackFinalize, "finalize a rollback at run time", r, nil)
	}
	return s.begins(opUpdateFinalize, "finalize a runtime update", r, nil)
}

// Rollback begins to go back one step of the chain (see Chain).
// An operation that only fetches yet is cancelled for it.
func (s *Service) Rollback(ctx context.Context, req RollbackRequest) (operationID string, err error) {
	if err := s.endFetch(ctx, req); err != nil {
		return "", wrap("roll back", err)
	}
	id, err := s.decide(ctx, func(st state) (decision, error) {
		if !req.Stage && !req.Finalize {
			return nil, errkind.Errorf(errkind.Invalid, "neither staging nor finalizing is allowed")
		}
		switch st.phase {
		case hoststate.StagedRuntimeRollback, hoststate.StagedABRollback:
			if req.Finalize {
				return s.decideFinalize(st, req.CallerReboots)
			}
			return s.begins(nothing(st, "the rollback is staged already"))
		case hoststate.Settled{}:
			if req.Stage {
				return s.decideRollback(ctx, st, req)
			}
			err := errkind.Errorf(errkind.Precondition, "no rollback is staged: the host is in the state %s", st.phase.State())
			err = errkind.WithHint(err, "Stage it first: trident rollback --allowed-operations stage")
			return nil, errkind.WithName(err, errkind.NameInvalidRollbackState)
		}
		return s.begins(nothing(st, fmt.Sprintf("no rollback is possible in the state %s", st.phase.State())))
	})
	return id, wrap("roll back", err)
}

// endFetch cancels an operation that has not changed what the host runs and waits for
// bytes of a server, and waits until it is taken back, so that no server can keep
// the host from going back. It does nothing if there is nothing to go back to.
func (s *Service) endFetch(ctx context.Context, req RollbackRequest) error {
	chain, err := s.Chain(ctx)
	if err != nil || len(chain) == 0 || !req.Stage || req.Kind != "" && req.Kind != chain[0].Kind {
		return err
	}
	return s.Runner.Preempt(ctx, func(op operation.Operation) bool {
		switch op.Kind {
		case opUpdate, opUpdateStage:
			return op.Step == "begin" || op.Step == "fetch"
		case opABUpdate, opABUpdateStage: // the slot that is written is not the one that runs
			return slices.Contains([]string{"begin", "image", "write"}, op.Step)
		}
		return s.Self.IsOnlyFetching(op)
	})
}

func (s *Service) decideRollback(ctx context.Context, st state, req RollbackRequest) (decision, error) {
	chain, err := s.Chain(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(chain) == 0:
		return s.begins(nothing(st, "there is nothing to roll back to"))
	case req.Kind != "" && req.Kind != chain[0].Kind:
		err := errkind.Errorf(errkind.Precondition, "the next rollback is of the kind %s, not %s", chain[0].Kind, req.Kind)
		return nil, errkind.WithName(err, errkind.NameInvalidRollbackExpectation)
	case chain[0].Kind == hoststate.ABLink:
		return s.rollBackOS(st, chain[0], req)
	}
	back, err := hostconfig.ParseRecorded([]byte(chain[0].Spec))
	if err != nil {
		return nil, err
	}
	r := record{Asked: string(back.YAML()), Old: string(st.runs.YAML()), Back: true, CallerReboots: req.CallerReboots}
	if !req.Finalize {
		return s.begins(opRollbackStage, "stage a rollback at run time", r, nil)
	}
	return s.begins(opRollback, "roll the host back at run time", r, nil)
}

// A decision is the operation that a request comes to: it begins it.
type decision func(context.Context) (operation.Operation, error)

// begins is the decision for an operation at run time.
func (s *Service) begins(kind, summary string, r record, err error) (decision, error) {
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (operation.Operation, error) { return s.start[kind](ctx, summary, r) }, nil
}

// beginsOS is the decision for one on a whole OS.
func (s *Service) beginsOS(kind, summary string, r osRecord) decision {
	return func(ctx context.Context) (operation.Operation, error) { return s.startOS[kind](ctx, summary, r) }
}

// decide weighs a request against the state of the host and begins what it comes
// to.
func (s *Service) decide(ctx context.Context, weigh func(state) (decision, error)) (id string, err error) {
	return s.decideAny(ctx, func(st state) (decision, error) {
		if err := st.unready(); err != nil {
			return nil, err
		}
		return weigh(st)
	})
}

// decideAny is decide for what is asked of a host on trial, too.
func (s *Service) decideAny(ctx context.Context, weigh func(state) (decision, error)) (id string, err error) {
	s.begin.Lock()
	defer s.begin.Unlock()
	if id, busy := s.Runner.Active(); busy { // what it is about to change need not be looked at
		return "", errkind.WithHint(errkind.Errorf(errkind.Busy, "another operation is running: %s", id),
			"follow it with: trident operation watch %s; end it with: trident operation cancel %s", id, id)
	}
	st, err := s.state(ctx)
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

// noUpdate begins with upstream's text, which its tests search for.
const noUpdate = "No update servicing required: the host has what the configuration says"

// nothing is the decision to do nothing but say why. Asked is what the host has, or
// has staged: the image is told from it.
func nothing(st state, why ...string) (kind, summary string, r record, err error) {
	r = record{Reasons: why}
	if has := cmp.Or(st.next, st.runs); has != nil {
		r.Asked = string(has.YAML())
	}
	return opNothing, "nothing to do: " + why[0], r, nil
}

// unwanted is the same where the host has what it shall have, so that what is
// staged is not wanted any more.
func unwanted(st state, why ...string) (kind, summary string, r record, err error) {
	kind, summary, r, err = nothing(state{runs: st.runs}, why...)
	r.Unstage = st.next != nil
	return kind, summary, r, err
}

// Status is what the host is recorded to be; it may be asked for at any time.
func (s *Service) Status(ctx context.Context) (hoststate.Status, error) { return s.Store.Status(ctx) }

// Chain is what the host can be rolled back to, the next first.
func (s *Service) Chain(ctx context.Context) ([]hoststate.Link, error) { return s.Store.Chain(ctx) }

// Outcome tells what came of an operation; false if it is none of this package's.
func (s *Service) Outcome(op operation.Operation) (Outcome, bool) {
	o := Outcome{Failure: op.Failure, RebootNeeded: op.Waiting == operation.Reboot, Kind: kindOf(op.Kind)}
	if o.Kind == "" {
		return Outcome{}, false
	}
	var r struct {
		Install, Back bool
		SHA384, Asked string
	}
	if json.Unmarshal(op.State, &r) == nil {
		o.ImageSHA384 = cmp.Or(r.SHA384, imageOf(r.Asked))
	}
	if op.Kind == opCommit { // of which of them is in its record
		switch {
		case r.Install:
			o.Kind = CleanInstall
		case r.Back:
			o.Kind = ABRollback
		}
	}
	return o, true
}

// ImageSHA384 is the hash of the image that the host has by its record, as in
// Outcome.
func (s *Service) ImageSHA384(ctx context.Context) string {
	st, err := s.Store.Status(ctx)
	if err != nil {
		return ""
	}
	return imageOf(st.Spec)
}

// imageOf is the hash of the image of a recorded configuration; "" for none.
func imageOf(spec string) string {
	c, err := parsedOrEmpty(spec)
	if err != nil || c.Spec().Image == nil || c.Spec().Image.SHA384 == hostconfig.HashIgnored {
		return ""
	}
	return string(c.Spec().Image.SHA384)
}

// imageTime bounds how long the metadata of an image may take before it is known
// what an update has to do.
const imageTime = 30 * time.Second

// knownImage is c with the hash of its image, if that is ignored and the image turns
// out to be the one that the host runs, at another URL. An image that cannot be
// opened is left to the operation, which tells why.
func (s *Service) knownImage(ctx context.Context, c *hostconfig.Config) (*hostconfig.Config, error) {
	want := c.Spec().Image
	if _, busy := s.Runner.Active(); busy || want == nil || want.SHA384 != hostconfig.HashIgnored {
		return c, nil
	}
	st, err := s.state(ctx)
	if err != nil {
		return c, err
	}
	at := func(has *hostconfig.Config) bool {
		return has != nil && has.Spec().Image != nil && has.Spec().Image.URL == want.URL
	}
	if st.runs == nil || st.runs.Spec().Image == nil || at(st.runs) || at(st.next) {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, imageTime)
	defer cancel()
	i, err := s.open(ctx, imageSource{
		url: string(want.URL), digest: Ignored, relaxed: flag(c, "relaxedCosiValidation"), meter: fetch.NewMeter(number(c, paramRate), number(c, paramBudget), 0),
	}, silent{})
	if err != nil {
		return c, nil
	}
	defer i.Close()
	if hash := hostconfig.ImageHash(i.SHA384()); hash == st.runs.Spec().Image.SHA384 {
		return c.Amend(func(spec *hostconfig.Spec) { spec.Image.SHA384 = hash }), nil
	}
	return c, nil
}

// silent is a teller of what nobody follows.
type silent struct{}

func (silent) Logf(slog.Level, string, ...any) {}

// kindOf is what an operation of a kind in the journal is to its host, or "".
func kindOf(kind string) Kind {
	switch kind {
	case opNothing, opCheckRoot:
		return None
	case opUpdate, opUpdateStage, opUpdateFinalize:
		return RuntimeUpdate
	case opRollback, opRollbackStage, opRollbackFinalize:
		return RuntimeRollback
	case opInstall, opInstallStage, opInstallFinalize, opStreamDisk:
		return CleanInstall
	case opABUpdate, opABUpdateStage, opABUpdateFinalize, opCommit:
		return ABUpdate
	case opABRollback, opABRollbackStage, opABRollbackFinalize:
		return ABRollback
	}
	return ""
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
