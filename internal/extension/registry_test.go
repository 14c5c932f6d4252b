package extension

import (
	"bytes"
	"crypto/sha256"
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
	auth := filepath.Join(w.root, "etc/trident/registry-auth.json")
	if err := os.MkdirAll(filepath.Dir(auth), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(auth, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	registry, _, _ := strings.Cut(strings.TrimPrefix(url, "oci://"), "/")
	login := func(password string) string {
		return fmt.Sprintf(`{"auths":{%q:{"username":"ann","password":%q}}}`, registry, password)
	}
	src := Source{Class: Sysext, URL: url + ":v1", SHA384: app.sha}
	for _, c := range []struct {
		title, auth string
		url         string
		kind        errkind.Kind
		words       string
	}{
		{"nobody", "", src.URL, errkind.Denied, "Trident has none for this registry"},
		{"nobody, by a file without this registry", "{}", src.URL, errkind.Denied, "Trident has none for this registry"},
		{"another password", login("hush"), src.URL, errkind.Denied, "does not accept the given credentials"},
		{"no credentials to read", "they are broken", src.URL, errkind.Invalid, "read /etc/trident/registry-auth.json: "},
		{"another tag", login("s3cret"), url + ":v2", errkind.Corrupt, "SHA-384 is "},
		{"no tag", login("s3cret"), url + ":v3", errkind.NotFound, "404"},
	} {
		if c.auth != "" {
			write(c.auth)
		}
		_, err := w.store.Stage(t.Context(), Source{Class: Sysext, URL: c.url, SHA384: app.sha}, nil, nil, nil)
		if err == nil || errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.words) || !strings.HasPrefix(err.Error(), "stage sysext "+c.url+": ") {
			t.Errorf("%s: %v (%s), want %q (%s)", c.title, err, errkind.Of(err), c.words, c.kind)
		}
		if strings.Contains(fmt.Sprint(err), "hush") {
			t.Errorf("%s: a secret is in %v", c.title, err)
		}
	}
	write(login("s3cret"))
	for range 2 {
		i, err := w.store.Stage(t.Context(), src, nil, nil, nil)
		if err != nil || i.Extension().SHA384 != app.sha {
			t.Fatalf("%+v, %v", i.Extension(), err)
		}
		write("broken") // the second needs neither registry nor credentials
	}
	w.wantStored(app.sha[:8])
	if left, err := filepath.Glob(filepath.Join(w.root, storeDir, "*.part*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if data, err := os.ReadFile(filepath.Join(w.root, storeDir, app.sha+".raw")); err != nil || !bytes.Equal(data, app.data) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
