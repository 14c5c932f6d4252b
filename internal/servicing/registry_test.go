package servicing

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

const (
	registryAuth = "etc/trident/registry-auth.json"
	pullers      = "ann:s3cret"
	reader       = "bob:hush-hush"
)

// registryOf serves an image to ann, and returns its sysext for a configuration
// and the registry's host.
func registryOf(t *testing.T, p picture) (entry, host string) {
	t.Helper()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(p.data))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case user+":"+password != pullers:
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v2/ext/app/manifests/v1":
			_, _ = fmt.Fprintf(w, `{"layers":[{"digest":%q,"size":%d}]}`, digest, len(p.data))
		case r.URL.Path == "/v2/ext/app/blobs/"+digest:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.data))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "http://")
	return fmt.Sprintf("{url: 'oci://%s/ext/app:v1', sha384: %s}", host, p.sha), host
}

// authOf is a registry-auth.json.
func authOf(host, login string) string {
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte(login)))
}

func TestAnExtensionIsPulledByTheCredentialsOfTheHost(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	w := newWorld(t, g)
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	entry, host := registryOf(t, g.app1)
	text := fmt.Sprintf("os: {sysexts: [%s]}", entry)
	for _, c := range []struct {
		title, auth string
		kind        errkind.Kind
		says        string
	}{
		{"nothing", "", errkind.Denied, "Trident has none for this registry"},
		{"another's", authOf(host, reader), errkind.Denied, "does not accept the given credentials"},
		{"nonsense", "no JSON, but s3cret", errkind.Invalid, "read /" + registryAuth},
	} {
		if c.auth != "" {
			w.write(registryAuth, c.auth)
		}
		op := w.ask(text, true, true)
		if op.Phase != operation.Undone || op.Failure.Kind != c.kind || op.Failure.Name != "PopulateExtensionImages" || !strings.Contains(op.Failure.Message, c.says) {
			t.Errorf("%s: %s, %+v", c.title, op.Phase, op.Failure)
		}
		w.wantNoLogin(op)
	}
	if op := w.ask(fmt.Sprintf("os: {sysexts: [{url: %q, sha384: %s}]}", g.tool.url(), g.tool.sha), true, true); op.Phase != operation.Done {
		t.Errorf("credentials that are not needed: %+v", op.Failure)
	}
	w.write(registryAuth, authOf(host, pullers))
	op := w.ask(text, true, true)
	if op.Phase != operation.Done || w.text("var/lib/extensions/app.raw") != string(g.app1.data) {
		t.Errorf("%s: %+v", op.Phase, op.Failure)
	}
	w.wantNoLogin(op)
}

// wantNoLogin looks for credentials in what stays of an operation.
func (w *world) wantNoLogin(op operation.Operation) {
	w.t.Helper()
	text, err := json.Marshal(op)
	if err != nil {
		w.t.Fatal(err)
	}
	all := string(text) + string(op.State) + w.says(op.ID)
	for _, login := range []string{pullers, reader} {
		_, password, _ := strings.Cut(login, ":")
		for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(login))} {
			if strings.Contains(all, secret) {
				w.t.Errorf("%s is in %s", secret, all)
			}
		}
	}
}

// The system that is written is brought its extensions by the one that runs.
func TestAnExtensionOfANewSystemIsPulledByTheCredentialsOfTheRunningOne(t *testing.T) {
	t.Parallel()
	g, a := newGallery(t), newAlbum(t)
	entry, host := registryOf(t, g.tool)
	text := strings.Replace(v1(a), "os:\n", fmt.Sprintf("os:\n  sysexts: [%s]\n", entry), 1)
	for _, login := range []string{reader, pullers} {
		w := newOSWorld(t, a)
		w.powerOn()
		write(t, filepath.Join(w.root, registryAuth), authOf(host, login))
		id, err := w.daemon.service.Install(t.Context(), InstallRequest{Config: w.parse(text), Stage: true, Finalize: true})
		if err != nil {
			t.Fatal(err)
		}
		op := w.waiting(id)
		if login == pullers && op.Waiting != operation.Reboot {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		if login == reader && (op.Phase != operation.Undone || op.Failure.Kind != errkind.Denied || op.Failure.Name != "PopulateExtensionImages") {
			t.Errorf("by another's credentials: %s, %+v", op.Phase, op.Failure)
		}
		w.stopDaemon()
	}
}
