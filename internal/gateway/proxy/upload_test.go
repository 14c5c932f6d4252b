package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An upload needs the right of the method of the API that receives images, and is in the audit
// log as a call of it.
func TestAnUploadPassesTheGate(t *testing.T) {
	f := newFixture(t, "")
	reader := f.addToken("reader", time.Hour, "read")
	for _, tt := range []struct {
		token, origin, body string
		code                int
		want                string
	}{
		{reader, "", "image", 403, `{"error":{"code":7,"message":"call /trident.handles.v1.HandleService/OpenImage for token:reader: it needs the right operate`},
		{"", "", "image", 401, `{"error":{"code":16,`},
		{"trident_x", "", "image", 401, `{"error":{"code":7,`},
		{reader, "https://evil.example.org", "image", 403, "http.origins"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+f.address+"/upload", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		resp, err := f.browser().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tt.code || !strings.Contains(string(body), tt.want) {
			t.Errorf("%+v: %d %s %v", tt, resp.StatusCode, body, err)
		}
	}
	if seen := f.backend.seen(); len(seen) != 0 {
		t.Errorf("tridentd was called: %v", seen)
	}
	for _, e := range f.entries() {
		if e.RPC == "upload" && e.Identity == "token:reader" && e.Right == "operate" && e.Method == "/trident.handles.v1.HandleService/OpenImage" && e.Result == "PermissionDenied" {
			return
		}
	}
	t.Error("the audit log lacks the upload")
}
