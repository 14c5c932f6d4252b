package jsonrpc

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/handles"
)

// upload sends an image and returns the status of HTTP, the ID of the upload, and the body.
func (f *fixture) upload(image string, headers ...string) (code int, id, body string) {
	f.t.Helper()
	code, body, header := f.request("POST", PathUpload, image, append([]string{"Authorization", "Bearer t"}, headers...)...)
	var got struct {
		ID    string
		Error struct {
			Code    int
			Message string
			Data    struct{ Kind string }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || header.Get("Content-Type") != "application/json" {
		f.t.Errorf("%d %q: %v", code, body, err)
	}
	if code != 200 && (got.Error.Code == 0 || got.Error.Message == "" || got.Error.Data.Kind == "") {
		f.t.Errorf("%d %s: an error lacks a member", code, body)
	}
	return code, got.ID, body
}

func upgradeOf(id, more string) string {
	return `{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"upload":{"id":"` + id + `"}}` + more + `},"id":1}`
}

func TestAnUploadIsTheSourceOfAnUpgrade(t *testing.T) {
	f := newFixture(t)
	image := strings.Repeat("image", 300_000)
	code, id, body := f.upload(image)
	if code != 200 || id == "" || f.daemon.image != int64(len(image)) {
		t.Fatalf("%d %s, tridentd has %d bytes", code, body, f.daemon.image)
	}
	// An upgrade that does not begin keeps the upload.
	for text, want := range map[string]string{
		upgradeOf("none", ""): "5 id=1",
		`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"url":"https://x","upload":{"id":"` + id + `"}}},"id":1}`: "-32602 id=1",
		`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"upload":{"id":"` + id + `","size":3}}},"id":1}`:          "-32602 id=1",
		`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"upload":{}}},"id":1}`:                                    "-32602 id=1",
		`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"upload":"` + id + `"}},"id":1}`:                          "-32602 id=1",
		upgradeOf(id, `,"requestId":""`):                             "-32602 id=1",
		upgradeOf(id, `,"requestId":7`):                              "-32602 id=1",
		upgradeOf(id, `,"requestId":"`+strings.Repeat("x", 129)+`"`): "-32602 id=1",
	} {
		if got := brief(f.post(text)); got != want {
			t.Errorf("%.150s: %s, want %s", text, got, want)
		}
	}
	if got := brief(f.post(upgradeOf(id, `,"requestId":"r1"`))); got != `{"operationId":"op"} id=1` {
		t.Fatal(got)
	}
	if got := f.daemon.upgrade.GetStart().GetSource().GetImageHandle(); got != 7 {
		t.Errorf("the handle is %d", got)
	}
	// The upload is used up. A repeated call finds its operation all the same.
	if got := brief(f.post(upgradeOf(id, ""))); got != "5 id=1" {
		t.Errorf("a second use: %s", got)
	}
	if got := brief(f.post(upgradeOf(id, `,"requestId":"r1"`))); got != `{"operationId":"op"} id=1` {
		t.Errorf("a repeated call: %s", got)
	}
	if got := brief(f.post(upgradeOf(id, `,"requestId":"r2"`))); got != "5 id=1" {
		t.Errorf("another call: %s", got)
	}
	for _, a := range f.gate.actions {
		if a.Name == "upload" && a.GRPC == "/trident.handles.v1.HandleService/OpenImage" && a.Right == "operate" {
			return
		}
	}
	t.Error("the audit log lacks the upload")
}

func TestAnUploadIsRefused(t *testing.T) {
	f := newFixture(t)
	if maxUpload != handles.MaxImage {
		t.Error("the gateway and tridentd differ about the largest image")
	}
	if code, _, body := f.upload(""); code != http.StatusBadRequest {
		t.Errorf("an empty image: %d %s", code, body)
	}
	for _, tt := range []struct {
		method  string
		headers []string
		code    int
	}{
		{"GET", nil, http.StatusMethodNotAllowed},
		{"POST", []string{"Authorization", "Bearer wrong"}, http.StatusUnauthorized},
		{"POST", []string{"Host", "evil.example.org"}, http.StatusForbidden},
		{"POST", []string{"Origin", "https://evil.example.org"}, http.StatusForbidden},
	} {
		if code, body, _ := f.request(tt.method, PathUpload, "x", tt.headers...); code != tt.code || strings.Contains(body, `"id"`) {
			t.Errorf("%v: %d %s", tt, code, body)
		}
	}
	if code, body, _ := f.request("POST", PathUpload, "x"); code != http.StatusUnauthorized || !strings.Contains(body, `{"error":{"code":16,`) {
		t.Errorf("without a login: %d %s", code, body)
	}
	for length, want := range map[string]string{"Transfer-Encoding: chunked": "411", fmt.Sprint("Content-Length: ", maxUpload+1): "413"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// The answer comes before the body.
		fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\nExpect: 100-continue\r\n%s\r\n\r\n", length)
		line, err := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+want) {
			t.Errorf("%s: %q %v", length, line, err)
		}
	}
	f.daemon.refuses = true
	if code, _, body := f.upload(strings.Repeat("x", 3*chunkSize)); code != http.StatusTooManyRequests || !strings.Contains(body, "the disk is full") {
		t.Errorf("tridentd refuses: %d %s", code, body)
	}
}

// An upload that ends early gives its place back.
func TestABrokenUploadKeepsNoPlace(t *testing.T) {
	f := newFixture(t)
	for range 4 {
		r, err := http.NewRequestWithContext(t.Context(), "POST", f.http.URL+PathUpload, io.MultiReader(strings.NewReader("short")))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 1 << 20
		r.Header.Set("Authorization", "Bearer t")
		if resp, err := f.http.Client().Do(r); err == nil {
			_ = resp.Body.Close()
			t.Fatalf("an answer to half a request: %d", resp.StatusCode)
		}
	}
	f.http.CloseClientConnections()
	for end := time.Now().Add(time.Minute); ; {
		// The handlers of the broken requests end soon.
		if code, _, body := f.upload("image"); code == http.StatusOK {
			return
		} else if code != http.StatusTooManyRequests || time.Now().After(end) {
			t.Fatalf("%d %s", code, body)
		}
	}
}
