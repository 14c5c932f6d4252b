package fetch

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trident-project/trident/internal/errkind"
)

// installHelper installs docker-credential-test, a shell script, as the only program that
// this process finds besides those of the host.
func installHelper(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestACredentialHelperGivesTheCredentials(t *testing.T) {
	installHelper(t, `read -r host; test "$1" = get || exit 9
case $host in
a.example) echo '{"ServerURL": "a.example", "Username": "ann", "Secret": "s3:cret"}';;
token.example) echo '{"Username": "<token>", "Secret": "r3fresh"}';;
*) echo "credentials not found in native keychain"; exit 1;;
esac`)
	ann, token := auth.Credential{Username: "ann", Password: "s3:cret"}, auth.Credential{RefreshToken: "r3fresh"}
	bob := auth.Credential{Username: "bob", Password: "x"}
	for config, want := range map[string]map[string]auth.Credential{
		`{"credsStore": "test"}`:                                                               {"a.example": ann, "token.example": token, "c.example": {}},
		`{"credHelpers": {"a.example": "test"}}`:                                               {"a.example": ann, "token.example": {}},
		`{"credHelpers": {"a.example": "test"}, "credsStore": "none"}`:                         {"a.example": ann},
		`{"auths": {"a.example": {}}, "credsStore": "test"}`:                                   {"a.example": ann},
		`{"auths": {"a.example": {"username": "bob", "password": "x"}}, "credsStore": "test"}`: {"a.example": bob, "token.example": token},
	} {
		login, err := RegistryLogin([]byte(config))
		must(t, err)
		for registry, credential := range want {
			if got, err := login(t.Context(), registry); err != nil || got != credential {
				t.Errorf("%s, %s: %+v, %v", config, registry, got, err)
			}
		}
	}
}

func TestACredentialHelperThatFailsIsNamedWithoutItsOutput(t *testing.T) {
	for name, c := range map[string]struct {
		helper, script string
		kind           errkind.Kind
		words          string
	}{
		"fails":           {"test", `echo s3cret; echo s3cret >&2; exit 3`, errkind.Denied, "docker-credential-test failed: exit status 3"},
		"is not JSON":     {"test", `echo s3cret`, errkind.Denied, "is not a JSON object"},
		"has no secret":   {"test", `echo '{"Username": "s3cret"}'`, errkind.Denied, "is not a JSON object"},
		"never ends":      {"test", `sleep 1000 & wait`, errkind.Timeout, "docker-credential-test: too slow"},
		"writes for ever": {"test", `yes s3cret | head -c 2000000`, errkind.TooLarge, "docker-credential-test: it wrote more than"},
		"is a path":       {"../test", ``, errkind.Invalid, `"../test" is not the name of a credential helper`},
		"is not there":    {"absent", ``, errkind.Precondition, "docker-credential-absent"},
	} {
		t.Run(name, func(t *testing.T) {
			installHelper(t, c.script)
			login, err := RegistryLogin(fmt.Appendf(nil, `{"credsStore": %q}`, c.helper))
			must(t, err)
			ctx := t.Context()
			if c.kind == errkind.Timeout {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, 200*time.Millisecond, errkind.Errorf(errkind.Timeout, "too slow"))
				defer cancel()
			}
			got, err := login(ctx, "a.example")
			wantKind(t, err, c.kind, c.words)
			if strings.Contains(err.Error(), "s3cret") || got != auth.EmptyCredential {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestAHelperThatIsNotInstalledMattersOnlyToARegistryThatWantsCredentials(t *testing.T) {
	login, err := RegistryLogin([]byte(`{"credsStore": "absent"}`))
	must(t, err)
	s := newShaky(t)
	newRig(t, Source{URL: s.url, Login: login}).mustGet(t, s.blob)
	s.login, s.valid = "ann:s3cret", 0
	_, err = newRig(t, Source{URL: s.url, Login: login}).get(t)
	wantKind(t, err, errkind.Denied, "the registry demands credentials: ")
	if !strings.Contains(err.Error(), "docker-credential-absent") {
		t.Error(err)
	}
}

func TestAHelperThatFailsEndsTheLogin(t *testing.T) {
	installHelper(t, "exit 3")
	login, err := RegistryLogin([]byte(`{"credsStore": "test"}`))
	must(t, err)
	s := newShaky(t)
	_, err = newRig(t, Source{URL: s.url, Login: login}).get(t)
	wantKind(t, err, errkind.Denied, ": the credential helper docker-credential-test failed")
	if errkind.Hint(err) == "" || strings.Contains(err.Error(), "http") {
		t.Errorf("%v, hint %q", err, errkind.Hint(err))
	}
}

// wantsBearer is a registry that lets in only who has the token of the token service at realm.
func wantsBearer(realm string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return r.Header.Get("Authorization") != "Bearer t0ken" && challenge("Bearer", realm)(w, r)
	}
}

func TestAnIdentityTokenGoesToTheTokenServiceAlone(t *testing.T) {
	p := newTrap(t, true, true)
	p.secret = auth.Credential{RefreshToken: "r3fresh"}
	p.atGood = wantsBearer(p.evil.URL + "/token")
	if whole, ranges := p.pull(); whole != nil || ranges != nil {
		t.Fatal(whole, ranges)
	}
	if got := p.secretsOf("evil"); len(got) != 2 || got[0] != "evil/token r3fresh" {
		t.Errorf("the token service got %q", got)
	}
	if got := p.secretsOf("good"); slices.ContainsFunc(got, func(s string) bool { return !strings.HasSuffix(s, " Bearer t0ken") }) {
		t.Errorf("the registry got %q", got)
	}
}

func TestAnIdentityTokenIsNotSentElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		tls   bool
		realm func(p *trap) string
		words string
	}{
		"another host, without TLS": {false, func(p *trap) string { return p.evil.URL + "/token" }, "was reached without TLS"},
		"a redirect":                {true, func(p *trap) string { return p.good.URL + "/v2/moved/token" }, "redirects a request with an identity token"},
		"a user in the URL": {true, func(p *trap) string {
			return strings.Replace(p.good.URL, "://", "://ann:hush@", 1) + "/token"
		}, "has a user name or a password in its URL"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTrap(t, c.tls, c.tls)
			p.secret = auth.Credential{RefreshToken: "r3fresh"}
			p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/v2/moved/") {
					http.Redirect(w, r, p.evil.URL+"/token", http.StatusTemporaryRedirect)
					return true
				}
				return wantsBearer(c.realm(p))(w, r)
			}
			whole, ranges := p.pull()
			for _, err := range []error{whole, ranges} {
				wantKind(t, err, errkind.Denied, c.words)
				if strings.Contains(err.Error(), "r3fresh") || strings.Contains(err.Error(), "hush") {
					t.Errorf("a secret is in %q", err)
				}
			}
			if got := p.secretsOf("evil"); len(got) > 0 {
				t.Errorf("the other host got %q", got)
			}
		})
	}
}

func TestTheLoginIsByTokenIfTheRegistryOffersBoth(t *testing.T) {
	p := newTrap(t, true, true)
	p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/token") {
			w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
		}
		if r.Header.Get("Authorization") == "Bearer t0ken" || strings.HasSuffix(r.URL.Path, "/token") {
			return false
		}
		w.Header().Add("WWW-Authenticate", fmt.Sprintf("bEARER realm=%q", p.good.URL+"/token"))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	if whole, ranges := p.pull(); whole != nil || ranges != nil {
		t.Fatal(whole, ranges)
	}
}

func TestAnAnswerOfATokenServiceWithoutATokenIsRefused(t *testing.T) {
	for answer, kind := range map[string]errkind.Kind{
		"{}": errkind.Denied, "no json": errkind.Denied, `{"token": "two words"}`: errkind.Denied,
		`{"token": "` + strings.Repeat("x", maxToken) + `"}`: errkind.TooLarge,
	} {
		p := newTrap(t, true, true)
		p.atGood = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/token") {
				_, _ = fmt.Fprint(w, answer)
				return true
			}
			return wantsBearer(p.good.URL+"/token")(w, r)
		}
		whole, ranges := p.pull()
		wantKind(t, whole, kind, "log in to ")
		wantKind(t, ranges, kind, "log in to ")
		if len(whole.Error()) > 800 {
			t.Errorf("%d bytes of error", len(whole.Error()))
		}
	}
}
