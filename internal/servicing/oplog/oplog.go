// Package oplog writes the log and the metrics of an operation to the files in which
// upstream's tools read them.
package oplog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
)

// The files in which upstream's tools read the log and the metrics of the last
// servicing. Copies of both are beside the datastore, named by the state of the host
// and the time.
const (
	fullLog      = "var/log/trident-full.log"
	metricsLog   = "var/log/trident-metrics.jsonl"
	maxFullLog   = 4 << 20 // bytes, of each file
	fullLogsKept = 10      // copies, of each of the two
	logPage      = 500     // events per read of the journal
	stampForm    = "20060102T150405Z"
)

// Log writes the files of one host.
type Log struct {
	*change.Host
	// KindOf returns what an operation of a kind does, "" for one without files, and the
	// metric of one that succeeded, or "".
	KindOf func(kind string) (does change.Kind, successMetric string)
	// Reports sends the same to the servers that a Host Configuration names; nil sends
	// nothing.
	Reports *Reports
}

// Observe writes the log of an operation on the host once the operation has ended or
// waits for a reboot, and gives all events to Reports. As [operation.Config.Observe] it runs
// before watchers receive that change. If it cannot write the log, it only logs the error:
// the operation does not fail.
func (l *Log) Observe(op operation.Operation, events ...operation.Event) {
	does, metric := l.KindOf(op.Kind)
	if l.Reports != nil && does != "" {
		l.Reports.observe(l.Host, op, does, metric, events)
	}
	if len(events) == 0 || events[len(events)-1].Type != operation.Change || does == "" {
		return
	}
	if !op.Phase.Settled() && op.Waiting != operation.Reboot {
		return
	}
	ctx := context.Background()
	if err := l.Touch("write log", func() error { return l.writeLogs(ctx, op) }); err != nil {
		l.Logger.Warn("cannot write the log of the operation", "operation", op.ID, "error", err)
	}
}

func (l *Log) writeLogs(ctx context.Context, op operation.Operation) error {
	logs, err := l.logsOf(ctx, op)
	if err != nil {
		return err
	}
	// Mode and names are upstream's, whose tools read the files as any user.
	err = errors.Join(writeLog(filepath.Join(l.Root, fullLog), logs.lines), writeLog(filepath.Join(l.Root, metricsLog), logs.metrics))
	if does, _ := l.KindOf(op.Kind); does == change.None {
		return err
	}
	st, serr := l.Store.Status(ctx)
	at, perr := hoststate.Path(l.Root)
	if err = errors.Join(err, serr, perr); err != nil {
		return err
	}
	_, err = logs.keep(filepath.Join(l.Root, filepath.Dir(at)), st.Phase.State())
	return err
}

// writeLog writes a file that all users may read. It creates a missing folder.
func writeLog(path string, text []byte) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return err
		}
	}
	return atomicfile.Write(path, text, 0o644)
}

// logs has the contents of the two files of an operation.
type logs struct{ lines, metrics []byte }

// keep writes copies of l into the folder dir and returns their paths. It deletes the
// oldest copies beyond fullLogsKept.
func (l logs) keep(dir, state string) ([]string, error) {
	name := change.Camel(state) + "-" + time.Now().UTC().Format(stampForm)
	var paths []string
	var errs []error
	for _, f := range []struct {
		prefix, suffix string
		text           []byte
	}{{"trident-", ".log", l.lines}, {"trident-metrics-", ".jsonl", l.metrics}} {
		old := keptLogs(dir, f.prefix, f.suffix)
		for _, path := range old[:max(0, len(old)+1-fullLogsKept)] {
			errs = append(errs, atomicfile.Remove(path))
		}
		path := filepath.Join(dir, f.prefix+name+f.suffix)
		errs = append(errs, atomicfile.Write(path, f.text, 0o644))
		paths = append(paths, path)
	}
	return paths, errors.Join(errs...)
}

// keptLogs returns the paths of the copies in a folder, the oldest first.
func keptLogs(dir, prefix, suffix string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, prefix+"[A-Z]*-*Z"+suffix))
	stamp := func(path string) string { return path[strings.LastIndexByte(path, '-')+1:] }
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(cmp.Compare(stamp(a), stamp(b)), cmp.Compare(a, b)) })
	return found
}

// HandOver copies the kept logs of this host, and the log of the operation so far,
// into dir, a folder of the system that is being installed.
func (l *Log) HandOver(ctx context.Context, id, dir string) error {
	op, err := l.Runner.Get(ctx, id)
	if err != nil {
		return err
	}
	logs, err := l.logsOf(ctx, op)
	if err != nil {
		return err
	}
	at, err := hoststate.Path(l.Root)
	if err != nil {
		return err
	}
	from, errs := filepath.Join(l.Root, filepath.Dir(at)), []error(nil)
	var all []string
	for _, path := range slices.Concat(keptLogs(from, "trident-", ".log"), keptLogs(from, "trident-metrics-", ".jsonl")) {
		to := filepath.Join(dir, filepath.Base(path))
		text, err := os.ReadFile(path)
		if err == nil {
			err = atomicfile.Write(to, text, 0o644)
		}
		if err == nil {
			all = append(all, to)
		}
		errs = append(errs, err)
	}
	paths, err := logs.keep(dir, string(hoststate.TryingInstall))
	errs = append(errs, err)
	for _, path := range append(all, paths...) {
		errs = append(errs, osconfig.Inherit(path)) // the step "labels" has run already
	}
	return errors.Join(errs...)
}

// logsOf returns the journaled events of an operation in upstream's forms: one JSON
// object per line, the oldest first. It omits the oldest events beyond maxFullLog.
func (l *Log) logsOf(ctx context.Context, op operation.Operation) (logs, error) {
	var out logs
	var lines, metrics cappedLog
	keep := func(entries []entry) {
		for _, e := range entries {
			if e.log != nil {
				lines.add(e.log)
			} else {
				metrics.add(e.metric)
			}
		}
	}
	t := translator{version: l.Version, platform: platformOf(l.Root)}
	keep(t.begin(op))
	for {
		page, err := l.Store.Events(ctx, op.ID, t.before.Sequence, logPage)
		if err != nil {
			return logs{}, fmt.Errorf("read the events of operation %s: %w", op.ID, err)
		}
		for _, e := range page {
			keep(t.event(op, e))
		}
		if len(page) < logPage {
			break
		}
	}
	if _, name := l.KindOf(op.Kind); name != "" && op.Phase == operation.Done {
		keep(t.success(op, name))
	}
	out.lines, out.metrics = lines.text(), metrics.text()
	return out, nil
}

// cappedLog collects lines. Its text is the last maxFullLog bytes of them.
type cappedLog struct {
	buf bytes.Buffer
}

func (c *cappedLog) add(entry any) {
	enc := json.NewEncoder(&c.buf)
	enc.SetEscapeHTML(false) // people search these files for texts
	if err := enc.Encode(entry); err != nil {
		return // JSON has no infinity and no NaN
	}
	if c.buf.Len() > 2*maxFullLog {
		c.trim()
	}
}

// trim drops the oldest lines beyond maxFullLog bytes.
func (c *cappedLog) trim() {
	over := c.buf.Len() - maxFullLog
	if over <= 0 {
		return
	}
	c.buf.Next(over)
	if end := bytes.IndexByte(c.buf.Bytes(), '\n'); end >= 0 {
		c.buf.Next(end + 1)
	}
}

func (c *cappedLog) text() []byte {
	c.trim()
	return c.buf.Bytes()
}
