package servicing

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// silentServer is a server that takes requests, tells of them and never answers.
func silentServer(t *testing.T) (url string, asked chan struct{}) {
	asked, done := make(chan struct{}, 64), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-done:
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(done) })
	return s.URL, asked
}

func TestARollbackEndsTheFetchOfAnUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newGallery(t))
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	url, asked := silentServer(t)
	update := func() string {
		t.Helper()
		text := fmt.Sprintf("os: {additionalFiles: [{destination: /etc/f, content: two}], sysexts: [{url: '%s/app.raw', sha384: %s}]}", url, strings.Repeat("a", 96))
		id, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(text), Stage: true, Finalize: true})
		if err != nil {
			t.Fatal(err)
		}
		<-asked
		return id
	}
	back := func(req RollbackRequest) (string, error) {
		req.Stage, req.Finalize = true, true
		return w.daemon.service.Rollback(t.Context(), req)
	}
	id := update()
	// Nothing to go back to, or not of that kind: the update goes on.
	if _, err := back(RollbackRequest{}); errkind.Of(err) != errkind.Busy || !strings.Contains(errkind.Hint(err), "operation cancel "+id) {
		t.Errorf("a rollback to nothing: %v (%s)", err, errkind.Hint(err))
	}
	if _, err := w.daemon.runner.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.finish(id)
	if op := w.ask(file("one"), true, true); op.Phase != operation.Done {
		t.Fatalf("%+v", op)
	}
	id = update()
	if _, err := back(RollbackRequest{Kind: hoststate.ABLink}); errkind.Of(err) != errkind.Busy {
		t.Errorf("a rollback of another kind: %v", err)
	}
	rollback, err := back(RollbackRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if op := w.finish(id); op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
		t.Errorf("the update: %+v", op)
	}
	if op := w.finish(rollback); op.Phase != operation.Done || w.kindOf(op) != RuntimeRollback {
		t.Errorf("the rollback: %+v", op)
	}
}

func TestAConfigurationBoundsTheTimeOfItsFetches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newGallery(t))
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	url, _ := silentServer(t)
	op := w.ask(fmt.Sprintf("internalParams: {fetchTimeout: 1}\nos: {sysexts: [{url: '%s/app.raw', sha384: %s}]}", url, strings.Repeat("a", 96)), true, true)
	if op.Phase != operation.Undone || op.Failure.Kind != errkind.Timeout || !strings.Contains(op.Failure.Message, "not finished within 1s") {
		t.Errorf("%+v", op.Failure)
	}
}
