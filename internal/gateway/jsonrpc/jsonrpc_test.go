package jsonrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/load"
)

// brief returns an answer without its texts: results, and codes of errors.
func brief(answer string) string {
	if answer == "" {
		return ""
	}
	var all []json.RawMessage
	if json.Unmarshal([]byte(answer), &all) == nil {
		var out []string
		for _, a := range all {
			out = append(out, brief(string(a)))
		}
		return "[" + strings.Join(out, " ") + "]"
	}
	var a struct {
		JSONRPC string
		Result  json.RawMessage
		Error   *struct{ Code int }
		ID      json.RawMessage
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil || a.JSONRPC != "2.0" || (a.Result == nil) == (a.Error == nil) || a.ID == nil {
		return "not an answer: " + answer
	}
	if a.Error != nil {
		return fmt.Sprintf("%d id=%s", a.Error.Code, a.ID)
	}
	return fmt.Sprintf("%s id=%s", strings.ReplaceAll(string(a.Result), " ", ""), a.ID)
}

// The examples of the specification (section 7), with methods that Trident has, and what
// other servers get wrong.
func TestCallsAreAnsweredAsTheSpecificationSays(t *testing.T) {
	both(t, func(t *testing.T, f *fixture, call func(string) string) {
		for _, tt := range []struct{ text, want string }{
			// positional and named parameters
			{`{"jsonrpc": "2.0", "method": "self.history", "params": [1], "id": 1}`, `{"entries":[{"operationId":"","kind":"","fromVersion":"","toVersion":"","phase":"PHASE_UNSPECIFIED","evidence":""}]} id=1`},
			{`{"jsonrpc": "2.0", "method": "self.history", "params": {"limit": 0}, "id": 3}`, `{"entries":[]} id=3`},
			{`{"jsonrpc":"2.0","method":"version","id":"x"}`, `{"version":"1.2.3"} id="x"`},
			{`{"jsonrpc":"2.0","method":"version","params":[],"id":0}`, `{"version":"1.2.3"} id=0`},
			{`{"jsonrpc":"2.0","method":"version","params":{},"id":-7}`, `{"version":"1.2.3"} id=-7`},
			// notifications
			{`{"jsonrpc": "2.0", "method": "version", "params": [1,2,3,4,5]}`, ""},
			{`{"jsonrpc": "2.0", "method": "foobar"}`, ""},
			{`{"jsonrpc": "2.0", "method": "version"}`, ""},
			// unknown methods
			{`{"jsonrpc": "2.0", "method": "foobar", "id": "1"}`, `-32601 id="1"`},
			{`{"jsonrpc": "2.0", "method": "rpc.serverInfo", "id": "1"}`, `-32601 id="1"`},
			{`{"jsonrpc": "2.0", "method": "", "id": "1"}`, `-32601 id="1"`},
			// not JSON
			{`{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]`, "-32700 id=null"},
			{"", "-32700 id=null"},
			{"[\n  {\"jsonrpc\": \"2.0\", \"method\": \"version\", \"id\": \"1\"},\n  {\"jsonrpc\": \"2.0\", \"method\"\n]", "-32700 id=null"},
			// not a request
			{`{"jsonrpc": "2.0", "method": 1, "params": "bar"}`, "-32600 id=null"},
			{`[]`, "-32600 id=null"},
			{`[1]`, "[-32600 id=null]"},
			{`[1,2,3]`, "[-32600 id=null -32600 id=null -32600 id=null]"},
			{`{"jsonrpc":"1.0","method":"version","id":1}`, "-32600 id=1"},
			{`{"jsonrpc":"2.0","method":"version","params":"x","id":1}`, "-32600 id=1"},
			{`{"jsonrpc":"2.0","method":"version","id":true}`, "-32600 id=null"},
			{`{"jsonrpc":"2.0","method":"version","id":[1]}`, "-32600 id=null"},
			{`{"jsonrpc":"2.0","method":"version","id":1,"id":2}`, "-32600 id=null"},
			{`{"jsonrpc":"2.0","method":"version","params":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"id":1}`, "-32600 id=null"},
			// batches
			{`[
        {"jsonrpc": "2.0", "method": "version", "params": [], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "self.history", "params": [0], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "version", "id": "9"}
    ]`, `[{"version":"1.2.3"} id="1" {"entries":[]} id="2" -32600 id=null -32601 id="5" {"version":"1.2.3"} id="9"]`},
			{`[{"jsonrpc":"2.0","method":"version"},{"jsonrpc":"2.0","method":"foobar","params":[7]}]`, ""},
			// ids
			{`{"jsonrpc":"2.0","method":"version","id":null}`, `{"version":"1.2.3"} id=null`},
			{`{"jsonrpc":"2.0","method":"version","id":1.5}`, `{"version":"1.2.3"} id=1.5`},
			{`{"jsonrpc":"2.0","method":"version","id":1e3}`, `{"version":"1.2.3"} id=1e3`},
			{`{"jsonrpc":"2.0","method":"version","id":1234567890123456789012345}`, `{"version":"1.2.3"} id=1234567890123456789012345`},
			// parameters that do not fit
			{`{"jsonrpc":"2.0","method":"version","params":[1],"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"version","params":{"x":1},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"operations.get","id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"operations.get","params":[null],"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"operations.get","params":[7],"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"self.history","params":{"limit":1e99},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"link":"x"}},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"upload":{"size":1}}},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"imageHandle":1}},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"url":"a","path":"b"}},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"system_load.historical","params":{"since":"yesterday"},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"authenticate","params":{"token":"t","passphrase":"x"},"id":1}`, "-32602 id=1"},
			{`{"jsonrpc":"2.0","method":"notifications.subscribe","params":{"topic":"load"},"id":"h"}`, map[bool]string{true: "9 id=\"h\"", false: `{"subscription":"s1"} id="h"`}[t.Name()[len(t.Name())-4:] == "HTTP"]},
			{`{"jsonrpc":"2.0","method":"notifications.unsubscribe","params":["s99"],"id":1}`, "5 id=1"},
			// errors of tridentd
			{`{"jsonrpc":"2.0","method":"operations.get","params":["none"],"id":1}`, "5 id=1"},
			{`{"jsonrpc":"2.0","method":"self.check_updates","id":1}`, "12 id=1"},
			{`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{}},"id":1}`, "3 id=1"},
			// an operation begins, and goes on
			{`{"jsonrpc":"2.0","method":"self.upgrade","params":{"source":{"url":"https://x/y"},"trial":{"soak":"20s","pause":"PAUSE_BEFORE_ACTIVATE"}},"id":1}`, `{"operationId":"op"} id=1`},
			{`{"jsonrpc":"2.0","method":"self.activate","params":{"version":"1.9.0","trial":{"allowReadOnlyUsr":true},"requestId":"a"},"id":1}`, `{"operationId":"op"} id=1`},
		} {
			if got := brief(call(tt.text)); got != tt.want {
				t.Errorf("%.120s\n got %.300s\nwant %s", tt.text, got, tt.want)
			}
		}
		if s := f.daemon.upgrade.GetStart(); s.GetTrial().GetSoak().AsDuration() != 20*time.Second || s.GetTrial().GetPause() != 1 || s.GetSource().GetUrl() != "https://x/y" {
			t.Errorf("tridentd got %v", s)
		}
		if a := f.daemon.activate; a.GetVersion() != "1.9.0" || !a.GetTrial().GetAllowReadOnlyUsr() {
			t.Errorf("tridentd got %v", a)
		}
		got := call(`{"jsonrpc":"2.0","method":"operations.get","params":{"id":"op"},"id":1}`)
		if !strings.Contains(got, `"lastSequence":"1152921504606846976"`) {
			t.Errorf("a number of 64 bits: %s", got)
		}
	})
}

func TestMethodsOfTheGatewayItself(t *testing.T) {
	both(t, func(t *testing.T, f *fixture, call func(string) string) {
		now := time.Now().UTC().Truncate(time.Second)
		for i := range 3 {
			if err := f.load.Add(load.Minute{Sample: load.Sample{Time: now.Add(time.Duration(i-2) * time.Minute), Load1: float64(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		var answer struct {
			Result struct {
				Samples       []load.Minute
				Time          time.Time
				Processors    int
				UptimeSeconds int
				OpenRPC       string
				Methods       []struct{ Name string }
				Identity      string
			}
		}
		ask := func(text string) {
			t.Helper()
			if err := json.Unmarshal([]byte(call(text)), &answer); err != nil {
				t.Error(err)
			}
		}
		ask(`{"jsonrpc":"2.0","method":"system_load.historical","params":["` + now.Add(-time.Minute).Format(time.RFC3339) + `"],"id":1}`)
		if s := answer.Result.Samples; len(s) != 2 || s[1].Load1 != 2 {
			t.Errorf("%+v", s)
		}
		ask(`{"jsonrpc":"2.0","method":"system_load.current","id":1}`)
		if r := answer.Result; r.Processors < 1 || r.UptimeSeconds < 1 || time.Since(r.Time) > time.Minute {
			t.Errorf("%+v", r)
		}
		ask(`{"jsonrpc":"2.0","method":"rpc.discover","id":1}`)
		if r := answer.Result; r.OpenRPC != "1.2.6" || len(r.Methods) < 15 || r.Methods[0].Name != "rpc.discover" {
			t.Errorf("%+v", r)
		}
		ask(`{"jsonrpc":"2.0","method":"authenticate","params":["correct horse"],"id":1}`)
		if answer.Result.Identity != "passphrase:admin" {
			t.Errorf("%+v", answer.Result)
		}
	})
}

func TestLimitsOfMessages(t *testing.T) {
	both(t, func(t *testing.T, f *fixture, call func(string) string) {
		many := func(n int, member string) string {
			return "[" + strings.TrimSuffix(strings.Repeat(member+",", n), ",") + "]"
		}
		got := brief(call(many(maxBatch, `{"jsonrpc":"2.0","method":"version","id":1}`)))
		if strings.Count(got, "1.2.3") != maxBatch {
			t.Errorf("the largest batch: %.200s", got)
		}
		before := len(f.gate.actions)
		got = brief(call(many(maxBatch+1, `{"jsonrpc":"2.0","method":"version","id":1}`)))
		if strings.Count(got, "-32600 id=1") != maxBatch+1 || len(f.gate.actions) != before {
			t.Errorf("a larger batch: %.200s", got)
		}
		if got = brief(call(many(300_000, `1`))); got != "-32600 id=null" {
			t.Errorf("a batch whose answer would be large: %.200s", got)
		}
		got = brief(call(many(50, `{"jsonrpc":"2.0","method":"self.history","params":[1000],"id":1}`)))
		if n := strings.Count(got, "8 id=1"); n < 5 || n > 45 {
			t.Errorf("large answers: %d of 50 are refused", n)
		}
		if got = brief(call(`{"jsonrpc":"2.0","method":"self.history","params":[50000],"id":1}`)); got != "8 id=1" {
			t.Errorf("a large answer: %.200s", got)
		}
		before = f.gate.logins
		got = brief(call(many(5, `{"jsonrpc":"2.0","method":"authenticate","params":["guess"],"id":1}`)))
		if got != "[7 id=1 -32600 id=1 -32600 id=1 -32600 id=1 -32600 id=1]" || f.gate.logins != before+1 {
			t.Errorf("guesses in a batch: %s", got)
		}
	})
}

func TestWhoHasNotLoggedInCanDiscoverAndLogIn(t *testing.T) {
	f := newFixture(t)
	version := `{"jsonrpc":"2.0","method":"version","id":1}`
	anonymous := func(text string) string {
		_, got, _ := f.request("POST", PathRPC, text)
		return brief(got)
	}
	if got := anonymous(version); got != "16 id=1" {
		t.Error(got)
	}
	if got := anonymous(`{"jsonrpc":"2.0","method":"rpc.discover","id":1}`); !strings.Contains(got, "openrpc") {
		t.Error(got)
	}
	// In a batch the login counts for what follows.
	if got := anonymous(`[` + version + `,{"jsonrpc":"2.0","method":"authenticate","params":["correct horse"],"id":2},` + version + `]`); !strings.HasPrefix(got, "[16 id=1 {") || !strings.HasSuffix(got, `{"version":"1.2.3"} id=1]`) {
		t.Error(got)
	}
}

func TestTheAnswerOfHTTPSaysWhatIsWrongBeforeJSON(t *testing.T) {
	f := newFixture(t)
	version := `{"jsonrpc":"2.0","method":"version","id":1}`
	local := strings.TrimPrefix(f.http.URL, "http://")
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		code               int
		text               string
	}{
		{"POST", PathRPC, version, []string{"Authorization", "Bearer t"}, 200, "1.2.3"},
		{"POST", PathRPC, version, []string{"Authorization", "Bearer t", "Content-Type", "application/json; charset=utf-8"}, 200, "1.2.3"},
		{"POST", PathRPC + "?access_token=t", version, nil, 200, "1.2.3"}, // the fixture has one login: see the test of proxy
		{"POST", PathRPC, version, []string{"Authorization", "Bearer x"}, 401, "log in: the token is not known here\nmake one"},
		{"POST", PathRPC, version, []string{"Content-Type", "text/plain"}, 415, "not application/json"},
		{"POST", PathRPC, version, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "not application/json"},
		{"POST", PathRPC, version, []string{"Content-Type", ""}, 415, "not application/json"},
		{"POST", PathRPC, strings.Repeat(" ", maxRequest+1), []string{"Authorization", "Bearer t"}, 413, "larger than"},
		{"POST", "/", version, nil, 404, PathRPC},
		{"GET", "/../etc/passwd", "", nil, 404, PathRPC},
		{"GET", PathRPC, "", nil, 405, "POST"},
		{"PUT", PathRPC, version, nil, 405, "POST"},
		{"DELETE", PathOpenRPC, "", nil, 405, "GET"},
		{"GET", PathOpenRPC, "", nil, 200, `"openrpc":"1.2.6"`},
		{"GET", PathOpenRPC, "", []string{"Host", "localhost"}, 200, "openrpc"},
		{"GET", PathOpenRPC, "", []string{"Host", "[::1]:7443"}, 200, `"servers":[{"name":"this gateway","url":"https://[::1]:7443/rpc"}]`},
		{"GET", PathOpenRPC, "", []string{"Host", "[fe80::1]"}, 200, "openrpc"},
		{"GET", PathOpenRPC, "", []string{"Host", "HOST1.example.org.:7443"}, 200, "openrpc"},
		{"GET", PathOpenRPC, "", []string{"Host", "evil.example.com"}, 403, "http.hosts"},
		{"GET", PathOpenRPC, "", []string{"Host", "127.0.0.1.evil.example.com"}, 403, "http.hosts"},
		{"GET", PathOpenRPC, "", []string{"Host", "localhost.evil.example.com:7443"}, 403, "http.hosts"},
		{"POST", PathRPC, version, []string{"Origin", "https://evil.example.com"}, 403, "http.origins"},
		{"POST", PathRPC, version, []string{"Origin", "null"}, 403, "http.origins"},
		{"POST", PathRPC, version, []string{"Origin", "https://panel.example.org.evil.com"}, 403, "http.origins"},
		{"POST", PathRPC, version, []string{"Origin", "https://evil.example.com", "Host", "evil.example.com"}, 403, "http.hosts"},
		{"POST", PathRPC, version, []string{"Origin", "http://" + local}, 403, "http.origins"},
		{"POST", PathRPC, version, []string{"Origin", "https://127.0.0.1:1"}, 403, "http.origins"},
		{"POST", PathRPC, version, []string{"Origin", "https://" + local, "Authorization", "Bearer t"}, 200, "1.2.3"},
		{"POST", PathRPC, version, []string{"Origin", "https://panel.example.org", "Authorization", "Bearer t"}, 200, "1.2.3"},
		{"OPTIONS", PathRPC, "", []string{"Origin", "https://panel.example.org"}, 204, ""},
		{"OPTIONS", PathRPC, "", []string{"Origin", "https://evil.example.com"}, 403, ""},
		{"OPTIONS", PathRPC, "", nil, 405, ""},
	} {
		code, text, header := f.request(tt.method, tt.path, tt.body, tt.headers...)
		if code != tt.code || !strings.Contains(text, tt.text) {
			t.Errorf("%s %s %q: %d %.200s", tt.method, tt.path, tt.headers, code, text)
		}
		if got := header.Get("Access-Control-Allow-Origin"); got == "*" || code == http.StatusForbidden && got != "" {
			t.Errorf("%s %s %q: permits the origin %s", tt.method, tt.path, tt.headers, got)
		}
		if len(header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s %s sets a cookie", tt.method, tt.path)
		}
	}
}

func TestAFileOfTheLoadThatCannotBeUsedDoesNotStopTheGateway(t *testing.T) {
	var log bytes.Buffer
	if _, err := New(filepath.Join(t.TempDir(), "missing/load"), slog.New(slog.NewTextHandler(&log, nil))); err != nil || !strings.Contains(log.String(), "in memory alone") {
		t.Errorf("%v; the log is %q", err, &log)
	}
}
