package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/policy"
	"github.com/trident-project/trident/internal/gateway/token"
)

const (
	version = "/trident.v1.VersionService/Version"
	update  = "/trident.v1.UpdateService/Update"
)

type host struct {
	t    *testing.T
	root string
}

func (h host) write(name, text string, mode os.FileMode) {
	h.t.Helper()
	path := filepath.Join(h.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		h.t.Fatal(err)
	}
}

const settings = "listen: [x]\nrights: [{identity: \"dns:a\", rights: [read]}]\nrevoked: {identities: [\"dns:gone\"]}\n"

func TestThePolicyOfTheHostDecides(t *testing.T) {
	h := host{t, t.TempDir()}
	s, now := policy.NewSource(h.root, uint32(os.Geteuid())), time.Now()
	if err := s.Allow("dns:a", version, now); errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), "no policy") || s.IsInstalled() {
		t.Errorf("no policy: %v", err)
	}
	h.write("etc/trident/gateway.yaml", settings, 0o644)
	var l token.List
	if _, err := l.Add("ci", []string{"operate"}, now, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(h.root, "etc/trident/gateway"), 0o755); err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(h.root, "etc/trident/gateway/tokens.json")
	for _, tt := range []struct {
		who, method, want string // want is a part of the error
	}{
		{"dns:a", version, ""},
		{"dns:a", update, "needs the right operate"},
		{"dns:a", "/x/Y", "does not have the method"},
		{"dns:b", version, "none"},
		{"dns:gone", version, "revoked"},
		{"root", version, "does not begin with"},
		{"token:ci", version, "no valid token"},
	} {
		err := s.Allow(tt.who, tt.method, now)
		if (err == nil) != (tt.want == "") || err != nil && (errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s %s: %v", tt.who, tt.method, err)
		}
	}
	if err := l.Write(tokens, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if err := s.Allow("token:ci", update, now); err != nil {
		t.Errorf("a token that was added: %v", err)
	}
	if err := s.Allow("token:ci", update, now.Add(2*time.Hour)); err == nil {
		t.Error("an expired token is valid")
	}
	if err := l.Revoke("ci", now); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(tokens, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if err := s.Allow("token:ci", version, now); err == nil {
		t.Error("a revoked token is valid")
	}
	h.write("etc/trident/gateway/tokens.json", "x", 0o600)
	if err := s.Allow("dns:a", version, now); errkind.Of(err) != errkind.Denied {
		t.Errorf("unreadable tokens: %v", err)
	}
}

// What the gateway could have written is not a policy.
func TestAPolicyThatOthersCouldHaveWrittenIsRefused(t *testing.T) {
	h := host{t, t.TempDir()}
	for name, install := range map[string]func() uint32{
		"writable for the group": func() uint32 { h.write("etc/trident/gateway.yaml", settings, 0o664); return uint32(os.Geteuid()) },
		"writable for all":       func() uint32 { h.write("etc/trident/gateway.yaml", settings, 0o646); return uint32(os.Geteuid()) },
		"of another owner":       func() uint32 { h.write("etc/trident/gateway.yaml", settings, 0o644); return uint32(os.Geteuid()) + 1 },
		"not YAML":               func() uint32 { h.write("etc/trident/gateway.yaml", "[", 0o644); return uint32(os.Geteuid()) },
		"too large": func() uint32 {
			h.write("etc/trident/gateway.yaml", settings+strings.Repeat("#", 1<<20), 0o644)
			return uint32(os.Geteuid())
		},
		"tokens writable for the group": func() uint32 {
			h.write("etc/trident/gateway.yaml", settings, 0o644)
			h.write("etc/trident/gateway/tokens.json", "{}", 0o660)
			return uint32(os.Geteuid())
		},
	} {
		owner := install()
		s := policy.NewSource(h.root, owner)
		if err := s.Allow("dns:a", version, time.Now()); errkind.Of(err) != errkind.Denied || errkind.Hint(err) == "" || !s.IsInstalled() {
			t.Errorf("%s: %v", name, err)
		}
		_ = os.Remove(filepath.Join(h.root, "etc/trident/gateway/tokens.json"))
	}
	h.write("etc/trident/gateway.yaml", settings, 0o644)
	if err := policy.NewSource(h.root, uint32(os.Geteuid())).Allow("dns:a", version, time.Now()); err != nil {
		t.Errorf("the same policy, as it has to be: %v", err)
	}
}
