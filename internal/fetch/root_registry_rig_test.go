//go:build root

package fetch

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	registryUser     = "ann"
	registryPassword = "s3cret:with a colon"
	registryRepo     = "os/image"
)

// realRegistry is docker-registry, as Debian has it. It listens on a unix socket,
// so that it needs no port that may be taken by then, and this process is its door.
type realRegistry struct {
	t      *testing.T
	base   url.URL
	login  bool // whether it wants one
	client http.Client

	conns atomic.Int32 // that came through the door
	cut   atomic.Int64 // bytes after which the next connection breaks; 0: none does
}

// startRegistry starts an empty one. With a folder it speaks TLS by the cert.pem
// and key.pem in there.
func startRegistry(t *testing.T, login bool, tlsFolder string) *realRegistry {
	t.Helper()
	dir := t.TempDir()
	g := &realRegistry{t: t, base: url.URL{Scheme: "http"}, login: login}
	socket := filepath.Join(dir, "s")
	serving := map[string]any{"net": "unix", "addr": socket, "secret": "of a test", "relativeurls": true}
	config := map[string]any{
		"version": "0.1",
		"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": filepath.Join(dir, "store")}},
		"http":    serving,
	}
	if tlsFolder != "" {
		cert, key := filepath.Join(tlsFolder, "cert.pem"), filepath.Join(tlsFolder, "key.pem")
		serving["tls"] = map[string]any{"certificate": cert, "key": key}
		g.base.Scheme = "https"
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(read(t, cert))
		g.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	}
	if login {
		hash, err := bcrypt.GenerateFromPassword([]byte(registryPassword), bcrypt.MinCost)
		must(t, err)
		write(t, filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "%s:%s\n", registryUser, hash))
		config["auth"] = map[string]any{"htpasswd": map[string]any{"realm": "test", "path": filepath.Join(dir, "htpasswd")}}
	}
	text, err := json.Marshal(config) // which is YAML
	must(t, err)
	write(t, filepath.Join(dir, "config.yml"), text)
	g.run(filepath.Join(dir, "config.yml"))
	g.open(socket)
	return g
}

// run starts it, and returns when it listens. It ends with the test.
func (g *realRegistry) run(config string) {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "docker-registry", "serve", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := cmd.StderrPipe()
	must(g.t, err)
	must(g.t, cmd.Start())
	ended := make(chan struct{})
	g.t.Cleanup(func() { <-ended })
	var log strings.Builder
	lines := bufio.NewScanner(said)
	for listens := false; !listens; {
		if !lines.Scan() {
			close(ended)
			g.t.Fatalf("docker-registry: %v: %s", cmd.Wait(), log.String())
		}
		fmt.Fprintln(&log, lines.Text())
		listens = strings.Contains(lines.Text(), "listening on ")
	}
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, said)
		_ = cmd.Wait() // it was killed
	}()
}

// open lets connections to a port of loopback through to the socket.
func (g *realRegistry) open(socket string) {
	g.t.Helper()
	door, err := net.Listen("tcp", "127.0.0.1:0")
	must(g.t, err)
	g.t.Cleanup(func() { _ = door.Close() })
	g.base.Host = door.Addr().String()
	go func() {
		for {
			outside, err := door.Accept()
			if err != nil {
				return
			}
			g.conns.Add(1)
			go g.pass(outside, socket)
		}
	}()
}

func (g *realRegistry) pass(outside net.Conn, socket string) {
	defer outside.Close()
	inside, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer inside.Close()
	go func() {
		_, _ = io.Copy(inside, outside)
		_ = inside.Close()
	}()
	if n := g.cut.Swap(0); n > 0 {
		_, _ = io.CopyN(outside, inside, n)
		return
	}
	_, _ = io.Copy(outside, inside)
}

// oci is its repository, with a tag or a digest.
func (g *realRegistry) oci(ref string) string {
	return "oci://" + g.base.Host + "/" + registryRepo + ref
}

// config is what `docker login` would have written.
func (g *realRegistry) config(user, password string) []byte {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, g.base.Host, auth)
}

// push makes content the one layer of an artifact, and returns its manifest's digest.
func (g *realRegistry) push(tag string, content []byte) string {
	g.t.Helper()
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	blob := func(kind string, data []byte) descriptor {
		d := descriptor{kind, "sha256:" + sum(data), len(data)}
		to, err := url.Parse(g.send("POST", g.api("blobs/uploads/"), "", nil, http.StatusAccepted).Get("Location"))
		must(g.t, err)
		q := to.Query()
		q.Set("digest", d.Digest)
		to.RawQuery = q.Encode()
		g.send("PUT", g.base.ResolveReference(to), "application/octet-stream", data, http.StatusCreated)
		return d
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        blob("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers":        []descriptor{blob("application/vnd.oci.image.layer.v1.tar", content)},
	})
	must(g.t, err)
	got := g.send("PUT", g.api("manifests/"+tag), "application/vnd.oci.image.manifest.v1+json", manifest, http.StatusCreated).Get("Docker-Content-Digest")
	if want := "sha256:" + sum(manifest); got != want {
		g.t.Fatalf("the registry has the manifest as %s, and it is %s", got, want)
	}
	return got
}

func (g *realRegistry) api(what string) *url.URL {
	u := g.base
	u.Path = "/v2/" + registryRepo + "/" + what
	return &u
}

func (g *realRegistry) send(method string, to *url.URL, kind string, data []byte, want int) http.Header {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, to.String(), bytes.NewReader(data))
	must(g.t, err)
	req.Close = true
	req.Header.Set("Content-Type", kind)
	if g.login {
		req.SetBasicAuth(registryUser, registryPassword)
	}
	resp, err := g.client.Do(req)
	must(g.t, err)
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	must(g.t, err)
	if resp.StatusCode != want {
		g.t.Fatalf("%s %s: %s: %s", method, to, resp.Status, said)
	}
	return resp.Header
}

// selfSigned makes cert.pem, for loopback and signed by itself, and key.pem.
func selfSigned(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, filepath.Join(folder, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	write(t, filepath.Join(folder, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return folder
}
