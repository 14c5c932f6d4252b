package oplog

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// logEntry and metricEntry have upstream's fields.
type logEntry struct {
	Level     string    `json:"level"`
	Message   string    `json:"message"`
	Target    string    `json:"target"`
	Module    string    `json:"module"`
	File      string    `json:"file"`
	Line      int       `json:"line"`
	Timestamp time.Time `json:"timestamp"`
}

type metricEntry struct {
	Timestamp        time.Time         `json:"timestamp"`
	MetricName       string            `json:"metric_name"`
	Value            any               `json:"value"`
	AdditionalFields map[string]string `json:"additional_fields"`
	PlatformInfo     map[string]any    `json:"platform_info"`
}

// entry is one of the two.
type entry struct {
	log    *logEntry
	metric *metricEntry
}

// translator makes entries of the events of one operation, which it gets in order.
type translator struct {
	version  string
	platform map[string]any
	before   operation.Event // the last event, with the state after the last change
}

// begin returns the entries before the first event.
func (t *translator) begin(op operation.Operation) []entry {
	return []entry{
		t.line(op.Created, "info", "", "Trident version: "+t.version),
		t.line(op.Created, "info", "", "operation "+op.ID+": "+op.Summary),
		t.metric(op, op.Created, "trident_start", nil),
	}
}

// event returns the entries for an event: one or none.
func (t *translator) event(op operation.Operation, e operation.Event) (out []entry) {
	switch e.Type {
	case operation.Log:
		out = []entry{t.line(e.Time, levelWord(e.Level), e.Step, withoutQuotes(e.Message, op.ID))}
	case operation.Metric:
		out = []entry{t.metric(op, e.Time, e.Name, e.Value)}
	case operation.Change:
		if level, text := changeText(e, t.before); text != "" {
			out = []entry{t.line(e.Time, level, e.Step, text)}
		}
		t.before.Step, t.before.Phase, t.before.Failure = e.Step, e.Phase, e.Failure
	}
	t.before.Sequence = e.Sequence
	return out
}

// success returns the entry after the last event of an operation that succeeded.
func (t *translator) success(op operation.Operation, name string) []entry {
	return []entry{t.metric(op, op.Updated, name, true)}
}

func (t *translator) line(at time.Time, level, module, text string) entry {
	return entry{log: &logEntry{Level: level, Message: text, Target: "trident", Module: module, Timestamp: at.UTC()}}
}

func (t *translator) metric(op operation.Operation, at time.Time, name string, value any) entry {
	return entry{metric: &metricEntry{
		Timestamp: at.UTC(), MetricName: name, Value: value, PlatformInfo: t.platform,
		AdditionalFields: map[string]string{"operation": op.ID, "trident_version": t.version},
	}}
}

// platformOf describes the host in upstream's fields. A fact that cannot be read is "unknown".
func platformOf(root string) map[string]any {
	out := map[string]any{"asset_id": "unknown", "os_release": "unknown", "kernel_version": "unknown", "total_cpu": runtime.NumCPU()}
	if text, err := os.ReadFile(filepath.Join(root, "sys/class/dmi/id/product_uuid")); err == nil {
		out["asset_id"] = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile(filepath.Join(root, "etc/os-release")); err == nil {
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "VERSION="); ok {
				out["os_release"] = strings.Trim(strings.TrimSpace(value), `"'`)
			}
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		out["kernel_version"] = unix.ByteSliceToString(name.Release[:])
	}
	var memory unix.Sysinfo_t
	if unix.Sysinfo(&memory) == nil {
		out["total_memory_gib"] = int64(math.Round(float64(memory.Totalram) * float64(memory.Unit) / (1 << 30)))
	}
	return out
}

// changeText returns the level and the text of the log line for the change e of an
// operation; the text is "" if there is no line for it.
func changeText(e, before operation.Event) (level, text string) {
	failed := e.Failure != nil && before.Failure == nil
	switch {
	case e.Waiting == operation.Reboot:
		return "info", "waiting for a reboot"
	case e.Waiting == operation.Continue:
		return "info", "paused"
	case e.Waiting != "":
		return "info", "waiting for a " + string(e.Waiting)
	case failed:
		return "error", e.Failure.Message
	case e.Phase.Settled():
		return "info", "the operation has ended: " + string(e.Phase)
	case e.Step == before.Step && e.Phase == before.Phase:
		return "", ""
	case e.Phase == operation.Undoing:
		return "warn", "undo: " + e.Step
	}
	return "info", "step: " + e.Step
}

// withoutQuotes replaces the output of a program in message with a reference to the
// operation: the output may have secrets, and all users may read the log.
func withoutQuotes(message, id string) string {
	if text, _, ok := strings.Cut(message, hooks.SaidMark); ok {
		return text + hooks.SaidMark + "(see trident operation show " + id + ")"
	}
	return message
}

func levelWord(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "trace"
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}
