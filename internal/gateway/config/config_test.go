package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
)

func TestAnEmptyFileHasTheDefaultsAndGivesNobodyARight(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		c, err := config.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Listen) != 1 || c.Listen[0] != "127.0.0.1:7443" || c.Limits.PerIdentity.Streams != 64 || c.Audit.MaxSize != 16<<20 {
			t.Errorf("%+v", c)
		}
		if set := c.Policy().Rights("uri:trident://admin"); set != 0 {
			t.Errorf("rights %s", set)
		}
	}
}

func TestAWholeFile(t *testing.T) {
	c, err := config.Parse([]byte(`
listen: ["0.0.0.0:1", "[::1]:2"]
tls: {identity: [email]}
rights:
- identity: "uri:spiffe://example.org/ops/*"
  rights: [operate, secret]
- {identity: "email:*@example.org", rights: [read]}
- {identity: "token:*", rights: [read]}
revoked: {serials: ["0A:bc"], identities: ["email:gone@example.org"]}
limits: {handshakeTime: 3s, perIdentity: {bytesPerSecond: 10M}}
audit: {maxSize: 1M, keep: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Limits.HandshakeTime != 3*time.Second || c.Limits.PerIdentity.BytesPerSecond != 10<<20 || c.Audit.MaxSize != 1<<20 {
		t.Errorf("%+v", c)
	}
	p := c.Policy()
	for who, want := range map[string]string{
		"uri:spiffe://example.org/ops/a":  "read, operate, secret",
		"uri:spiffe://example.org/op":     "none",
		"uri:x/spiffe://example.org/ops/": "none",
		"email:a@example.org":             "read",
		"email:a@example.org.evil":        "none",
		"dns:a@example.org":               "none",
		"email:gone@example.org":          "none",
		"token:ci":                        "read",
	} {
		if got := p.Rights(who).String(); got != want {
			t.Errorf("%s has %s, want %s", who, got, want)
		}
	}
	for serial, want := range map[string]bool{"abc": true, "ABC": true, "0abc": true, "abcd": false, "": false} {
		if p.IsRevoked("dns:x", serial) != want {
			t.Errorf("serial %q", serial)
		}
	}
}

func TestAWrongFileHasOneClearError(t *testing.T) {
	for text, want := range map[string][2]string{
		"lisen: []":               {`line 1: lisen: is not a setting`, "did you mean listen?"},
		"a:\n  b: 1":              {`line 1: a: is not a setting`, "the settings here are audit, http"},
		"tls:\n  clientCa: x":     {`line 2: tls.clientCa: is not a setting`, "did you mean clientCA?"},
		"rights:\n- {identty: x}": {`line 2: rights[0].identty: is not a setting`, "did you mean identity?"},
		"listen: 127.0.0.1:1":     {"line 1: listen: is not a list", "write [first, second]"},
		"listen: []":              {"listen has no address", ""},
		"listen: [7443]":          {"listen[0]: address 7443: missing port", "write host:port"},
		"listen: [\"a:99999\"]":   {`listen[0]: address a:99999: "99999" is not a port`, "write host:port"},
		"tls: x":                  {"line 1: tls: is not a mapping", ""},
		"tls: {identity: [ip]}":   {`tls.identity[0]: unknown kind of name "ip"`, "uri, dns, email"},
		"tls: {identity: []}":     {"tls.identity is empty", ""},
		"rights: [{identity: \"*\", rights: [read]}]":       {`rights[0].identity: "*" is not a pattern`, "uri:, dns:"},
		"rights: [{identity: \"dns:a*b\", rights: [read]}]": {"is not a pattern", ""},
		"rights: [{identity: \"dns:**\", rights: [read]}]":  {"is not a pattern", ""},
		"rights: [{identity: \"dns:a\", rights: [reed]}]":   {`rights[0].rights: unknown right "reed"`, "did you mean read?"},
		"revoked: {serials: [xyz]}":                         {`revoked.serials[0]: "xyz" is not a number`, ""},
		"revoked: {serials: [\"\"]}":                        {"is not a number", ""},
		"revoked: {identities: [me]}":                       {`revoked.identities[0]: "me"`, ""},
		"limits: {connections: 0}":                          {"limits.connections is 0, it must be from 1 to 20000", ""},
		"limits: {connections: many}":                       {`line 1: limits.connections: "many" is not a number`, ""},
		"limits: {perIdentity: {bytesPerSecond: much}}":     {"line 1: limits.perIdentity.bytesPerSecond: ", ""},
		"limits: {handshakeTime: 1h}":                       {"limits.handshakeTime", ""},
		"audit: {keep: 0}":                                  {"audit.keep is 0", ""},
		"listen: [a:1]\nlisten: [b:1]":                      {"line 2: listen: is there twice", ""},
		"socket: &a /s\ntokens: *a":                         {"line 2: tokens: is an alias", ""},
		"tls:\n  clientCA:":                                 {"line 2: tls.clientCA: has no value", ""},
		"http: {page: yes}":                                 {`line 1: http.page: "yes" is not true or false`, ""},
		"listen: [a:1]\n---\nlisten: [b:1]":                 {"line 2: a second document begins", ""},
		"\xff":                                              {"the text is not UTF-8", ""},
		"a: [":                                              {"the text is not YAML", ""},
	} {
		_, err := config.Parse([]byte(text))
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), want[0]) || !strings.Contains(errkind.Hint(err), want[1]) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v; hint %q", text, err, errkind.Hint(err))
		}
	}
}

func TestAListOrMappingWithoutAValueIsEmpty(t *testing.T) {
	c, err := config.Parse([]byte("rights:\nrevoked:\n  # serials: []\nhttp:\n  hosts:\n"))
	if err != nil || len(c.Rights) > 0 || !c.HTTP.Page || c.HTTP.LoginTime != time.Hour {
		t.Errorf("%+v, %v", c, err)
	}
}

// tridentd reads the policy of a file that another version of the gateway has written.
func TestThePolicyIgnoresOtherSettingsAndNoFaultOfItsOwn(t *testing.T) {
	p, tokens, err := config.ParsePolicy([]byte("later: {x: 1}\nlisten: 7\nrights: [{identity: \"dns:a\", rights: [read]}]\ntokens: /t\n"))
	if err != nil || tokens != "/t" || p.Rights("dns:a").String() != "read" {
		t.Errorf("%v, %q", err, tokens)
	}
	for _, text := range []string{"rights: [{identity: \"dns:a\", right: [read]}]", "rights: [{identity: x, rights: [read]}]", "rights: x", "[", "revoked: {later: 1}"} {
		if _, _, err := config.ParsePolicy([]byte(text)); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParse checks that no file crashes the gateway, and that the policy that tridentd reads
// from an accepted file is the one that the gateway reads.
func FuzzParse(f *testing.F) {
	f.Add([]byte("rights: [{identity: \"dns:*.a\", rights: [read]}]\nrevoked: {serials: [\"1\"], identities: [\"dns:b\"]}"))
	f.Add([]byte("tls: {identity: [uri]}\nlimits: {handshakeTime: 1s, perIdentity: {bytesPerSecond: 1M}}\naudit: {keep: 1}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text)
		if err != nil {
			if errkind.Of(err) != errkind.Invalid {
				t.Errorf("kind %s: %v", errkind.Of(err), err)
			}
			return
		}
		p, _, err := config.ParsePolicy(text)
		if err != nil {
			t.Fatalf("only the gateway accepts it: %v", err)
		}
		for _, who := range []string{"dns:a", "dns:b", "dns:x.a", "uri:x", "token:t"} {
			if c.Policy().Rights(who) != p.Rights(who) || c.Policy().IsRevoked(who, "1") != p.IsRevoked(who, "1") {
				t.Errorf("%s has different rights", who)
			}
		}
	})
}
