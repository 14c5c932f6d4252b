package servicing

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// streamed writes a disk of a live system, and returns what came of it.
func streamed(t *testing.T, a *album, req StreamRequest, prepare func(w *osWorld)) (*osWorld, operation.Operation) {
	t.Helper()
	w := newOSWorld(t, a)
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	prepare(w)
	id, err := w.daemon.service.StreamDisk(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return w, w.waiting(id)
}

func TestADiskIsWrittenWithinItsDataBudgetOrNotAtAll(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(a.v1.path))))
	t.Cleanup(server.Close)
	req := StreamRequest{URL: server.URL + "/" + filepath.Base(a.v1.path), SHA384: a.v1.sha}
	nothing := func(*osWorld) {}

	w, op := streamed(t, a, req, nothing)
	whole := streamOf(t, op).Used
	if op.Waiting != operation.Reboot || whole == 0 {
		t.Fatalf("%s, %d bytes: %+v", op.Phase, whole, op.Failure)
	}
	if _, ok := findLabel(w.inventory(), "root"); !ok {
		t.Error("the disk has no table")
	}
	req.DataBudget, req.BytesPerSecond = whole, 1<<30
	if _, op := streamed(t, a, req, nothing); op.Waiting != operation.Reboot || streamOf(t, op).Used != whole {
		t.Errorf("with a budget of just what it takes: %s, %+v", op.Phase, op.Failure)
	}
	req.DataBudget = whole - 1
	w, op = streamed(t, a, req, nothing)
	if op.Phase != operation.Undone || op.Failure.Kind != errkind.TooLarge || !strings.Contains(op.Failure.Message, "data budget") {
		t.Errorf("with one byte less: %s, %+v", op.Phase, op.Failure)
	}
	if r := streamOf(t, op); r.Used > req.DataBudget {
		t.Errorf("%d bytes of %d", r.Used, req.DataBudget)
	}
	if _, ok := findLabel(w.inventory(), "root"); ok {
		t.Error("the disk has a table")
	}
}

func TestStreamDiskUsesTheCredentialsOfTheHost(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	_, op := streamed(t, a, StreamRequest{URL: "oci://127.0.0.1:1/os:v1", SHA384: a.v1.sha}, func(w *osWorld) {
		write(t, filepath.Join(w.root, registryAuth), "no JSON, but secret")
	})
	if op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, "/"+registryAuth) || strings.Contains(op.Failure.Message, "secret") {
		t.Errorf("%s: %+v", op.Phase, op.Failure)
	}
}

func TestAnImageWithoutAHashIsWarnedOf(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	w, op := streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: Ignored}, func(*osWorld) {})
	if says := w.says(op.ID); !strings.Contains(says, "no hash of the image was given") || strings.Contains(says, "http") {
		t.Errorf("it says %q", says)
	}
	w, op = streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha}, func(*osWorld) {})
	if says := w.says(op.ID); strings.Contains(says, "no hash") {
		t.Errorf("with a hash it says %q", says)
	}
}

// What is known of an image on this host before the disk is lost is said before.
func TestADiskIsNotLostForABadImage(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	w, op := streamed(t, a, StreamRequest{URL: "file:///srv/v6.cosi", SHA384: a.corrupt.sha}, func(*osWorld) {})
	if op.Phase != operation.Undone || op.Reached != "image" || op.Failure.Kind != errkind.Corrupt || slices.Contains(w.Trace, "wipe table") {
		t.Errorf("%s at %s: %+v: %v", op.Phase, op.Reached, op.Failure, w.Trace)
	}
}

func streamOf(t *testing.T, op operation.Operation) (r struct{ Used int64 }) {
	t.Helper()
	if err := json.Unmarshal(op.State, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A zstd window may take a GiB, which is known before anything is destroyed.
func TestAnImageThatTheHostHasNoMemoryForIsRefusedBeforeADiskIsTouched(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	little := func(w *osWorld) {
		w.daemon.service.disk.Disks.Machine.Memory = func() (int64, bool) { return 8<<20 + 2<<12, true }
	}
	refused := func(w *osWorld, op operation.Operation) {
		t.Helper()
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.TooLarge || !strings.HasPrefix(op.Failure.Message, "image: images/") ||
			!strings.Contains(op.Failure.Message, "and 8396800 are available") {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		for _, touch := range w.Trace {
			if strings.Contains(touch, "wipe") || strings.Contains(touch, "partition") {
				t.Errorf("the disk is touched: %v", w.Trace)
			}
		}
	}
	refused(streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha}, little))

	w := newOSWorld(t, a)
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	little(w)
	id, err := w.daemon.service.Install(t.Context(), InstallRequest{Config: w.parse(hostOf(a.v1, "")), Stage: true, Finalize: true})
	if err != nil {
		t.Fatal(err)
	}
	refused(w, w.waiting(id))
}

// says is what an operation has logged.
func (w *osWorld) says(id string) string {
	w.t.Helper()
	events, err := w.daemon.store.Events(w.t.Context(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		if e.Type == operation.Log {
			out = append(out, e.Message)
		}
	}
	return strings.Join(out, "\n")
}

// A plan fetches no extension of another host, but says when it is not there.
func TestAPlanAsksForExtensionsOfOtherHosts(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	var bytes atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/there.raw" {
			http.NotFound(w, r)
			return
		}
		n, _ := w.Write(make([]byte, 8<<20)) // it serves no ranges
		bytes.Add(int64(n))
	}))
	t.Cleanup(server.Close)
	w := newOSWorld(t, a)
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	for name, says := range map[string]string{"there.raw": "", "gone.raw": "404"} {
		text := strings.Replace(v1(a), "os:\n", "os:\n  sysexts: [{url: '"+server.URL+"/"+name+"', sha384: "+sum384+"}]\n", 1)
		_, err := w.daemon.service.PlanInstall(t.Context(), w.parse(text))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	if bytes.Load() >= 8<<20 {
		t.Errorf("%d bytes were fetched", bytes.Load())
	}
}
