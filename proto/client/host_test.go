package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

const (
	cleanInstall    = tridentv1.ServicingKind_SERVICING_KIND_CLEAN_INSTALL
	runtimeRollback = tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_RUNTIME

	anyKind = tridentv1preview.ManualRollbackKind_ANY_ROLLBACK_REQUESTED
	info    = operationsv1.Severity_SEVERITY_INFO
)

var config = &client.Config{Text: "os: {}"}

// updateScript is servicing that goes well.
func updateScript() []*operationsv1.Event {
	return []*operationsv1.Event{
		clienttest.Step(0, "stage", nil), clienttest.Progress("stage", 1, 2), clienttest.Log("stage", info, "staged"),
		clienttest.Step(done, "record", nil),
	}
}

// rebootScript has a reboot in it.
func rebootScript() []*operationsv1.Event {
	return []*operationsv1.Event{
		clienttest.Step(0, "stage", nil), clienttest.Reboot("boot"), clienttest.Log("commit", info, "well"), clienttest.Step(done, "commit", nil),
	}
}

func TestEveryServicingVerbIsFollowedToItsEnd(t *testing.T) {
	type verb func(context.Context, client.Host, client.How, func(*client.Event)) (client.Outcome, error)
	update := func(ctx context.Context, h client.Host, how client.How, fn func(*client.Event)) (client.Outcome, error) {
		return h.Update(ctx, config, how, fn)
	}
	install := func(ctx context.Context, h client.Host, how client.How, fn func(*client.Event)) (client.Outcome, error) {
		return h.Install(ctx, config, how, fn)
	}
	rollback := func(ctx context.Context, h client.Host, how client.How, fn func(*client.Event)) (client.Outcome, error) {
		return h.Rollback(ctx, anyKind, how, fn)
	}
	kinds := map[string]tridentv1.ServicingKind{
		"host-install": cleanInstall, "host-install-stage": cleanInstall, "host-install-finalize": cleanInstall, "host-stream-disk": cleanInstall,
		"host-rollback": runtimeRollback, "host-rollback-stage": runtimeRollback, "host-rollback-finalize": runtimeRollback,
		"host-check-root": tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED,
	}
	for kind, v := range map[string]struct {
		part client.Part
		run  verb
	}{
		"host-update": {client.Everything, update}, "host-update-stage": {client.StageOnly, update}, "host-update-finalize": {client.FinalizeOnly, update},
		"host-install": {client.Everything, install}, "host-install-stage": {client.StageOnly, install}, "host-install-finalize": {client.FinalizeOnly, install},
		"host-rollback": {client.Everything, rollback}, "host-rollback-stage": {client.StageOnly, rollback}, "host-rollback-finalize": {client.FinalizeOnly, rollback},
		"host-commit": {"", func(ctx context.Context, h client.Host, how client.How, fn func(*client.Event)) (client.Outcome, error) {
			return h.Commit(ctx, how, fn)
		}},
		"host-stream-disk": {"", func(ctx context.Context, h client.Host, how client.How, fn func(*client.Event)) (client.Outcome, error) {
			return h.StreamDisk(ctx, "http://x/y.cosi", "00", how, fn)
		}},
		"host-rebuild-raid": {"", func(ctx context.Context, h client.Host, _ client.How, fn func(*client.Event)) (client.Outcome, error) {
			return h.RebuildRaid(ctx, fn)
		}},
		"host-check-root": {"", func(ctx context.Context, h client.Host, _ client.How, fn func(*client.Event)) (client.Outcome, error) {
			return h.CheckRoot(ctx, fn)
		}},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := dial(t, clienttest.New(clienttest.Config{Script: updateScript(), Drop: 2}))
			var seen watcher
			out, err := v.run(t.Context(), c.Host(), client.How{Part: v.part}, seen.event)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(numbers(1, 4), seen); diff != "" || out.Operation.GetKind() != kind || out.Operation.GetPhase() != done {
				t.Errorf("operation %v, events (-want +got):\n%s", out.Operation, diff)
			}
			servicing, ok := kinds[kind]
			if !ok {
				servicing = tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE
			}
			want := &client.Completed{
				Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED, ServicingKind: servicing.Enum(),
			}
			if diff := cmp.Diff(want, out.Completed, protocmp.Transform()); diff != "" {
				t.Errorf("completed (-want +got):\n%s", diff)
			}
			if ops, err := c.Operations(t.Context(), 0, false); len(ops) != 1 || err != nil {
				t.Errorf("operations %v, %v", ops, err)
			}
		})
	}
}

func TestServicingIsFollowedThroughAReboot(t *testing.T) {
	s := clienttest.New(clienttest.Config{Script: rebootScript()})
	var seen watcher
	out, err := dial(t, s).Host().Update(t.Context(), config, client.How{}, seen.event)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(numbers(1, 4), seen); diff != "" || out.Operation.GetPhase() != done {
		t.Errorf("operation %v, events (-want +got):\n%s", out.Operation, diff)
	}
}

func TestACallerWhoRebootsGetsItsTurn(t *testing.T) {
	s := clienttest.New(clienttest.Config{Script: rebootScript()})
	c := dial(t, s)
	out, err := c.Host().Update(t.Context(), config, client.How{CallerReboots: true}, nil)
	if err != nil || out.Completed.GetRebootStatus() != tridentv1.RebootStatus_REBOOT_REQUIRED || out.Operation.GetPhase() == done {
		t.Fatalf("outcome %v, error %v", out, err)
	}
	s.Restart() // the reboot
	var seen watcher
	op, err := c.Watch(t.Context(), out.Operation.GetId(), out.Operation.GetLastSequence(), seen.event)
	if err != nil || op.GetPhase() != done || cmp.Diff(numbers(3, 4), seen) != "" {
		t.Errorf("operation %v, events %v, error %v", op, seen, err)
	}
}

func TestAFailureIsToldInBothWaysOfSpeaking(t *testing.T) {
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Message: "check: the unit died", Hint: "look at it"}
	c := dial(t, clienttest.New(clienttest.Config{
		Script: []*operationsv1.Event{clienttest.Step(undone, "check", failure)},
		Completed: &client.Completed{Status: tridentv1.StatusCode_STATUS_CODE_FAILURE, Error: &tridentv1.TridentError{
			Kind: tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR, Subkind: "health-checks-failed", Message: "it is not well",
		}},
	}))
	out, err := c.Host().Update(t.Context(), config, client.How{}, nil)
	failed, ok := errors.AsType[*client.OperationError](err)
	if !ok || failed.Operation != out.Operation || failed.Trident.GetSubkind() != "health-checks-failed" {
		t.Fatalf("outcome %v, error %#v", out, err)
	}
	got := []string{err.Error(), string(client.Kind(err)), client.Hint(err)}
	if diff := cmp.Diff([]string{"check: the unit died", "UNHEALTHY", "look at it"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// An operation can do all that it has to, which is to take back what was tried.
func TestAnEndThatIsAFailureCountsThoughTheOperationIsDone(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{Script: updateScript(), Completed: &client.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_FAILURE, Error: &tridentv1.TridentError{
			Kind: tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR, Message: "it was taken back\n",
		},
	}}))
	out, err := c.Host().Commit(t.Context(), client.How{}, nil)
	if client.Kind(err) != "UNHEALTHY" || err.Error() != "it was taken back" || out.Operation.GetPhase() != done {
		t.Errorf("outcome %v, error %v", out, err)
	}
}

func TestARequestWithoutChangesHasNoOperation(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{NothingToDo: true}))
	out, err := c.Host().Commit(t.Context(), client.How{}, nil)
	if err != nil || out.Operation != nil || out.Completed.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED {
		t.Errorf("outcome %v, error %v", out, err)
	}
}

func TestUpstreamsDaemonIsServedByItsStream(t *testing.T) {
	s := clienttest.New(clienttest.Config{Upstream: true, Version: "0.1", Script: updateScript()})
	c := dial(t, s)
	var lines []string
	out, err := c.Host().Update(t.Context(), config, client.How{}, func(e *client.Event) { lines = append(lines, e.GetLog().GetMessage()) })
	if err != nil || out.Operation != nil || out.Completed.GetStatus() != tridentv1.StatusCode_STATUS_CODE_SUCCESS {
		t.Errorf("outcome %v, error %v", out, err)
	}
	if diff := cmp.Diff([]string{"staged"}, lines); diff != "" || s.Configs()[0] != config.Text {
		t.Errorf("configurations %v, log (-want +got):\n%s", s.Configs(), diff)
	}
	if v, err := c.Version(t.Context()); v != "0.1" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	if server, err := c.Server(t.Context()); err != nil || server.GetServerVersion() != "" {
		t.Errorf("server %v, %v", server, err)
	}
	if err := c.Require(t.Context(), "operations"); client.Kind(err) != "PRECONDITION" || !strings.Contains(err.Error(), "operations") {
		t.Errorf("a requirement: %v", err)
	}
	if opened, err := c.OpenConfig(t.Context(), []byte("os: {}")); err != nil || opened.Close(t.Context()) != nil {
		t.Errorf("open: %v", err)
	}
}

func TestABusyAnswerOfUpstreamsServicesIsNotRetried(t *testing.T) {
	busy := grpckind.UpstreamError(errkind.Errorf(errkind.Busy, "operation op-7 is running"), codes.Unknown, map[string]string{grpckind.MetaOperation: "op-7"})
	s := clienttest.New(clienttest.Config{Refuse: busy})
	c := dial(t, s)
	begun := time.Now()
	_, err := c.Host().Update(t.Context(), config, client.How{}, nil)
	if client.Kind(err) != "BUSY" || !client.Retriable(err) || time.Since(begun) > 10*time.Second {
		t.Errorf("error %v of kind %s after %s", err, client.Kind(err), time.Since(begun))
	}
	calls := slices.DeleteFunc(s.Calls(), func(m string) bool { return m != tridentv1.UpdateService_Update_FullMethodName })
	if len(calls) != 1 {
		t.Errorf("called %d times", len(calls))
	}
}

func TestACallWithALostAnswerIsRepeated(t *testing.T) {
	for name, run := range map[string]func(*client.Client) error{
		"update": func(c *client.Client) error {
			_, err := c.Host().Update(t.Context(), config, client.How{}, nil)
			return err
		},
		"upgrade": func(c *client.Client) error {
			_, err := c.Upgrade(t.Context(), client.Source{URL: "http://x"}, nil, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, clienttest.New(clienttest.Config{Script: updateScript(), LoseAnswers: 2}))
			if err := run(c); err != nil {
				t.Fatal(err)
			}
			if ops, err := c.Operations(t.Context(), 0, false); len(ops) != 1 || err != nil {
				t.Errorf("%d operations have begun, %v", len(ops), err)
			}
		})
	}
}

func TestACallThatWouldBeginAgainIsNotRepeated(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{Capabilities: []string{"operations"}, Script: updateScript(), LoseAnswers: 1}))
	_, err := c.Host().Update(t.Context(), config, client.How{}, nil)
	if !client.Retriable(err) || !strings.Contains(client.Hint(err), "may have begun") {
		t.Errorf("error %v, hint %q", err, client.Hint(err))
	}
	if ops, err := c.Operations(t.Context(), 0, false); len(ops) != 1 || err != nil {
		t.Errorf("%d operations have begun, %v", len(ops), err)
	}
}

func TestHostReturnsStateFindingsAndPlan(t *testing.T) {
	s := clienttest.New(clienttest.Config{
		Host:     &hostv1.GetHostResponse{ActiveVolume: "volume-b"},
		Findings: []*hostv1.Finding{{Severity: hostv1.Severity_SEVERITY_ERROR, Line: 3, Name: "DuplicateUsernames"}},
		Plan:     &hostv1.PlanUpdateResponse{Kind: tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE},

		RebuildPlan: &hostv1.PlanRebuildResponse{Text: "all"}, RecoveryKey: []byte("secret"),
	})
	h := dial(t, s).Host()
	if got, err := h.PlanRebuild(t.Context()); err != nil || got.GetText() != "all" {
		t.Errorf("plan of a rebuild %v, %v", got, err)
	}
	if got, err := h.RecoveryKey(t.Context(), "id"); err != nil || string(got) != "secret" {
		t.Errorf("recovery key %q, %v", got, err)
	}
	if got, err := h.Get(t.Context()); err != nil || got.GetActiveVolume() != "volume-b" {
		t.Errorf("host %v, %v", got, err)
	}
	if got, err := h.Validate(t.Context(), config); err != nil || got.GetValid() || got.GetFindings()[0].GetLine() != 3 {
		t.Errorf("validation %v, %v", got, err)
	}
	if got, err := h.Plan(t.Context(), config); err != nil || got.GetKind() != tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE {
		t.Errorf("plan %v, %v", got, err)
	}
}
