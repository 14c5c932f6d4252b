package selfservice

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// hasty is a systemd that stops the caller before it has answered.
type hasty struct {
	systemd.Manager
	stop context.CancelFunc
}

func (h hasty) Restart(ctx context.Context, _ string) error {
	h.stop()
	return ctx.Err()
}

func TestARestartIsWaitedForEvenIfItStopsUsBeforeSystemdAnswers(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s := &Service{Config: Config{Systemd: hasty{stop: stop}}}
	if err := s.restart(ctx, "restart"); !errors.Is(err, operation.ErrRestart) {
		t.Errorf("%v, want %v", err, operation.ErrRestart)
	}
}

func TestAFaultDuringARollbackByTheRescuerIsNotItsReason(t *testing.T) {
	ctx := t.Context()
	quiet := slog.New(slog.DiscardHandler)
	runner := operation.New(ctx, operation.Config{
		Journal: operationtest.NewMemory(), Life: operation.Life{Boot: "b", Process: "p"}, Logger: quiet,
	})
	s := New(Config{Root: tempDir(t), Version: "2.0.0", Runner: runner, Logger: quiet})
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// There is no image at all: it was put aside.
	begin := operation.Register(runner, operation.Kind[record]{Name: "proof", Steps: []opStep{{Name: "prove", Do: func(ctx context.Context, r *opRun) error {
		err := errors.Join(s.trial.Begin(rescue.Record{Operation: r.ID, Deadline: 60}), s.trial.GiveUp(rescue.Record{Operation: r.ID, Reason: "tridentd crashed"}))
		if err != nil {
			t.Error(err)
		}
		return s.prove(ctx, r)
	}}}})
	if err := runner.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	op, err := begin(ctx, "proof", record{Version: "2.0.0", Trial: Trial{Deadline: defaultDeadline}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range runner.Watch(ctx, op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if op, err = runner.Get(ctx, op.ID); err != nil {
		t.Fatal(err)
	}
	if f := op.Failure; f == nil || f.Kind != errkind.Unhealthy || !strings.Contains(f.Message, "trident 2.0.0 was rolled back: tridentd crashed") {
		t.Errorf("failure %+v", f)
	}
}

func TestTheRescuerHasTheSandboxOfTransientUnits(t *testing.T) {
	if !strings.Contains(rescue.BootUnit, "\n"+systemd.Sandbox()) {
		t.Errorf("the boot unit has another sandbox than systemd.Sandbox:\n%s", rescue.BootUnit)
	}
}
