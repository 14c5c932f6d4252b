package fetch

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trident-project/trident/internal/errkind"
)

const maxManifest = 4 << 20 // bytes, the limit of registries (OCI distribution 1.1)

// registry is a repository of an OCI registry (distribution specification 1.1).
type registry struct {
	base      url.URL // scheme and host
	repo, ref string  // ref is a tag or a digest
	login     Login
	transport http.RoundTripper
	meter     *Meter
	tokens    auth.Cache

	mu       sync.Mutex
	answered bool  // the registry has answered in the scheme of base, which is now final
	given    bool  // login gave credentials
	noHelper error // login failed because its credential helper is not installed
}

// openRegistry finds the only layer of an artifact. With a pin it uses the pinned layer,
// wherever the tag has moved, because a digest names the same bytes for ever.
func (r *Ranges) openRegistry(ctx context.Context, u *url.URL, login Login, pin Pin) error {
	g, err := newRegistry(u)
	if err != nil {
		return err
	}
	g.login, g.transport, g.meter = login, r.transport, r.meter
	r.registry = g
	found := pin
	t := retries{lim: r.lim, wait: r.wait, logf: r.logf}
	for found == (Pin{}) {
		pin, err := r.findLayer(ctx)
		if err == nil {
			found = pin
		} else if err := t.after(ctx, err); err != nil {
			return err
		}
	}
	if !isDigest(found.Strong) {
		return errkind.Errorf(errkind.Invalid, "the name of the layer, %.100q, is not a SHA-256 digest", found.Strong)
	}
	r.url = g.url("blobs/" + found.Strong)
	if err := r.admit(found, Pin{}); err != nil {
		return err
	}
	// This also checks that the registry serves ranges, and the size of the layer.
	return r.openURL(ctx, found)
}

func (r *Ranges) findLayer(ctx context.Context) (Pin, error) {
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(r.lim.Stall, func() { cancel(errStalled) })
	defer timer.Stop()
	pin, err := r.registry.layer(asking)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		err = retryError{error: context.Cause(asking)}
	}
	return pin, err
}

// newRegistry reads oci://host[:port]/repository[:tag][@digest].
func newRegistry(u *url.URL) (*registry, error) {
	name := strings.TrimPrefix(u.Path, "/")
	name, digest, byDigest := strings.Cut(name, "@")
	repo, tag, tagged := strings.Cut(name, ":")
	g := &registry{base: url.URL{Scheme: "https", Host: u.Host}, repo: repo, ref: "latest", tokens: auth.NewSingleContextCache()}
	switch {
	case byDigest:
		g.ref = digest
	case tagged:
		g.ref = tag
	}
	part := regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	word := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	if u.Host == "" || u.User != nil || u.RawQuery != "" || len(repo) > 255 || !part.MatchString(repo) ||
		byDigest && !isDigest(digest) || !byDigest && !word.MatchString(g.ref) {
		return nil, errkind.Errorf(errkind.Invalid, "the URL must be of the form oci://registry/repository:tag or oci://registry/repository@sha256:digest")
	}
	return g, nil
}

func isDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(h)
	return ok && err == nil && len(b) == sha256.Size && strings.ToLower(h) == h
}

func (g *registry) url(what string) *url.URL {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.base
	u.Path = "/v2/" + g.repo + "/" + what
	return &u
}

// layer reads the manifest and returns its only layer.
func (g *registry) layer(ctx context.Context) (Pin, error) {
	h := http.Header{}
	h.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
	resp, err := g.get(ctx, g.url("manifests/"+g.ref), h)
	if err != nil {
		return Pin{}, fmt.Errorf("read manifest: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Pin{}, fmt.Errorf("read manifest: %w", statusError(resp))
	}
	data, err := readAll(resp.Body, maxManifest)
	g.meter.settle(0, len(data))
	if err != nil {
		return Pin{}, fmt.Errorf("read manifest: %w", err)
	}
	if isDigest(g.ref) && fmt.Sprintf("sha256:%x", sha256.Sum256(data)) != g.ref {
		return Pin{}, errkind.Errorf(errkind.Corrupt, "the manifest does not have the digest that names it")
	}
	var m struct {
		Layers []struct {
			Digest string `json:"digest"`
			Size   int64  `json:"size"`
		} `json:"layers"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return Pin{}, errkind.Errorf(errkind.Corrupt, "the manifest is not JSON of the right form: %w", err)
	}
	if len(m.Layers) != 1 {
		return Pin{}, errkind.Errorf(errkind.Invalid, "the artifact has %d layers, must have exactly one: the image", len(m.Layers))
	}
	l := m.Layers[0]
	if !isDigest(l.Digest) || l.Size <= 0 {
		return Pin{}, errkind.Errorf(errkind.Corrupt, "the manifest names its layer %.100q of %d bytes", l.Digest, l.Size)
	}
	return Pin{Size: l.Size, Strong: l.Digest}, nil
}

func readAll(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return data, retryError{error: fmt.Errorf("read: %w", err)}
	}
	if int64(len(data)) > most {
		return data, errkind.Errorf(errkind.TooLarge, "the answer has more than %d bytes", most)
	}
	return data, nil
}

// get sends a request in the scheme that the registry answers in, logged in if the registry
// demands it.
func (g *registry) get(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	g.mu.Lock()
	to := *u
	to.Scheme = g.base.Scheme
	g.mu.Unlock()
	resp, err := g.send(ctx, &to, header)
	if g.speaksPlain(err) {
		return g.getPlain(ctx, u, header)
	}
	return resp, err
}

// speaksPlain reports whether err says that a registry on this machine answered the
// first https request in http.
func (g *registry) speaksPlain(err error) bool {
	plain, ok := errors.AsType[tls.RecordHeaderError](err)
	_, redirected := errors.AsType[redirectedError](err)
	g.mu.Lock()
	defer g.mu.Unlock()
	return ok && !redirected && !g.answered && string(plain.RecordHeader[:]) == "HTTP/" && g.loopback()
}

// getPlain uses http from now on: a registry on this machine needs no TLS, as for other
// tools.
func (g *registry) getPlain(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	g.mu.Lock()
	if g.base.Scheme == "http" {
		g.mu.Unlock()
		return nil, errkind.Errorf(errkind.Unavailable, "%s answers neither https nor http", g.base.Host)
	}
	g.base.Scheme = "http"
	g.mu.Unlock()
	return g.get(ctx, u, header)
}

func (g *registry) loopback() bool {
	host := g.base.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
