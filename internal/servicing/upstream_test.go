package servicing

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// withLogs is a test on a host whose servicings leave their logs.
func withLogs(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	g := newGallery(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, g)
		w.logs = true
		w.powerOn()
		defer w.stopDaemon()
		test(t, w)
	})
}

func lacks(t *testing.T, where, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s lacks %q:\n%s", where, word, text)
		}
	}
}

const (
	fullLog      = "var/log/trident-full.log"
	metricsLog   = "var/log/trident-metrics.jsonl"
	fullLogsKept = 10
	maxFullLog   = 4 << 20
)

// keptLogs returns the copies of the log beside the datastore, the oldest first.
func keptLogs(t *testing.T, root string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "var/lib/trident/trident-[A-Z]*-*Z.log"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(found, func(a, b string) int {
		return strings.Compare(a[strings.LastIndexByte(a, '-'):], b[strings.LastIndexByte(b, '-'):])
	})
	return found
}

func TestTheLogHasTheTextsThatUpstreamsTestsSearchFor(t *testing.T) {
	t.Parallel()
	withLogs(t, func(t *testing.T, w *world) {
		op := w.ask(file("one"), true, false)
		lacks(t, "the operation", w.says(op.ID), "Staging of runtime update succeeded")
		w.ask(file("one"), true, true)
		op = w.ask(file("one"), true, true)
		lacks(t, "the operation", w.says(op.ID), "No update servicing required")
		lacks(t, "the log", w.text(fullLog), "No update servicing required")

		const name = "fail-on-the-first-run"
		op = w.ask(file("two")+"\nscripts: {postConfigure: [{name: "+name+", runOn: [runtime-update], content: fail}]}", true, true)
		const says = "Failed to run post-configure script '" + name + "'"
		lacks(t, "the failure", op.Failure.Message, says)
		if last := w.status().LastError; last == nil || !strings.HasPrefix(last.Message, says) {
			t.Errorf("the last error is %+v", last)
		}

		op = w.ask(file("two")+`
health: {checks: [
  {name: invoke-rollback-from-script, runOn: [all], content: fail},
  {name: services, runOn: [all], systemdServices: [non-existent-service1, non-existent-service2], timeoutSeconds: 1}]}`, true, true)
		if last := w.status().LastError; op.Phase != operation.Undone || last == nil || !strings.HasPrefix(last.Message, "Failed health check(s)") {
			t.Errorf("%s: the last error is %+v", op.Phase, last)
		}
		found, err := filepath.Glob(filepath.Join(w.root, "var/lib/trident", "trident-health-check-failure-"+"*.log"))
		if err != nil || len(found) != 1 {
			t.Fatalf("health logs: %v, %v", found, err)
		}
		text, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		lacks(t, "the health log", string(text), "Script 'invoke-rollback-from-script' failed",
			"Unit non-existent-service1.service could not be found", "Unit non-existent-service2.service could not be found")
	})
}

func TestEachServicingLeavesItsLog(t *testing.T) {
	t.Parallel()
	withLogs(t, func(t *testing.T, w *world) {
		for n := range fullLogsKept + 2 {
			op := w.ask(file(fmt.Sprint(n)), true, true)
			checkLog(t, w.root, op.ID)
		}
		kept := keptLogs(t, w.root)
		if len(kept) == 0 || len(kept) > fullLogsKept || !strings.HasPrefix(filepath.Base(kept[0]), "trident-Provisioned-") {
			t.Errorf("copies: %v", kept)
		}
		// That the log cannot be written is no failure of the servicing.
		if err := os.RemoveAll(filepath.Join(w.root, "var/log")); err != nil {
			t.Fatal(err)
		}
		w.write("var/log", "a file")
		if op := w.ask(file("last"), true, true); op.Phase != operation.Done || w.text("etc/f") != "last" {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
	})
}

// checkLog wants the log and the metrics of an operation in upstream's form.
func checkLog(t *testing.T, root, id string) {
	t.Helper()
	for _, f := range []struct {
		name string
		keys []string
		says string
	}{
		{fullLog, []string{"level", "message", "target", "module", "file", "line", "timestamp"}, id},
		{metricsLog, []string{"timestamp", "metric_name", "value", "additional_fields", "platform_info"}, "trident_start"},
	} {
		path := filepath.Join(root, f.name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", f.name, info.Mode(), err)
		}
		lacks(t, f.name, string(text), f.says)
		for line := range strings.Lines(string(text)) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Errorf("%s: %v: %s", f.name, err, line)
			}
			for _, key := range f.keys {
				if _, ok := entry[key]; !ok {
					t.Errorf("%s: no %s in %s", f.name, key, line)
				}
			}
		}
	}
}

func TestALogIsBoundedAndHasNoWordsOfPrograms(t *testing.T) {
	t.Parallel()
	withLogs(t, func(t *testing.T, w *world) {
		big := strings.Repeat("x", 1<<10)
		start := operation.Register(w.daemon.runner, operation.Kind[struct{}]{Name: "runtime-update-stage", Steps: []operation.Step[struct{}]{{
			Name: "begin", Do: func(_ context.Context, r *operation.Run[struct{}]) error {
				for range 6 * maxFullLog >> 10 / 2 {
					r.Logf(slog.LevelInfo, "%s", big)
				}
				r.Logf(slog.LevelError, "script x said: password")
				r.Logf(slog.LevelInfo, "the last line")
				return nil
			},
		}}})
		op, err := start(t.Context(), "talk", struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		w.finish(op.ID)
		text := w.text(fullLog)
		if len(text) > maxFullLog || len(text) < maxFullLog/2 || !strings.HasPrefix(text, "{") || strings.Contains(text, "password") {
			t.Errorf("%d bytes, from %.60q", len(text), text)
		}
		lacks(t, "the end", text[len(text)-2000:], "the last line", "script x said: (see trident operation show "+op.ID)
	})
}

func TestAnInstallationAndUpdatesHaveUpstreamsStatuses(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.logs = true
		w.powerOn()
		w.must(installing(v1, true, true))
		handed, err := filepath.Glob(filepath.Join(w.root, vault, "trident-CleanInstallFinalized-*Z.log"))
		if err != nil || len(handed) == 0 {
			t.Errorf("the new system has no log of its installation: %v, %v", handed, err)
		}
		lacks(t, "the log", w.text(fullLog), "Staging of clean install succeeded", "the operation has ended: done")
		s := w.daemon.service
		hash := func(op *operation.Operation) string {
			o, _ := w.daemon.service.Outcome(*op)
			return o.ImageSHA384
		}
		if got := s.ImageSHA384(t.Context()); got != a.v1.sha {
			t.Errorf("the image of the host is %q", got)
		}

		// The same image elsewhere, taken as it is, is no update, and the record keeps its hash.
		write(t, filepath.Join(w.root, "srv/elsewhere.cosi"), string(must(os.ReadFile(a.v1.path))))
		elsewhere := strings.Replace(strings.Replace(v1(a), "v1.cosi", "elsewhere.cosi", 1), a.v1.sha, "ignored", 1)
		op := w.run("no-servicing", func(s *Service) (string, error) {
			return s.Update(t.Context(), UpdateRequest{Config: w.parse(elsewhere), Stage: true, Finalize: true})
		}, "")
		if op.Kind != "no-servicing" || hash(op) != a.v1.sha {
			t.Errorf("the same image elsewhere: %s, image %s", op.Kind, hash(op))
		}
		plan, err := s.Plan(t.Context(), w.parse(strings.Replace(v1(a), a.v1.sha, "ignored", 1)))
		if err != nil || plan.Kind != None || string(plan.Effective.Spec().Image.SHA384) != a.v1.sha {
			t.Errorf("the hash that is known is forgotten: %+v, %v", plan, err)
		}
		other := strings.Replace(v2(a), a.v2.sha, "ignored", 1)
		if plan, err := s.Plan(t.Context(), w.parse(other)); err != nil || plan.Kind != ABUpdate {
			t.Errorf("another image: %+v, %v", plan, err)
		}
		if kind, err := s.RequiredKind(t.Context(), w.parse(other)); err != nil || kind != ABUpdate {
			t.Errorf("another image: %v, %v", kind, err)
		}

		// So it is after an update at run time, too.
		atRunTime := strings.Replace(strings.Replace(v1(a), "of v1", "of more", 1), a.v1.sha, "ignored", 1)
		op = w.run("runtime-update", func(s *Service) (string, error) {
			return s.Update(t.Context(), UpdateRequest{Config: w.parse(atRunTime), Stage: true, Finalize: true})
		}, "")
		if op.Kind != "runtime-update" || op.Phase != operation.Done || hash(op) != a.v1.sha || s.ImageSHA384(t.Context()) != a.v1.sha {
			t.Errorf("at run time: %s %s %+v, image %s, recorded %s", op.Kind, op.Phase, op.Failure, hash(op), s.ImageSHA384(t.Context()))
		}

		// A rollback of which nothing is staged.
		_, err = s.Rollback(t.Context(), RollbackRequest{Finalize: true})
		if errkind.Variant(err) != "InvalidRollbackState" || errkind.Hint(err) == "" {
			t.Errorf("finalize a rollback: %v", err)
		}

		kind, stage := updating(v2, true, false)(w)
		op = w.run(kind, stage, "")
		lacks(t, "the log", w.text(fullLog), "Staging of A/B update succeeded")
		if op.Phase != operation.Done || hash(op) != a.v2.sha {
			t.Errorf("%s, image %s", op.Phase, hash(op))
		}
		op = w.run("no-servicing", func(s *Service) (string, error) {
			return s.Rollback(t.Context(), RollbackRequest{Stage: true, Finalize: true})
		}, "")
		if op.Kind != "no-servicing" || op.Phase != operation.Done || w.status().Phase.State() != "ab-update-staged" {
			t.Errorf("roll back while an update is staged: %s, %s, %s", op.Kind, op.Phase, w.status().Phase.State())
		}
		kind, finalize := updating(v2, false, true)(w)
		if op = w.run(kind, finalize, ""); op.Phase != operation.Done || w.slot != slot.B || hash(op) != a.v2.sha {
			t.Errorf("%s, %v runs, image %s", op.Phase, w.slot, hash(op))
		}

		kind, fail := updating(func(a *album) string { return hostOf(a.panics, "") }, true, true)(w)
		op = w.run(kind, fail, "")
		last := w.status().LastError
		if op.Phase != operation.Undone || last == nil ||
			!regexp.MustCompile(`^A/B update failed as host booted from .+ instead of the expected device .+$`).MatchString(last.Message) {
			t.Errorf("%s: the last error is %+v", op.Phase, last)
		}
		if last != nil && (last.Name != "ab-update-reboot-check" || last.RootDevice == "" || last.RootDevice == last.ExpectedDevice) {
			t.Errorf("the last error is %+v", last)
		}
		w.rest()
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestARollbackOfAHostThatWasNeverProvisionedDoesNothing(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		for _, stage := range []bool{true, false} {
			id, err := w.daemon.service.Rollback(t.Context(), RollbackRequest{Stage: stage, Finalize: true})
			if err != nil {
				t.Fatal(err)
			}
			op := w.finish(id)
			if op.Kind != "no-servicing" || op.Phase != operation.Done {
				t.Errorf("stage %v: %+v", stage, op)
			}
		}
		if st := w.status(); st.Phase != (hoststate.Fresh{}) {
			t.Errorf("%+v", st)
		}
	})
}

func TestADiskOfAnotherHashIsCorrupt(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		if _, err := w.daemon.service.StreamDisk(t.Context(), StreamRequest{URL: "file:///srv/v1.cosi", SHA384: strings.Repeat("a", 96)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if op := w.settled(""); op.Phase != operation.Undone || errkind.NameFrom(op.Failure.Name, op.Failure.Kind).Subkind() != "corrupt-os-image" {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		w.rest()
	})
}
