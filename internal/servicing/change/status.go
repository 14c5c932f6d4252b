package change

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// RecordStatus changes the recorded status of the host; name is the name of that host
// change. While the datastore cannot be written the operation is halted.
func (h *Host) RecordStatus(ctx context.Context, name string, change func(*hoststate.Status)) error {
	var st hoststate.Status
	err := operation.Insist(ctx, func() (err error) {
		st, err = h.Store.Status(ctx)
		return err
	})
	if err != nil {
		return err
	}
	change(&st)
	st.TridentVersion = h.Version
	return h.Touch(name, func() error {
		return operation.Insist(ctx, func() error { return h.Store.Record(ctx, st) })
	})
}

// settleAgain is the time between attempts of RecordSettled.
const settleAgain = time.Second

// RecordSettled records that the host has the configuration spec and no error; change sets
// the other fields. With insist, for an operation that cannot be undone any more, it tries
// again until it succeeds or ctx ends.
func (h *Host) RecordSettled(ctx context.Context, r Logger, spec *hostconfig.Config, insist bool, change func(*hoststate.Status)) error {
	for {
		err := h.RecordStatus(ctx, "record settled", func(st *hoststate.Status) {
			st.Phase, st.Spec, st.SpecOld, st.LastError = hoststate.Settled{}, string(spec.YAML()), "", nil
			change(st)
		})
		if err == nil || !insist || ctx.Err() != nil {
			return err
		}
		r.Logf(slog.LevelError, "%v; trying again", err)
		if err := Sleep(ctx, settleAgain); err != nil {
			return err
		}
	}
}

// Unstage changes st to the status that the host had before something was staged.
func Unstage(st *hoststate.Status) {
	switch _, is := st.Phase.(hoststate.Staged); {
	case st.Phase == hoststate.StagedInstall:
		st.Phase, st.Spec, st.SpecOld = hoststate.Fresh{}, "", ""
	case is:
		st.Phase, st.Spec, st.SpecOld = hoststate.Settled{}, st.SpecOld, ""
	}
}

// LastErrorOf returns the failure of an operation for the status of the host. Its message
// does not name the step, so that it begins with upstream's text where there is one.
func LastErrorOf(op operation.Operation) *hoststate.LastError {
	last := hoststate.NewLastError(op.Failure.Err())
	f := op.Failure
	if f == nil {
		return last
	}
	last.Message = strings.TrimPrefix(last.Message, op.Reached+": ")
	if f.File != "" {
		last.Location = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return last
}

// LogStaged logs that staging has succeeded, in words that upstream's tests search for.
func LogStaged(r Logger, phase hoststate.Staged) {
	what := map[hoststate.Staged]string{
		hoststate.StagedInstall: "clean install", hoststate.StagedABUpdate: "A/B update", hoststate.StagedABRollback: "A/B rollback",
		hoststate.StagedRuntimeUpdate: "runtime update", hoststate.StagedRuntimeRollback: "runtime rollback",
	}[phase]
	r.Logf(slog.LevelInfo, "Staging of %s succeeded", what)
}

// Camel returns a word of upstream's as upstream's texts and file names spell it:
// AbUpdateStaged for ab-update-staged.
func Camel(kebab string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(kebab, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
