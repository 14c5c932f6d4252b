package fetch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxToken = 64 << 10
	maxLogin = 1 << 20
)

// authenticate finds an Authorization for a challenge (RFC 9110, 11.6.1): a bearer token
// from the token service of the registry, or user and password. Without credentials it
// requests an anonymous token.
func (g *registry) authenticate(ctx context.Context, challenges []string) error {
	basic := g.basic()
	for _, c := range challenges {
		scheme, rest, _ := strings.Cut(c, " ")
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			return g.token(ctx, challengeParams(rest), basic)
		case strings.EqualFold(scheme, "Basic") && basic != "":
			g.accept(basic)
			return nil
		}
	}
	if basic == "" {
		return g.refused()
	}
	return errkind.Errorf(errkind.Denied, "the registry wants an unknown kind of credentials")
}

// basic returns the Authorization with user and password, or "" without credentials.
func (g *registry) basic() string {
	if g.login == nil {
		return ""
	}
	user, password := g.login(g.base.Host)
	if user == "" && password == "" {
		return ""
	}
	return basicAuth(user, password)
}

// refused returns the error for a registry that does not accept the available credentials.
func (g *registry) refused() error {
	if g.basic() == "" {
		err := errkind.Errorf(errkind.Denied, "the registry wants credentials, and none are given for it")
		return errkind.WithHint(err, "Give the registry's credentials: in /etc/trident/registry-auth.json, or with --auth-file. Or let the registry serve anonymous pulls.")
	}
	err := errkind.Errorf(errkind.Denied, "the registry does not accept the given credentials")
	return errkind.WithHint(err, "Check user name and password, and whether that user may pull this repository.")
}

func (g *registry) accept(auth string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.auth = auth
}

// token requests a bearer token from the token service and uses it from now on.
func (g *registry) token(ctx context.Context, params map[string]string, basic string) error {
	u, err := g.realm(params["realm"], basic != "")
	if err != nil {
		return err
	}
	q := u.Query()
	for _, key := range []string{"service", "scope"} {
		if params[key] != "" {
			q.Set(key, params[key])
		}
	}
	u.RawQuery = q.Encode()
	h := http.Header{}
	if basic != "" {
		h.Set("Authorization", basic)
	}
	resp, err := get(ctx, g.transport, u, h)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		if !changedOrigin(resp) {
			return g.refused()
		}
		fallthrough
	default:
		return statusError(resp)
	}
	data, err := readAll(resp.Body, maxToken)
	g.meter.settle(0, len(data))
	if err != nil {
		return err
	}
	var t struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if json.Unmarshal(data, &t) != nil || t.Token == "" && t.Access == "" {
		return errkind.Errorf(errkind.Denied, "there is no token in the answer of %s", u.Host)
	}
	if t.Token == "" {
		t.Token = t.Access
	}
	if strings.ContainsFunc(t.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errkind.Errorf(errkind.Denied, "the token of %s has characters that a token must not have", u.Host)
	}
	g.accept("Bearer " + t.Token)
	return nil
}

// realm returns the URL of the token service that the registry named in its challenge. A
// registry with TLS may name any https URL. A registry without TLS, which is on this
// machine, may name another host only if the request has no credentials (secret is false).
func (g *registry) realm(text string, secret bool) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, errkind.Errorf(errkind.Denied, "its token service %.100q has a user name or a password in its URL", redact(u))
	}
	if err != nil || len(text) > maxURL || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errkind.Errorf(errkind.Denied, "its token service %.100q is not an https URL", text)
	}
	base := g.url("")
	switch {
	case base.Scheme == "https" && u.Scheme != "https":
		return nil, errkind.Errorf(errkind.Denied, "its token service %.100q is not an https URL", text)
	case base.Scheme == "http" && secret && originOf(u) != originOf(base):
		err := errkind.Errorf(errkind.Denied, "its token service %.100q is not the registry itself, which was reached without TLS", text)
		return nil, errkind.WithHint(err, "Serve the registry over https, or let it issue tokens itself.")
	}
	u.Fragment = ""
	return u, nil
}

// challengeParams reads key="value" pairs between commas.
func challengeParams(s string) map[string]string {
	out := map[string]string{}
	for s = strings.TrimSpace(s); s != "" && len(out) < 16; s = strings.TrimLeft(s, ", \t") {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		if quoted, is := strings.CutPrefix(rest, `"`); is {
			value, s, _ = strings.Cut(quoted, `"`)
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		out[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return out
}

// RegistryLogin returns an [Source].Login for the content of a config.json, as docker,
// podman and others write it. It runs no credential helpers and uses no identity tokens:
// requests to a registry that has only those are anonymous.
func RegistryLogin(config []byte) (func(registry string) (user, password string), error) {
	var c struct {
		Auths map[string]struct {
			Auth     string `json:"auth"`
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"auths"`
	}
	if len(config) > maxLogin || json.Unmarshal(config, &c) != nil { // the error might quote a secret
		return nil, errkind.Errorf(errkind.Invalid, "the file is not a config.json of a container tool")
	}
	type login struct{ user, password string }
	logins := map[string]login{}
	for key, a := range c.Auths {
		l := login{a.Username, a.Password}
		if a.Auth != "" {
			data, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return nil, errkind.Errorf(errkind.Invalid, "its auth for %.100q is not base64", key)
			}
			l.user, l.password, _ = strings.Cut(strings.TrimRight(string(data), "\x00"), ":")
		}
		key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		host, path, _ := strings.Cut(key, "/")
		switch strings.TrimSuffix(path, "/") { // any other path is a repository's, and not meant for the registry
		case "", "v1", "v2":
			logins[host] = l
		}
	}
	return func(registry string) (string, string) {
		return logins[registry].user, logins[registry].password
	}, nil
}
