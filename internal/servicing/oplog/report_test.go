package oplog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/diagnose"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// receiver accepts what upstream's netlisten accepts, by the same paths, and keeps it.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	phone  []phoned
	logs   []logged
	traces []traced
	refuse int // the number of next requests to refuse
	asked  int
}

// phoned, logged and traced have the fields that netlisten decodes (tools/pkg/phonehome of
// upstream): the first from YAML, the others from JSON.
type phoned struct {
	State      string `yaml:"state"`
	Message    string `yaml:"message"`
	HostStatus string `yaml:"host_status"`
}

type logged struct {
	Level, Message, Target, Module, File string
	Line                                 int
}

type traced struct {
	Timestamp        string         `json:"timestamp"`
	MetricName       string         `json:"metric_name"`
	Value            any            `json:"value"`
	AdditionalFields map[string]any `json:"additional_fields"`
	PlatformInfo     map[string]any `json:"platform_info"`
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	mux := http.NewServeMux()
	on := func(path string, decode func([]byte) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, request *http.Request) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.asked++; r.refuse > 0 && path == "/phonehome" {
				r.refuse--
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			body, err := io.ReadAll(request.Body)
			if err == nil {
				err = decode(body)
			}
			if err != nil {
				t.Errorf("%s: %v: %s", path, err, body)
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, "OK")
		})
	}
	on("/phonehome", func(body []byte) error { return keep(&r.phone, yaml.Unmarshal, body) })
	on("/logstream", func(body []byte) error { return keep(&r.logs, json.Unmarshal, body) })
	on("/tracestream", func(body []byte) error { return keep(&r.traces, json.Unmarshal, body) })
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func keep[T any](to *[]T, decode func([]byte, any) error, body []byte) error {
	var one T
	err := decode(body, &one)
	*to = append(*to, one)
	return err
}

// reported is an operation on a host whose configuration names servers.
type reported struct {
	t    *testing.T
	host *change.Host
	out  *Reports
	log  *strings.Builder
	op   operation.Operation
	seq  uint64
}

func newReported(t *testing.T, trident string) *reported {
	t.Helper()
	store := hoststate.NewClosed(filepath.Join(t.TempDir(), "d.sqlite"))
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	record, err := json.Marshal(map[string]string{"asked": "trident: {" + trident + "}\n"})
	if err != nil {
		t.Fatal(err)
	}
	r := &reported{t: t, host: &change.Host{Root: t.TempDir(), Version: "1.2.3", Store: store}, log: &strings.Builder{}}
	r.out = &Reports{Logger: slog.New(slog.NewTextHandler(r.log, nil)), Clean: diagnose.WithoutSecrets, CleanDocument: diagnose.DocumentWithoutSecrets}
	r.op = operation.Operation{ID: "op-1", Kind: "k", Summary: "update the host", Phase: operation.Doing, Created: time.Now(), State: record}
	return r
}

// say reports an event.
func (r *reported) say(e operation.Event) {
	r.seq++
	e.Sequence, e.Time = r.seq, time.Now()
	if e.Type == operation.Change {
		r.op.Phase, r.op.Step, r.op.Failure = e.Phase, e.Step, e.Failure
	}
	r.out.observe(r.host, r.op, change.RuntimeUpdate, "runtime_update_success", []operation.Event{e})
}

func (r *reported) step(phase operation.Phase, step string) {
	r.say(operation.Event{Type: operation.Change, Phase: phase, Step: step})
}

// record records the state of the host.
func (r *reported) record(phase hoststate.Phase) {
	r.t.Helper()
	if err := r.host.Store.Record(r.t.Context(), hoststate.Status{Phase: phase, Spec: "os:\n  users:\n  - name: a\n    password: hunter2\n"}); err != nil {
		r.t.Fatal(err)
	}
}

// flush waits until all is sent.
func (r *reported) flush() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r.out.Close(ctx)
	if ctx.Err() != nil {
		r.t.Error("not all is sent in time")
	}
}

func TestNetlistenSeesAServicing(t *testing.T) {
	t.Parallel()
	to := newReceiver(t)
	r := newReported(t, "phonehome: '"+to.URL+"/phonehome', logstream: '"+to.URL+"/logstream'")
	r.step(operation.Doing, "fetch")
	r.say(operation.Event{Type: operation.Log, Phase: operation.Doing, Step: "fetch", Level: slog.LevelWarn, Message: "from https://user:hunter2@example.org/"})
	r.say(operation.Event{Type: operation.Metric, Phase: operation.Doing, Step: "fetch", Name: "step.duration", Value: 1.5})
	r.say(operation.Event{Type: operation.Metric, Phase: operation.Doing, Step: "fetch", Name: "bad", Value: math.NaN()})
	r.say(operation.Event{Type: operation.Progress, Phase: operation.Doing, Step: "fetch", Done: 1})
	r.record(hoststate.Settled{})
	r.step(operation.Done, "settle")
	r.say(operation.Event{Type: operation.Log, Message: "after the end"})
	r.flush()
	if len(to.phone) != 2 || to.phone[0] != (phoned{State: "started", Message: "Trident started (connection attempt 0)"}) {
		t.Fatalf("phonehome: %+v", to.phone)
	}
	end := to.phone[1]
	if end.State != "succeeded" || end.Message != "provisioning succeeded" || !strings.Contains(end.HostStatus, "servicingState: provisioned") {
		t.Errorf("phonehome: %+v", end)
	}
	var lines []string
	for _, l := range to.logs {
		lines = append(lines, l.Level+": "+l.Message)
	}
	want := "info: Trident version: 1.2.3\ninfo: operation op-1: update the host\ninfo: step: fetch\nwarn: from https://<removed>@example.org/\ninfo: the operation has ended: done"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("logstream:\n%s\nwant\n%s", got, want)
	}
	var names []string
	for _, m := range to.traces {
		names = append(names, fmt.Sprint(m.MetricName, "=", m.Value))
		if m.AdditionalFields["trident_version"] != "1.2.3" || m.PlatformInfo["total_cpu"] == nil || m.PlatformInfo["asset_id"] != "unknown" {
			t.Errorf("%+v", m)
		}
	}
	if got := strings.Join(names, " "); got != "trident_start=<nil> step.duration=1.5 runtime_update_success=true" {
		t.Errorf("tracestream: %s", got)
	}
	if all := fmt.Sprint(to.phone, to.logs, to.traces, r.log); strings.Contains(all, "hunter2") {
		t.Errorf("a secret is in %s", all)
	}
}

func TestAFailureIsReported(t *testing.T) {
	t.Parallel()
	to := newReceiver(t)
	r := newReported(t, "phonehome: '"+to.URL+"/phonehome'")
	failure := &operation.Failure{Kind: errkind.Unhealthy, Message: "health: no luck with token=hunter2"}
	r.step(operation.Doing, "health")
	r.say(operation.Event{Type: operation.Change, Phase: operation.Undoing, Step: "files", Failure: failure})
	r.record(hoststate.Settled{})
	r.say(operation.Event{Type: operation.Change, Phase: operation.Undone, Step: "begin", Failure: failure})
	r.flush()
	if len(to.phone) != 2 || to.phone[1].State != "failed" || !strings.HasPrefix(to.phone[1].Message, "health: no luck") ||
		strings.Contains(to.phone[1].Message, "hunter2") || to.phone[1].HostStatus == "" {
		t.Errorf("%+v", to.phone)
	}
}

// As with upstream, a host that has only staged something has not succeeded yet.
func TestStagingIsNotASuccess(t *testing.T) {
	t.Parallel()
	to := newReceiver(t)
	r := newReported(t, "phonehome: '"+to.URL+"/phonehome'")
	r.record(hoststate.StagedRuntimeUpdate)
	r.step(operation.Done, "stage")
	// The next operation reports its own start. Its configuration is that of the host.
	r.op.ID, r.op.State, r.op.Phase = "op-2", nil, operation.Doing
	if err := r.host.Store.Record(t.Context(), hoststate.Status{Phase: hoststate.Settled{}, Spec: "trident: {phonehome: '" + to.URL + "/phonehome'}\n"}); err != nil {
		t.Fatal(err)
	}
	r.out.CleanDocument = nil
	r.step(operation.Done, "settle")
	r.flush()
	if len(to.phone) != 3 || to.phone[1].State+to.phone[2].State != "startedsucceeded" || to.phone[2].HostStatus != "" {
		t.Errorf("%+v", to.phone)
	}
}

func TestTheStartIsReportedUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	to := newReceiver(t)
	to.refuse = 2
	r := newReported(t, "phonehome: '"+to.URL+"/phonehome'")
	r.step(operation.Doing, "fetch")
	s := r.out.current.phonehome
	r.flush()
	if len(to.phone) != 1 || to.phone[0].Message != "Trident started (connection attempt 2)" || s.lost {
		t.Errorf("%+v", to.phone)
	}
}

func TestAServerThatDoesNotAcceptTheStartGetsNothingMore(t *testing.T) {
	t.Parallel()
	to := newReceiver(t)
	to.refuse = math.MaxInt
	s := newSender("phonehome", mustURL(t, to.URL+"/phonehome"), slog.New(slog.DiscardHandler))
	s.insist(20*time.Millisecond, time.Millisecond, func(int) []byte { return []byte("{}") })
	s.send([]byte("{}"))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.close(ctx)
	s.send([]byte("{}"))
	if !s.lost || len(to.phone) > 0 || len(s.queue) > 0 || to.asked == 0 {
		t.Errorf("%+v", s)
	}
}

// A server that hangs delays nothing: the queue is bounded, and the daemon ends in time.
func TestAServerThatHangsDelaysNothing(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		select {
		case <-release:
		case <-request.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	r := newReported(t, "logstream: '"+server.URL+"'")
	r.step(operation.Doing, "fetch")
	for range maxQueue + 50 {
		r.say(operation.Event{Type: operation.Log, Message: strings.Repeat("x", 100)})
	}
	s := r.out.current.logstream
	s.mu.Lock()
	if len(s.queue) > maxQueue || s.dropped < 50 {
		t.Errorf("%d messages in the queue, %d dropped", len(s.queue), s.dropped)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r.out.Close(ctx)
	if !strings.Contains(r.log.String(), "reports are dropped") {
		t.Error(r.log)
	}
}

func TestLargeMessagesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := newSender("logstream", mustURL(t, "http://127.0.0.1:1/"), slog.New(slog.DiscardHandler))
	s.busy = true // no goroutine takes them
	for range 10 {
		s.send(make([]byte, 1<<20))
	}
	s.send(nil)
	if len(s.queue) != 4 || s.dropped != 6 {
		t.Errorf("%d in the queue, %d dropped", len(s.queue), s.dropped)
	}
}

func TestReportsGoToNoOtherServer(t *testing.T) {
	t.Parallel()
	other := newReceiver(t)
	server := httptest.NewServer(http.RedirectHandler(other.URL+"/logstream", http.StatusTemporaryRedirect))
	defer server.Close()
	r := newReported(t, "logstream: 'http://u:hunter2@"+strings.TrimPrefix(server.URL, "http://")+"/?token=hunter2'")
	for range maxFailures + 2 {
		r.step(operation.Doing, "fetch")
		r.say(operation.Event{Type: operation.Log, Message: "x"})
	}
	r.flush()
	if other.asked > 0 || strings.Contains(r.log.String(), "hunter2") || strings.Count(r.log.String(), "307 Temporary Redirect") != 2 {
		t.Errorf("%d requests\n%s", other.asked, r.log)
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAWrongURLIsNotReportedTo(t *testing.T) {
	t.Parallel()
	r := newReported(t, "phonehome: 'file:///x', logstream: '%'")
	r.step(operation.Done, "settle")
	r.flush()
	if r.out.current.phonehome != nil || r.out.current.logstream != nil || strings.Count(r.log.String(), "is not an http or https URL") != 2 {
		t.Error(r.log)
	}
	none := newReported(t, "disable: false")
	none.op.State = json.RawMessage("{")
	none.step(operation.Doing, "fetch")
	none.flush()
	if none.out.current.phonehome != nil || none.log.Len() > 0 {
		t.Error(none.log)
	}
}
