//go:build outside

package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// hosts are the names that all networks here have.
var hosts = []string{"images.example", "other.example"}

// A fileServer is a server of files as Debian configures it, with the folders of
// hindrances in its place in /var/www/html, each with trident.raw and debian.cosi.
type fileServer struct {
	name string
	// config is what is added to the distribution's, by file.
	config map[string]string
	run    []string
	// folders are the hindrances that it has.
	folders []string
}

// htpasswd has the password s3cret of ann, as openssl passwd -apr1 writes it.
const htpasswd = "ann:$apr1$trident1$hjnfJvrjtK/KQSzmX0XTt/\n"

func fileServers() []fileServer {
	return []fileServer{
		{
			name: "nginx",
			config: map[string]string{
				"/etc/nginx/htpasswd": htpasswd,
				"/etc/nginx/sites-enabled/default": `server {
	listen 80 default_server;
	root /var/www/html;
	location /noranges { alias /var/www/html; max_ranges 0; }
	location /gzip { alias /var/www/html; gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any; }
	location /chunked { alias /var/www/html; sub_filter_types *; sub_filter "this is nowhere" "in it"; }
	location /moved { rewrite ^/moved/(.*)$ http://other.example/$1 redirect; }
	location /auth { alias /var/www/html; auth_basic "images"; auth_basic_user_file htpasswd; }
	location /html { alias /var/www/html; types {} default_type "text/html; charset=utf-8"; }
	location /forbidden { deny all; }
	location /broken { return 500; }
	location /closed { return 444; }
	location /page { try_files /index.html =404; }
}
`},
			run:     []string{"nginx", "-g", "daemon off;"},
			folders: []string{"", "noranges", "gzip", "chunked", "moved", "auth", "html", "forbidden", "page"},
		},
		{
			name: "apache",
			config: map[string]string{
				"/etc/apache2/htpasswd": htpasswd,
				"/etc/apache2/conf-enabled/test.conf": `ServerName images.example
AliasMatch "^/(noranges|gzip|auth|html|forbidden)/(.*)$" "/var/www/html/$2"
AliasMatch "^/page/.*$" "/var/www/html/index.html"
Redirect 302 /moved http://other.example
<Location /noranges>
	MaxRanges none
</Location>
<Location /gzip>
	SetOutputFilter DEFLATE
</Location>
<Location /auth>
	AuthType Basic
	AuthName images
	AuthUserFile /etc/apache2/htpasswd
	Require valid-user
</Location>
<Location /html>
	ForceType text/html
</Location>
<Location /forbidden>
	Require all denied
</Location>
`},
			// As apache2ctl does, but that the program which is killed is the server itself.
			run:     []string{"sh", "-c", `. /etc/apache2/envvars; mkdir -p $APACHE_RUN_DIR $APACHE_LOCK_DIR; rm -f $APACHE_PID_FILE; exec apache2 -D FOREGROUND`},
			folders: []string{"", "noranges", "gzip", "moved", "auth", "html", "forbidden", "page"},
		},
		{
			name: "lighttpd",
			config: map[string]string{
				"/etc/lighttpd/htpasswd": "ann:s3cret\n",
				"/etc/lighttpd/conf-enabled/test.conf": `server.modules += ("mod_auth", "mod_authn_file", "mod_deflate")
alias.url += ("/noranges/" => "/var/www/html/", "/gzip/" => "/var/www/html/", "/auth/" => "/var/www/html/", "/html/" => "/var/www/html/")
$HTTP["url"] =~ "^/noranges/" { server.range-requests = "disable" }
$HTTP["url"] =~ "^/gzip/" {
	deflate.mimetypes = ("application/octet-stream")
	deflate.allowed-encodings = ("gzip")
}
$HTTP["url"] =~ "^/html/" { mimetype.assign = ("" => "text/html") }
$HTTP["url"] =~ "^/forbidden/" { url.access-deny = ("") }
$HTTP["url"] =~ "^/moved/" { url.redirect = ("^/moved/(.*)$" => "http://other.example/$1") }
$HTTP["url"] =~ "^/auth/" {
	auth.backend = "plain"
	auth.backend.plain.userfile = "/etc/lighttpd/htpasswd"
	auth.require = ("" => ("method" => "basic", "realm" => "images", "require" => "valid-user"))
}
`},
			run:     []string{"lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf"},
			folders: []string{"", "noranges", "gzip", "moved", "auth", "html", "forbidden"},
		},
		{
			name:    "python",
			run:     []string{"python3", "-m", "http.server", "80", "-d", "/var/www/html"},
			folders: []string{python},
		},
	}
}

// A verdict is how a command has to end: its exit code, a pattern of its error, and how
// many requests it may need.
type verdict struct {
	code     int
	words    string
	requests int
}

var good = verdict{requests: 0}

// hindrances are the folders, with the end of: getting an extension whole, and reading an
// OS image in ranges.
var hindrances = map[string]struct{ whole, ranges verdict }{
	"":          {good, good},
	"noranges":  {good, verdict{2, "does not serve ranges", 1}},
	"gzip":      {good, good},
	"chunked":   {good, verdict{2, "does not serve ranges", 1}},
	"moved":     {good, good},
	"auth":      {verdict{2, "401", 1}, verdict{2, "401", 1}},
	"html":      {good, good},
	"none":      {verdict{2, "404", 1}, verdict{2, "404", 1}},
	"forbidden": {verdict{2, "403", 1}, verdict{2, "403", 1}},
	"page":      {verdict{2, "HTML", 2}, verdict{}},
	python:      {good, verdict{2, "does not serve ranges", 1}},
}

// oneError is what a command that failed has to say: one sentence, and a hint at most.
var oneError = regexp.MustCompile(`^trident: [^\n]+(\nhint: [^\n]+)?$`)

func (v verdict) check(t *testing.T, what string, r result, requests int) {
	t.Helper()
	t.Logf("%s: %d requests; %s", what, requests, r.complaint())
	switch {
	case r.code != v.code:
		t.Errorf("%s: exit code %d, want %d\n%s", what, r.code, v.code, r)
	case v.code != 0 && (!oneError.MatchString(r.complaint()) || !regexp.MustCompile(v.words).MatchString(r.complaint())):
		t.Errorf("%s: want one sentence with %q:\n%s", what, v.words, r)
	case v.requests > 0 && requests > v.requests:
		t.Errorf("%s: %d requests, want %d at most\n%s", what, requests, v.requests, r)
	}
}

// python is the folder of a server that has no hindrances but itself.
const python = "python"

// serveFiles starts a server of the extension and of the image of an operating system.
// It returns a door to it, and a function that kills the server and starts it again.
func serveFiles(t *testing.T, n *network, s fileServer) (d *door, again func()) {
	t.Helper()
	n.sh(fmt.Sprintf(`install -m 644 %s /var/www/html/trident.raw
install -m 644 %s /var/www/html/debian.cosi
echo '<!DOCTYPE html><html><title>Welcome</title></html>' >/var/www/html/index.html
mkdir -p /var/log/nginx /var/log/apache2 /var/log/lighttpd /var/cache/lighttpd/uploads /run/lighttpd /run/lock
chown -R www-data /var/log/lighttpd /var/cache/lighttpd /run/lighttpd`, built(t).image, anOSImage(t).path))
	for name, text := range s.config {
		n.write(name, text)
	}
	kill := n.start("127.0.0.1:80", s.run...)
	return newDoor(n, "127.0.0.1:80"), func() {
		kill()
		kill = n.start("127.0.0.1:80", s.run...)
	}
}

func TestImagesComeFromServersOfFilesAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, s := range fileServers() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, hosts...)
			d, again := serveFiles(t, n, s)
			h := newHost(n)
			base := "http://images.example" + d.port()
			for _, folder := range s.folders {
				t.Run("/"+folder, func(t *testing.T) { h.with(t).getBoth(d, base, folder) })
			}
			if s.name == python {
				return
			}
			t.Run("a server that is killed in the middle", func(t *testing.T) {
				h := h.with(t)
				const half = 20 << 20
				d.interrupt(half, again, func() {
					if r := h.run("self", "stage", base+"/trident.raw"); r.code != 0 {
						t.Error(r)
					}
				})
				if n := d.count(); n > 5 {
					t.Errorf("%d requests, want three before the data and one for each half", n)
				}
				d.interrupt(4<<20, again, func() {
					if r := h.tool(nil, "image", "verify", "--sha384", anOSImage(t).sha384, base+"/debian.cosi"); r.code != 0 {
						t.Error(r)
					}
				})
				d.count()
			})
		})
	}
}

// A server that may recover is asked for most of a minute.
func TestAServerThatNeverServesIsGivenUp(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, hosts...)
	serveFiles(t, n, fileServers()[0])
	for folder, words := range map[string]string{"broken": "the server answered 500", "closed": "EOF"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			d := newDoor(n, "127.0.0.1:80")
			r := n.with(t).tool(nil, "image", "inspect", "http://images.example"+d.port()+"/"+folder+"/debian.cosi")
			verdict{2, words, 8}.check(t, "inspect", r, d.count())
		})
	}
}

// interrupt has the server of the next connection with so long an answer die once that many bytes have come
// from it, and come back, while f runs.
func (d *door) interrupt(after int64, again, f func()) {
	held, release := d.hold(after)
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-held:
		again()
	case <-done: // it failed before
	}
	release()
	<-done
}

// with returns the host for another test.
func (h *host) with(t *testing.T) *host {
	other := *h
	other.network = h.network.with(t)
	return &other
}

// with returns the network for another test.
func (n *network) with(t *testing.T) *network {
	other := *n
	other.t = t
	return &other
}

// getBoth gets the extension, and reads the image of an operating system, from a folder.
func (h *host) getBoth(d *door, base, folder string) {
	want := hindrances[folder]
	if folder != python {
		base += "/" + folder
	}
	base = strings.TrimSuffix(base, "/")
	d.count()
	r := h.run("self", "stage", base+"/trident.raw")
	want.whole.check(h.t, "self stage", r, d.count())
	if r.code == 0 {
		if r := h.run("self", "remove", outsideNext); r.code != 0 {
			h.t.Error(r)
		}
	}
	if folder == "page" {
		return // what else is not an image of an operating system is package image's to name
	}
	for _, args := range [][]string{{"image", "inspect"}, {"image", "verify", "--sha384", anOSImage(h.t).sha384}} {
		d.count()
		r := h.tool(nil, append(args, base+"/debian.cosi")...)
		want.ranges.check(h.t, args[1], r, d.count())
	}
	if folder == "auth" {
		h.authorised(base)
	}
}

// authorised gets both with a password, of which nobody is told.
func (h *host) authorised(base string) {
	base = strings.Replace(base, "://", "://ann:s3cret@", 1)
	for _, r := range []result{
		h.run("self", "stage", base+"/trident.raw"), h.run("self", "remove", outsideNext), h.run("operation", "show", "--output", "json"),
		h.tool(nil, "image", "inspect", base+"/debian.cosi"), h.run("self", "stage", base+"/none.raw"), h.run("self", "history", "--output", "json"),
	} {
		if strings.Contains(r.String(), "s3cret") || r.code != 0 && !strings.Contains(r.complaint(), "404") {
			h.t.Error(r)
		}
	}
	if strings.Contains(h.log.String(), "s3cret") {
		h.t.Error("the log has the password")
	}
}

// registryPasswords is what Debian's configuration names a folder for.
const registryPasswords = "/etc/docker/registry/htpasswd"

func TestImagesComeFromARegistryThatWantsAPassword(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, hosts...)
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	n.write(registryPasswords, "ann:"+string(hash)+"\n")
	n.sh("sed -i 's|path: /etc/docker/registry$|path: " + registryPasswords + "|' /etc/docker/registry/config.yml; mkdir -p /var/lib/docker-registry")
	serve := []string{"docker-registry", "serve", "/etc/docker/registry/config.yml"}
	kill := n.start("127.0.0.1:5000", serve...)
	n.push("os/trident", "2.0.0", built(t).image)
	n.push("os/debian", "13", anOSImage(t).path)
	d := newDoor(n, "127.0.0.1:5000")
	auths := func(password string) string {
		login := base64.StdEncoding.EncodeToString([]byte("ann:" + password))
		return fmt.Sprintf(`{"auths": {"127.0.0.1%s": {"auth": %q}}}`, d.port(), login)
	}
	h := newHost(n)
	base := "oci://127.0.0.1" + d.port() + "/os/"
	for _, c := range []struct {
		name, password, tag string
		want                verdict
	}{
		{"no password", "", "2.0.0", verdict{2, "the registry demands credentials.*\nhint: .*registry-auth.json", 2}},
		{"a wrong one", "wrong", "2.0.0", verdict{2, "does not accept the given credentials.*\nhint: Check user name and password", 3}},
		{"no such tag", "s3cret", "3.0.0", verdict{2, "404", 3}},
		{"the right one", "s3cret", "2.0.0", good},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.with(t)
			args := []string{"image", "inspect"}
			if c.password != "" {
				n.write("/etc/auth.json", auths(c.password))
				if err := os.WriteFile(filepath.Join(h.dir, "etc/trident/registry-auth.json"), []byte(auths(c.password)), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--auth-file", "/etc/auth.json")
			}
			d.count()
			r := h.run("self", "stage", base+"trident:"+c.tag)
			c.want.check(t, "self stage", r, d.count())
			if r.code == 0 {
				h.run("self", "remove", outsideNext)
			}
			r = h.tool(nil, append(args, strings.Replace(base+"debian:"+c.tag, "2.0.0", "13", 1))...)
			c.want.check(t, "image inspect", r, d.count())
		})
	}
	t.Run("that is killed in the middle", func(t *testing.T) {
		h := h.with(t)
		// The requests before that of the image have answers shorter than this.
		d.interrupt(20<<20, func() { kill(); kill = h.start("127.0.0.1:5000", serve...) }, func() {
			if r := h.run("self", "stage", base+"trident:2.0.0"); r.code != 0 {
				t.Error(r)
			}
		})
	})
}

// push makes a file the one layer of an artifact, as oras does.
func (n *network) push(name, tag, path string) {
	n.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) { return n.dial(address) }}}
	send := func(method, to, kind string, data []byte, want int) http.Header {
		n.t.Helper()
		req, err := http.NewRequestWithContext(n.t.Context(), method, to, bytes.NewReader(data))
		if err != nil {
			n.t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		req.SetBasicAuth("ann", "s3cret")
		resp, err := client.Do(req)
		if err != nil {
			n.t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			n.t.Fatalf("%s %s: %s", method, to, resp.Status)
		}
		return resp.Header
	}
	api := "http://127.0.0.1:5000/v2/" + name + "/"
	blob := func(kind string, data []byte) map[string]any {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
		to := send("POST", api+"blobs/uploads/", "", nil, http.StatusAccepted).Get("Location")
		send("PUT", to+"&digest="+digest, "application/octet-stream", data, http.StatusCreated)
		return map[string]any{"mediaType": kind, "digest": digest, "size": len(data)}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": blob("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers": []any{blob("application/vnd.oci.image.layer.v1.tar", content)},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	send("PUT", api+"manifests/"+tag, "application/vnd.oci.image.manifest.v1+json", manifest, http.StatusCreated)
}
