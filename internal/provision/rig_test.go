package provision

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/provision/provisiontest"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

const (
	done = operationsv1.Phase_PHASE_DONE
	room = provisiontest.Room
)

// lines gets each line of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(bytes.TrimSpace(p)):
	default:
	}
	return len(p), nil
}

func placeholder(path string, size int) string { return provisiontest.Placeholder(path, size) }

// options are those of a run that works.
func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Config: []byte(provisiontest.HostConfiguration), Image: provisiontest.OSImage(t), ISO: provisiontest.LiveImage(t),
		Address: "127.0.0.1", Name: "m1",
	}
}

// run is a prepared run, and what it says.
type run struct {
	*Run
	t       *testing.T
	log     lines
	notices lines
}

func prepare(t *testing.T, change func(*Options)) *run {
	t.Helper()
	r := &run{t: t, log: make(lines, 100), notices: make(lines, 100)}
	o := options(t)
	o.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	o.Notice = func(s string) { _, _ = r.notices.Write([]byte(s)) }
	if change != nil {
		change(&o)
	}
	var err error
	if r.Run, err = Prepare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// boot boots a machine from the live image, with daemon behind its agent, until stop.
func (r *run) boot(daemon *clienttest.Server) (stop func()) {
	r.t.Helper()
	return provisiontest.Boot(r.t, r.ISO(), r.options.ISO, daemon)
}

func (r *run) read(path string) []byte {
	r.t.Helper()
	return provisiontest.ReadFile(r.t, r.ISO(), r.options.ISO, path)
}

func (r *run) get(url string) []byte {
	r.t.Helper()
	return provisiontest.Get(r.t, url)
}

// report sends a report of trident.phonehome in the form of upstream's.
func (r *run) report(url, body string) int {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// installation are the events of an installation up to its reboot.
func installation() []*operationsv1.Event {
	return []*operationsv1.Event{clienttest.Step(0, "write", nil), clienttest.Progress("write", 1, 2), clienttest.Reboot("reboot")}
}

func nothing(*client.Event) {}

// onReboot calls fn once, when the machine reboots.
func onReboot(fn func()) func(*client.Event) {
	return func(e *client.Event) {
		if e.GetChange().GetWaiting() == "reboot" {
			go fn()
		}
	}
}

func text(format string, args ...any) string { return fmt.Sprintf(format, args...) }
