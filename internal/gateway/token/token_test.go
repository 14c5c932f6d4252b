package token_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/gateway/token"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func add(t *testing.T, l *token.List, name string, life time.Duration) string {
	t.Helper()
	text, err := l.Add(name, []string{"read"}, now, life)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenIsFoundUntilItExpiresOrIsRevoked(t *testing.T) {
	var l token.List
	text, other := add(t, &l, "ci", time.Hour), add(t, &l, "other", time.Hour)
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "trident_"))
	if err != nil || len(secret) != 32 || text == other {
		t.Fatalf("%d random bytes, %v", len(secret), err)
	}
	if got, err := l.Find(text, now); err != nil || got.Identity() != "token:ci" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, tt := range map[string]struct {
		text string
		at   time.Time
		want string
	}{
		"unknown":        {"trident_x", now, "not known"},
		"empty":          {"", now, "not known"},
		"the hash":       {l.Tokens[0].Hash, now, "not known"},
		"expired":        {text, now.Add(time.Hour), "expired"},
		"with more text": {text + "x", now, "not known"},
	} {
		if _, err := l.Find(tt.text, tt.at); errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), tt.want) || errkind.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.Revoke("ci", now); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Find(text, now); err == nil || !strings.Contains(err.Error(), "ci is revoked") {
		t.Errorf("revoked: %v", err)
	}
	if err := l.Revoke("ci", now); errkind.Of(err) != errkind.Exists {
		t.Errorf("revoked twice: %v", err)
	}
	if err := l.Revoke("nobody", now); errkind.Of(err) != errkind.NotFound {
		t.Errorf("unknown: %v", err)
	}
	again := add(t, &l, "ci", time.Hour) // replaces the revoked one
	if _, err := l.Find(text, now); err == nil || len(l.Tokens) != 2 {
		t.Errorf("the revoked token works again: %v", err)
	}
	if got, ok := l.Named("ci"); !ok || got.State(now) != "valid" || again == text {
		t.Errorf("%+v", got)
	}
	if _, ok := l.Named("nobody"); ok {
		t.Error("there is nobody")
	}
}

func TestTheRightsOfATokenCountWhileItIsValid(t *testing.T) {
	var l token.List
	add(t, &l, "ci", time.Hour)
	read, err := rights.Parse([]string{"read"})
	if err != nil {
		t.Fatal(err)
	}
	operate, err := rights.Parse([]string{"operate"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		who  string
		at   time.Time
		want rights.Set
	}{
		{"token:ci", now, read | operate}, {"dns:ci", now, operate}, {"token:ci", now.Add(time.Hour), 0}, {"token:other", now, 0}, {"token:", now, 0},
	} {
		got, err := l.Rights(tt.who, operate, tt.at)
		if got != tt.want || (tt.want == 0) != (errkind.Of(err) == errkind.Denied) || tt.want != 0 && err != nil {
			t.Errorf("%s at %s: %s, %v", tt.who, tt.at, got, err)
		}
	}
}

func TestWhatIsNoToken(t *testing.T) {
	var l token.List
	add(t, &l, "taken", time.Hour)
	for _, tt := range []struct {
		name   string
		rights []string
		life   time.Duration
		kind   errkind.Kind
	}{
		{"", []string{"read"}, time.Hour, errkind.Invalid},
		{"a b", []string{"read"}, time.Hour, errkind.Invalid},
		{"a*", []string{"read"}, time.Hour, errkind.Invalid},
		{strings.Repeat("a", 65), []string{"read"}, time.Hour, errkind.Invalid},
		{"x", nil, time.Hour, errkind.Invalid},
		{"x", []string{"root"}, time.Hour, errkind.Invalid},
		{"x", []string{"read"}, 0, errkind.Invalid},
		{"taken", []string{"read"}, time.Hour, errkind.Exists},
	} {
		if text, err := l.Add(tt.name, tt.rights, now, tt.life); errkind.Of(err) != tt.kind || text != "" {
			t.Errorf("%q %v %s: %q, %v", tt.name, tt.rights, tt.life, text, err)
		}
	}
}

func TestTheFileHasNoTokenAndOnlyItsOwnerWritesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	if l, err := token.Read(path); err != nil || len(l.Tokens) != 0 {
		t.Fatalf("no file: %+v, %v", l, err)
	}
	var l token.List
	text := add(t, &l, "ci", time.Hour)
	if err := l.Write(path, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(raw), text[8:]) {
		t.Errorf("the token is in the file, or %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	read, err := token.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read.Find(text, now); err != nil {
		t.Error(err)
	}
	if err := l.Write(filepath.Join(path, "x"), os.Getegid()); err == nil {
		t.Error("a file below a file was written")
	}
}

func TestAFileThatIsNotOneOfTokens(t *testing.T) {
	hash := strings.Repeat("a", 64)
	for name, text := range map[string]string{
		"not JSON":      "tokens",
		"a short hash":  `{"tokens":[{"name":"a","sha256":"aa","rights":["read"]}]}`,
		"not a hash":    `{"tokens":[{"name":"a","sha256":"` + strings.Repeat("x", 64) + `","rights":["read"]}]}`,
		"a wrong name":  `{"tokens":[{"name":"a b","sha256":"` + hash + `"}]}`,
		"a wrong right": `{"tokens":[{"name":"a","sha256":"` + hash + `","rights":["all"]}]}`,
		"twice a name":  `{"tokens":[{"name":"a","sha256":"` + hash + `"},{"name":"a","sha256":"` + hash + `"}]}`,
		"too many":      `{"tokens":[` + strings.Repeat("{},", 1001) + `{}]}`,
	} {
		path := filepath.Join(t.TempDir(), "t")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := token.Read(path); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := token.Read(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
}
