package runtime

import (
	"context"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// The kinds of operations in the journal.
const (
	opUpdate           = "runtime-update"
	opUpdateStage      = "runtime-update-stage"
	opUpdateFinalize   = "runtime-update-finalize"
	opRollback         = "runtime-rollback"
	opRollbackStage    = "runtime-rollback-stage"
	opRollbackFinalize = "runtime-rollback-finalize"
	opNothing          = "no-servicing"
)

// Register registers the operations of this package with the runner of the host.
func (s *Service) Register() {
	s.start = map[string]operation.Starter[record]{}
	all := change.Runnable(s.steps())
	stage, finalize := operation.Until(all, "stage"), operation.From(all, "finalize")
	for name, steps := range map[string][]operation.Step[record]{
		opUpdate: all, opUpdateStage: stage, opUpdateFinalize: finalize,
		opRollback: all, opRollbackStage: stage, opRollbackFinalize: finalize,
		OpReset:   change.Runnable(s.resetSteps()),
		opNothing: {{Name: "look", Do: s.explain}}, // no Undo: the operation has nothing to do
	} {
		s.start[name] = operation.Register(s.Runner, operation.Kind[record]{Name: name, Steps: steps})
	}
}

func (s *Service) begins(kind, summary string, r record) change.Begin {
	return func(ctx context.Context) (operation.Operation, error) { return s.start[kind](ctx, summary, r) }
}

// Update decides to update a host from the configuration runs to asked, or with finalize
// false to stage that. fresh: Trident has not provisioned the host.
func (s *Service) Update(runs, asked *hostconfig.Config, fresh bool, reasons []string, finalize, callerReboots bool) change.Begin {
	r := record{Asked: asked.Recorded(), Old: runs.Recorded(), Reasons: reasons, CallerReboots: callerReboots}
	if fresh {
		r.Purpose = adopts
	}
	if !finalize {
		return s.begins(opUpdateStage, "stage a runtime update", r)
	}
	return s.begins(opUpdate, "update the host at run time", r)
}

// Finalize decides to finalize the staged update or rollback.
func (s *Service) Finalize(st change.State, callerReboots bool) change.Begin {
	r := record{Asked: st.Next.Recorded(), Old: st.Runs.Recorded(), CallerReboots: callerReboots}
	if st.Phase == hoststate.StagedRuntimeRollback {
		r.Purpose = goesBack
		return s.begins(opRollbackFinalize, "finalize a rollback at run time", r)
	}
	return s.begins(opUpdateFinalize, "finalize a runtime update", r)
}

// RollBack decides to roll back to the configuration back, or with finalize false to stage
// that.
func (s *Service) RollBack(st change.State, back *hostconfig.Config, finalize, callerReboots bool) change.Begin {
	r := record{Asked: back.Recorded(), Old: st.Runs.Recorded(), Purpose: goesBack, CallerReboots: callerReboots}
	if !finalize {
		return s.begins(opRollbackStage, "stage a rollback at run time", r)
	}
	return s.begins(opRollback, "roll the host back at run time", r)
}

// Nothing decides to only log why. asked is the configuration that the host has, or has
// staged, or nil. With unstage, the operation also discards what is staged.
func (s *Service) Nothing(asked *hostconfig.Config, unstage bool, why ...string) change.Begin {
	r := record{Reasons: why}
	if unstage {
		r.Purpose = unstages
	}
	if asked != nil {
		r.Asked = asked.Recorded()
	}
	return s.begins(opNothing, "nothing to do: "+why[0], r)
}

// Plan completes out, the plan of an update from the configuration runs. It makes the
// checks of "fetch" and "check", except those of extensions, which it would have to fetch.
func (s *Service) Plan(ctx context.Context, runs *hostconfig.Config, out *change.Plan) error {
	return s.Rehearse(func(dry *change.Host) error {
		return (&Service{Host: dry, Self: s.Self}).plan(ctx, runs, out)
	})
}

func (s *Service) plan(ctx context.Context, runs *hostconfig.Config, out *change.Plan) error {
	r := operation.Rehearse("plan", record{Asked: out.Effective.Recorded(), Old: runs.Recorded()}, out.Warn)
	w, err := r.State.compare()
	if err == nil {
		err = s.copySources(ctx, w)
	}
	for _, check := range []func(context.Context, *opRun, comparison) error{s.checkFiles, s.checkScripts, s.checkNetplan} {
		if err == nil {
			err = check(ctx, r, w)
		}
	}
	out.Steps = change.Planned(s.steps(), &planned{config: w.asked, change: w.change})
	return err
}

// KindOf returns what an operation of a kind does to its host, or "" for another package's,
// and upstream's name of the metric that counts successful ones, or "".
func KindOf(kind string) (does change.Kind, successMetric string) {
	switch kind {
	case opNothing, OpReset: // upstream has no kind for a reset
		return change.None, ""
	case opUpdateStage:
		return change.RuntimeUpdate, ""
	case opUpdate, opUpdateFinalize:
		return change.RuntimeUpdate, "runtime_update_success"
	case opRollbackStage:
		return change.RuntimeRollback, ""
	case opRollback, opRollbackFinalize:
		return change.RuntimeRollback, "manual_rollback_success"
	}
	return "", ""
}

// OnlyFetches reports whether op is an update that has only fetched so far.
func OnlyFetches(op operation.Operation) bool {
	return (op.Kind == opUpdate || op.Kind == opUpdateStage) && (op.Step == "begin" || op.Step == "fetch")
}
