package servicing

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/operation"
)

// logLines returns level and message of each line of a log in upstream's form.
func logLines(t *testing.T, text string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(text) {
		var entry struct{ Level, Message string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		out = append(out, entry.Level+": "+entry.Message)
	}
	return out
}

// The oldest copies of logs are deleted, and those of other programs and of health checks
// stay.
func TestTheOldestLogsAreDeleted(t *testing.T) {
	t.Parallel()
	withLogs(t, func(t *testing.T, w *world) {
		const others = "var/lib/trident/trident-notes.log"
		w.write(others, "a person's")
		var first []string
		for n := range fullLogsKept + 2 {
			w.ask(file(fmt.Sprint(n)), true, true)
			time.Sleep(time.Second) // of the synctest clock: the names have seconds
			if n == 1 {
				first = keptLogs(t, w.root)
			}
		}
		kept := keptLogs(t, w.root)
		metrics, err := filepath.Glob(filepath.Join(w.root, "var/lib/trident/trident-metrics-*.jsonl"))
		if err != nil || len(kept) != fullLogsKept || len(metrics) != fullLogsKept {
			t.Errorf("%d logs, %d files of metrics, %v", len(kept), len(metrics), err)
		}
		for _, path := range first {
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s, one of the oldest, is still there: %v", path, err)
			}
		}
		if w.text(others) != "a person's" {
			t.Errorf("%s is lost", others)
		}
	})
}

// A log has upstream's words for levels, and a line for each change that people notice.
func TestALogHasTheLevelsOfItsLines(t *testing.T) {
	t.Parallel()
	withLogs(t, func(t *testing.T, w *world) {
		start := operation.Register(w.daemon.runner, operation.Kind[struct{}]{Name: "runtime-update-stage", Steps: []operation.Step[struct{}]{
			{Name: "begin", Do: func(ctx context.Context, r *operation.Run[struct{}]) error {
				for _, level := range []slog.Level{slog.LevelDebug - 4, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
					r.Logf(level, "line")
				}
				r.Metric("counted", 3, "s")
				return r.Checkpoint(ctx)
			}, Undo: func(context.Context, *operation.Run[struct{}]) error { return nil }},
			{Name: "check", Do: func(context.Context, *operation.Run[struct{}]) error { return fmt.Errorf("no luck") }},
		}})
		op, err := start(t.Context(), "talk", struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		w.finish(op.ID)
		got := strings.Join(logLines(t, w.text(fullLog)), "\n")
		want := strings.Join([]string{
			"info: step: begin", "trace: line", "debug: line", "info: line", "warn: line", "error: line",
			"info: step: check", "error: check: no luck", "warn: undo: begin", "info: the operation has ended: undone",
		}, "\n")
		if !strings.HasSuffix(got, want) {
			t.Errorf("the log is\n%s\nand has to end with\n%s", got, want)
		}
		if metrics := w.text(metricsLog); !strings.Contains(metrics, `"metric_name":"counted","value":3`) {
			t.Errorf("the metrics are\n%s", metrics)
		}
	})
}

// An installed system has the logs of all that the live system did for it, even if a person
// staged and finalized it apart.
func TestTheLogsOfTheLiveSystemAreInTheInstalledOne(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.logs = true
		w.powerOn()
		w.must(installing(v1, true, false))
		staged := keptLogs(t, w.root)
		if len(staged) != 1 || !strings.Contains(staged[0], "trident-CleanInstallStaged-") {
			t.Fatalf("the logs of the live system: %v", staged)
		}
		want := fileText(t, staged[0])
		w.must(func(w *osWorld) (string, func(*Service) (string, error)) {
			_, start := installing(v1, true, true)(w)
			return "install-finalize", start
		})
		carried := filepath.Join(w.root, vault, filepath.Base(staged[0]))
		if got := fileText(t, carried); got != want {
			t.Errorf("%s is\n%s\nand was\n%s", carried, got, want)
		}
		if lines := strings.Join(logLines(t, fileText(t, filepath.Join(w.live, fullLog))), "\n"); !strings.Contains(lines, "info: waiting for a reboot") {
			t.Errorf("the log is\n%s", lines)
		}
		w.rest()
	})
}
