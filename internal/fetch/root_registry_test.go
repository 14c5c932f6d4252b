//go:build root

package fetch

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

const registrySize = 3<<20 + 17

// read reads a file of a test.
func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// fromRegistry opens an origin as the daemon would, but does not wait.
func fromRegistry(t *testing.T, src Source, pin ...Pin) (*Ranges, error) {
	t.Helper()
	now := func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	r, err := openRanges(t.Context(), src, append(pin, Pin{})[0], &Ranges{lim: Limits{}.withDefaults(), log: func(s string) { t.Log(s) }, wait: now})
	if err == nil {
		t.Cleanup(func() { _ = r.Close() })
	}
	return r, err
}

// as is who has logged in to a registry.
func as(t *testing.T, g *realRegistry, user, password string) Login {
	t.Helper()
	l, err := RegistryLogin(g.config(user, password))
	must(t, err)
	return l
}

// serves checks that its content can be had, whole and in parts, across a connection
// that breaks, and by who remembers no more than the pin.
func (g *realRegistry) serves(t *testing.T, who Login) {
	t.Helper()
	content := noise(1, registrySize)
	manifest := g.push("v1", content)
	r, err := fromRegistry(t, Source{URL: g.oci(":v1"), Login: who})
	must(t, err)
	if want := (Pin{Size: registrySize, Strong: "sha256:" + sum(content)}); r.Pin() != want {
		t.Errorf("it is %+v, want %+v", r.Pin(), want)
	}
	for _, part := range [][2]int64{{0, registrySize}, {1<<20 + 3, 70_000}, {registrySize - 1, 1}} {
		got, err := r.slurp(t, part[0], part[1])
		if err != nil || !bytes.Equal(got, content[part[0]:][:part[1]]) {
			t.Errorf("%v: %d bytes, %v", part, len(got), err)
		}
	}

	g.push("v1", noise(2, 1<<20)) // what the tag says by now is not what was begun with
	again, err := fromRegistry(t, Source{URL: g.oci(":v1"), Login: who}, r.Pin())
	must(t, err)
	again.transport.(*http.Transport).CloseIdleConnections()
	before := g.conns.Load()
	g.cut.Store(registrySize / 3)
	got, err := again.slurp(t, 5, registrySize-5)
	if err != nil || !bytes.Equal(got, content[5:]) || g.conns.Load() != before+2 {
		t.Errorf("across a break: %d bytes over %d connections, %v", len(got), g.conns.Load()-before, err)
	}

	byDigest, err := fromRegistry(t, Source{URL: g.oci("@" + manifest), Login: who})
	must(t, err)
	if byDigest.Pin() != r.Pin() {
		t.Errorf("by its digest it is %+v", byDigest.Pin())
	}
	_, err = fromRegistry(t, Source{URL: g.oci(":v2"), Login: who})
	wantKind(t, err, errkind.NotFound, "read manifest: the server answered 404")
	g.isDownloaded(t, who)
}

// isDownloaded checks that its content comes into a file, also by a second process
// which finds the tag elsewhere.
func (g *realRegistry) isDownloaded(t *testing.T, who Login) {
	t.Helper()
	content := noise(3, registrySize)
	g.push("v3", content)
	r := newRig(t, Source{URL: g.oci(":v3"), Login: who})
	syncs := 0
	r.touch = func(point string) error {
		if point == "sync part" {
			syncs++
		}
		if syncs > 2 {
			return errPower
		}
		return nil
	}
	if _, err := r.get(t); !errors.Is(err, errPower) {
		t.Fatal(err)
	}
	here := readRecord(r.path + ".json").Synced
	g.push("v3", noise(4, 1<<20))
	r.touch, r.received = func(string) error { return nil }, 0
	r.mustGet(t, content)
	if here == 0 || r.received != registrySize-here {
		t.Errorf("%d bytes were there, %d were fetched", here, r.received)
	}
}

// refuses checks that who has no right credentials gets nothing, and what they are told.
func (g *realRegistry) refuses(t *testing.T) {
	t.Helper()
	const none, wrong = "the registry demands credentials, and Trident has none for this registry", "the registry does not accept the given credentials"
	elsewhere := &realRegistry{base: url.URL{Host: "registry.example.com"}}
	for name, c := range map[string]struct {
		who   Login
		words string
	}{
		"nobody":                       {nil, none},
		"who has logged in elsewhere":  {as(t, elsewhere, registryUser, registryPassword), none},
		"who has the wrong password":   {as(t, g, registryUser, "wrong-one"), wrong},
		"who is not known":             {as(t, g, "bob", registryPassword), wrong},
		"who remembers what there was": {nil, none},
	} {
		t.Run(name, func(t *testing.T) {
			origin := Source{URL: g.oci(":v1"), Login: c.who}
			var pin Pin
			if strings.HasPrefix(name, "who remembers") {
				pin = Pin{Size: registrySize, Strong: "sha256:" + sum(noise(1, registrySize))}
			}
			_, err := fromRegistry(t, origin, pin)
			wantKind(t, err, errkind.Denied, "log in to "+g.base.Host+": "+c.words)
			if errkind.Hint(err) == "" {
				t.Error("there is no hint")
			}
			if strings.Contains(err.Error(), "wrong-one") || strings.Contains(err.Error(), registryPassword) {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

func TestARealRegistryIsReadAnonymously(t *testing.T) {
	g := startRegistry(t, false, "")
	g.serves(t, nil)
	// Credentials that nobody asks for do no harm.
	_, err := fromRegistry(t, Source{URL: g.oci(":v1"), Login: as(t, g, registryUser, registryPassword)})
	must(t, err)
}

func TestARealRegistryIsReadByWhoHasLoggedInAndByNobodyElse(t *testing.T) {
	g := startRegistry(t, true, "")
	g.serves(t, as(t, g, registryUser, registryPassword))
	g.refuses(t)
}

// A process reads once whom it trusts, so a second one trusts the certificate.
func TestARealRegistryOverTLSIsReadByWhoTrustsItsCertificate(t *testing.T) {
	const inside = "TRIDENT_TEST_TLS_FOLDER"
	if folder := os.Getenv(inside); folder != "" {
		g := startRegistry(t, true, folder)
		g.serves(t, as(t, g, registryUser, registryPassword))
		g.refuses(t)
		return
	}
	folder := selfSigned(t)
	g := startRegistry(t, true, folder)
	g.push("v1", []byte("an image"))
	_, err := fromRegistry(t, Source{URL: g.oci(":v1"), Login: as(t, g, registryUser, registryPassword)})
	wantKind(t, err, errkind.TLS, "connect to "+g.base.Host)

	again := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	again.Env = append(os.Environ(), inside+"="+folder, "SSL_CERT_FILE="+filepath.Join(folder, "cert.pem"), "SSL_CERT_DIR="+t.TempDir())
	if out, err := again.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
}
