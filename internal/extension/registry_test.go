package extension

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// inRegistry serves images, by tag, to ann only.
func inRegistry(t *testing.T, tags map[string][]byte) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		for tag, data := range tags {
			digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
			switch r.URL.Path {
			case "/v2/ext/app/manifests/" + tag:
				_, _ = fmt.Fprintf(w, `{"layers":[{"digest":%q,"size":%d}]}`, digest, len(data))
				return
			case "/v2/ext/app/blobs/" + digest:
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	return "oci://" + strings.TrimPrefix(server.URL, "http://") + "/ext/app"
}

func TestAnImageIsFetchedFromARegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := imageFor(t, Sysext, "app", "")
	tags := map[string][]byte{"v1": app.data, "v2": []byte("something else")}
	url := inRegistry(t, tags)
	logins := 0
	login := func(password string) func() (func(string) (string, string), error) {
		return func() (func(string) (string, string), error) {
			logins++
			return func(string) (string, string) { return "ann", password }, nil
		}
	}
	src := Source{Class: Sysext, URL: url + ":v1", SHA384: app.sha}
	for _, c := range []struct {
		title string
		login func() (func(string) (string, string), error)
		url   string
		kind  errkind.Kind
		words string
	}{
		{"nobody", nil, src.URL, errkind.Denied, "none are given for it"},
		{"nobody, by a file that is absent", func() (func(string) (string, string), error) { return nil, nil }, src.URL, errkind.Denied, "none are given for it"},
		{"another password", login("hush"), src.URL, errkind.Denied, "does not accept the given credentials"},
		{"no credentials to read", func() (func(string) (string, string), error) {
			return nil, errkind.With(errkind.Invalid, errors.New("they are broken"))
		}, src.URL, errkind.Invalid, "they are broken"},
		{"another tag", login("s3cret"), url + ":v2", errkind.Corrupt, "SHA-384 is "},
		{"no tag", login("s3cret"), url + ":v3", errkind.NotFound, "404"},
	} {
		w.store.Login = c.login
		_, err := w.store.Stage(t.Context(), Source{Class: Sysext, URL: c.url, SHA384: app.sha}, nil, nil, nil)
		if err == nil || errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.words) || !strings.HasPrefix(err.Error(), "stage sysext "+c.url+": ") {
			t.Errorf("%s: %v (%s), want %q (%s)", c.title, err, errkind.Of(err), c.words, c.kind)
		}
		if strings.Contains(fmt.Sprint(err), "hush") {
			t.Errorf("%s: a secret is in %v", c.title, err)
		}
	}
	w.store.Login, logins = login("s3cret"), 0
	for range 2 { // the second needs neither registry nor credentials
		i, err := w.store.Stage(t.Context(), src, nil, nil, nil)
		if err != nil || i.Extension().SHA384 != app.sha {
			t.Fatalf("%+v, %v", i.Extension(), err)
		}
	}
	if logins != 1 {
		t.Errorf("credentials were read %d times", logins)
	}
	w.wantStored(app.sha[:8])
	if left, err := filepath.Glob(filepath.Join(w.root, storeDir, "*.part*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if data, err := os.ReadFile(filepath.Join(w.root, storeDir, app.sha+".raw")); err != nil || !bytes.Equal(data, app.data) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
