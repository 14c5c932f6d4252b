package oplog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// Upstream's limits.
const (
	startedTime    = time.Minute            // of attempts to report the start
	startedPause   = 100 * time.Millisecond // between two of them
	paramStarted   = "orchestratorConnectionTimeoutSeconds"
	maxStartedTime = 1<<16 - 1 // seconds
)

// Reports sends what operations on the host do to the servers that their Host Configuration
// names, as upstream does: to trident.phonehome the start and the end of a servicing, to
// trident.logstream each line of the log, and to a third URL the metrics. That URL is
// trident.phonehome with "tracestream" in place of "phonehome". It never delays an operation:
// it queues what it sends, drops what does not fit, and gives up a server that does not answer.
type Reports struct {
	Logger *slog.Logger
	// Clean removes what looks like a secret from a text, CleanDocument from a YAML document.
	Clean, CleanDocument func(string) string

	mu      sync.Mutex
	current *report
	senders []*sender // that may still have messages
}

// report is what Reports knows of the operation that it saw last.
type report struct {
	operation   string
	translator  translator
	phonehome   *sender // nil without the key
	logstream   *sender
	tracestream *sender
	ended       bool
}

// phonehomeMessage has upstream's fields.
type phonehomeMessage struct {
	State      string  `json:"state"` // started, failed or succeeded
	Message    string  `json:"message"`
	HostStatus *string `json:"host_status"` // YAML
}

// observe queues the reports about events. It must not block.
func (s *Reports) observe(h *change.Host, op operation.Operation, does change.Kind, metric string, events []operation.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.operation != op.ID {
		s.begin(h, op)
	}
	r := s.current
	if r.phonehome == nil && r.logstream == nil || r.ended {
		return
	}
	for _, e := range events {
		s.queue(r, r.translator.event(op, e))
	}
	if !op.Phase.Settled() {
		return
	}
	r.ended = true
	if metric != "" && op.Phase == operation.Done {
		s.queue(r, r.translator.success(op, metric))
	}
	s.reportEnd(h, r, op, does)
}

// begin prepares the senders of an operation, and reports its start: that of the operation, or
// of this process in the middle of it, as upstream's commands do.
func (s *Reports) begin(h *change.Host, op operation.Operation) {
	r := &report{operation: op.ID, translator: translator{version: h.Version}}
	s.current = r
	c := s.configOf(h, op)
	if c == nil {
		return
	}
	t := c.Spec().Trident
	r.phonehome = s.newSender("phonehome", t.Phonehome)
	r.logstream = s.newSender("logstream", t.Logstream)
	if r.phonehome != nil {
		r.tracestream = s.newSender("tracestream", strings.ReplaceAll(t.Phonehome, "phonehome", "tracestream"))
		limit := startedTime
		if n := change.Number(c, paramStarted); n > 0 {
			limit = time.Duration(min(n, maxStartedTime)) * time.Second
		}
		r.phonehome.insist(limit, startedPause, func(attempt int) []byte {
			return encode(phonehomeMessage{State: "started", Message: fmt.Sprintf("Trident started (connection attempt %d)", attempt)})
		})
	}
	if r.phonehome != nil || r.logstream != nil {
		r.translator.platform = platformOf(h.Root)
		s.queue(r, r.translator.begin(op))
	}
}

// configOf returns the Host Configuration that an operation has to reach, or else that of the
// host; nil if there is none.
func (s *Reports) configOf(h *change.Host, op operation.Operation) *hostconfig.Config {
	var record struct {
		Asked hostconfig.Recorded `json:"asked"`
	}
	if json.Unmarshal(op.State, &record) == nil && !record.Asked.IsZero() {
		if c, err := record.Asked.Config(); err == nil {
			return c
		}
	}
	st, err := h.Store.Status(context.Background())
	if err != nil || st.Spec == "" {
		return nil
	}
	c, err := hostconfig.ParseRecorded([]byte(st.Spec))
	if err != nil {
		return nil
	}
	return c
}

// newSender returns the sender for a URL; nil for none, and for one that is not http or https.
func (s *Reports) newSender(name, text string) *sender {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		s.Logger.Warn("trident." + name + " is not an http or https URL: nothing is reported to it")
		return nil
	}
	out := newSender(name, u, s.Logger)
	s.senders = append(s.senders, out)
	if len(s.senders) > maxSenders {
		s.senders = s.senders[len(s.senders)-maxSenders:]
	}
	return out
}

// queue queues entries, without secrets, for the servers of their kinds.
func (s *Reports) queue(r *report, entries []entry) {
	for _, e := range entries {
		switch {
		case e.log != nil && r.logstream != nil:
			e.log.Message = s.clean(e.log.Message)
			r.logstream.send(encode(e.log))
		case e.metric != nil && r.tracestream != nil:
			r.tracestream.send(encode(e.metric))
		}
	}
}

// reportEnd reports the end of an operation. Upstream reports a success when the host has the
// configuration, not when it is staged.
func (s *Reports) reportEnd(h *change.Host, r *report, op operation.Operation, does change.Kind) {
	if r.phonehome == nil {
		return
	}
	st, err := h.Store.Status(context.Background())
	var text *string
	if err == nil {
		text = s.statusText(st)
	}
	_, settled := st.Phase.(hoststate.Settled)
	switch {
	case op.Phase != operation.Done:
		message := "the operation has ended: " + string(op.Phase)
		if op.Failure != nil {
			message = op.Failure.Message
		}
		r.phonehome.send(encode(phonehomeMessage{State: "failed", Message: s.clean(message), HostStatus: text}))
	case settled && does != change.None:
		r.phonehome.send(encode(phonehomeMessage{State: "succeeded", Message: "provisioning succeeded", HostStatus: text}))
	}
}

// statusText returns the status of the host in upstream's form, without secrets; nil if it
// cannot be had so.
func (s *Reports) statusText(st hoststate.Status) *string {
	text, err := st.YAML()
	if err != nil || s.CleanDocument == nil {
		return nil
	}
	clean := s.CleanDocument(string(text))
	return &clean
}

func (s *Reports) clean(text string) string {
	if s.Clean == nil {
		return text
	}
	return s.Clean(text)
}

// Close waits until the reports are sent, or until ctx ends, and drops the others.
func (s *Reports) Close(ctx context.Context) {
	s.mu.Lock()
	senders := s.senders
	s.senders = nil
	s.mu.Unlock()
	for _, one := range senders {
		one.close(ctx)
	}
}

// encode returns the JSON of a message; nil if JSON cannot express it (NaN).
func encode(message any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(message) != nil {
		return nil
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}
