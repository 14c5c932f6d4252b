package proxy

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/password"
)

func TestAConsoleTokenLogsInOnce(t *testing.T) {
	f := newFixture(t, policyText+"- {identity: \"console:root\", rights: [operate]}\n")
	issue := func(now time.Time) string {
		t.Helper()
		token, _, err := password.NewConsoleToken(f.path("console.json"), os.Getegid(), now)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	login := func(token string) (session, answer string) {
		t.Helper()
		_, answer = f.ask(f.browser(), fmt.Sprintf(`{"jsonrpc":"2.0","method":"authenticate","params":{"token":%q},"id":1}`, token), "")
		var a struct{ Result struct{ Token string } }
		if err := json.Unmarshal([]byte(answer), &a); err != nil {
			t.Fatal(err)
		}
		return a.Result.Token, answer
	}
	token := issue(time.Now())
	if code, got := f.ask(f.browser(), "version", token); code != 401 || !strings.Contains(got, "call authenticate with it") {
		t.Errorf("as a bearer token: %d %s", code, got)
	}
	session, answer := login(token)
	if !strings.Contains(answer, `"identity":"console:root","rights":"read, operate"`) || !strings.HasPrefix(session, password.TokenPrefix) {
		t.Fatal(answer)
	}
	if code, got := f.ask(f.browser(), "version", session); code != 200 || !strings.Contains(got, `"result"`) {
		t.Errorf("with the session: %d %s", code, got)
	}
	seen := f.backend.seen()
	if who := seen[len(seen)-1].Get("trident-asked-by"); len(who) != 1 || who[0] != "console:root" {
		t.Errorf("tridentd was called for %v", who)
	}
	for what, token := range map[string]string{"a used token": token, "an expired one": issue(time.Now().Add(-password.ConsoleTime)), "a guess": password.ConsolePrefix + "x"} {
		if none, answer := login(token); none != "" || !strings.Contains(answer, `"code":7`) || !strings.Contains(answer, "trident-gateway console") {
			t.Errorf("%s: %s", what, answer)
		}
	}
	f.configure(policyText + "- {identity: \"console:root\", rights: [operate]}\nrevoked: {identities: [\"console:root\"]}\n")
	if err := f.server.Reload(); err != nil {
		t.Fatal(err)
	}
	if code, got := f.ask(f.browser(), "version", session); code != 401 || !strings.Contains(got, "is revoked") {
		t.Errorf("after a revocation: %d %s", code, got)
	}
	logins := 0
	for _, e := range f.entries() {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, token) || strings.Contains(text, session) {
			t.Error("the audit log has a secret")
		}
		if e.RPC == "authenticate" && e.Identity == "console:root" && e.By == "console" && e.Result == "OK" {
			logins++
		}
	}
	if logins != 1 || strings.Contains(f.log.String(), token) {
		t.Errorf("the audit log has %d logins; does the journal have a secret?", logins)
	}
}
