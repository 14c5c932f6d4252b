package hosts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosts"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

func write(t *testing.T, text string) string {
	t.Helper()
	return writeAs(t, t.TempDir(), "hosts.yaml", text, 0o600)
}

func writeAs(t *testing.T, folder, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const fleet = `# ours
version: 1
hosts:
  web-1: # the first
    endpoints: ["ssh://root@web-1", tls://web-1:7373]
    ca: ca.crt
    certificate: me.crt
    key: me.key
    serverName: web
    tokenFile: token
    sshCommand: [ssh, -F, config]
    remoteCommand: [sudo, trident, dial-stdio]
    labels: {env: prod, rack: 7}
  web-2:
    endpoints: [unix:/run/web-2.sock]
    labels: {env: prod}
  test-1:
    endpoints: [tls://test-1:7373]
    labels: {env: test}
`

func TestTheFileIsRead(t *testing.T) {
	f, err := hosts.Load(write(t, fleet))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"test-1", "web-1", "web-2"}, f.Names()); diff != "" {
		t.Error(diff)
	}
	got, ok := f.Host("web-1")
	want := hosts.Host{
		Endpoints: []string{"ssh://root@web-1", "tls://web-1:7373"}, CA: "ca.crt", Certificate: "me.crt", Key: "me.key", ServerName: "web", TokenFile: "token",
		SSHCommand: []string{"ssh", "-F", "config"}, RemoteCommand: []string{"sudo", "trident", "dial-stdio"}, Labels: map[string]string{"env": "prod", "rack": "7"},
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(diff)
	}
	if got.LabelText() != "env=prod rack=7" {
		t.Errorf("labels %q", got.LabelText())
	}
}

func TestAFileThatDoesNotExistHasNoHosts(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "version: 1\n", "version: 1\nhosts:\n", "version: 1\nhosts: {}\n"} {
		f, err := hosts.Load(write(t, text))
		if err != nil || len(f.Names()) != 0 {
			t.Errorf("%q: %v, %v", text, f, err)
		}
	}
	f, err := hosts.Load(filepath.Join(t.TempDir(), "none"))
	if err != nil || len(f.Names()) != 0 {
		t.Errorf("%v, %v", f, err)
	}
}

func TestFaultsOfTheFileNameTheLineAndWhatIsMeant(t *testing.T) {
	host := "version: 1\nhosts:\n  a:\n    endpoints: [ssh://a]\n"
	for text, want := range map[string]string{
		"hosts: {}\n":                     `line 1: the file has no version|Begin the file with`,
		"version: 2\n":                    `line 1: version: "2" is not supported|Upgrade Trident`,
		"version: 1\nhost: {}\n":          `line 2: host: is not a setting|did you mean hosts?`,
		"[]\n":                            `line 1: the file is not a mapping`,
		"version: 1\nhosts: [a]\n":        `line 2: hosts: is not a mapping`,
		"version: 1\nversion: 1\n":        `twice`,
		"version: 1\nhosts:\n  a: {}\n":   `line 3: hosts.a: it has no endpoints|An endpoint is`,
		"version: 1\nhosts:\n  a: x\n":    `line 3: hosts.a: is not a mapping`,
		"version: 1\nhosts:\n  -a: {}\n":  `line 3: hosts.-a: "-a" is not the name of a host`,
		"version: 1\nhosts:\n  a/b: {}\n": `"a/b" is not the name of a host`,
		"version: 1\nhosts: {a: &x {endpoints: [ssh://a]}, b: *x}\n": `alias`,
		host + "    label: {a: b}\n":                                 `line 5: hosts.a.label: is not a setting|did you mean labels?`,
		host + "    xyzzy: 1\n":                                      `hosts.a.xyzzy: is not a setting|the settings here are ca, certificate, `,
		host + "    labels: {a: [1]}\n":                              `hosts.a.labels.a: is not a text`,
		host + "    labels: {'a=b': c}\n":                            `hosts.a.labels."a=b": "a=b" is not the name of a label`,
		host + "    labels: {a: ''}\n":                               `has no value`,
		host + "    labels: x\n":                                     `labels: is not a mapping`,
		host + "    sshCommand: ssh -F x\n":                          `sshCommand: is not a list|write [first, second]`,
		host + "    sshCommand: []\n":                                `sshCommand: is an empty list`,
		host + "    sshCommand: [[x]]\n":                             `hosts.a.sshCommand[0]: is not a text`,
		host + "    tokenFile: x\n":                                  `are for tls:// endpoints, and it has none`,
		host + "    certificate: x\n":                                `certificate and key go together`,
		host + "    ca: ''\n":                                        `hosts.a.ca: is empty`,
		host + "    ca:\n":                                           `hosts.a.ca: has no value`,
		"version: 1\nhosts:\n  a:\n    endpoints: [tls://a:1]\n    remoteCommand: [x]\n":              `are for ssh:// endpoints`,
		"version: 1\nhosts:\n  a:\n    endpoints: [web-1]\n":                                          `"web-1" is not an endpoint|An endpoint is`,
		"version: 1\nhosts:\n  a:\n    endpoints: [ssh://-x]\n":                                       `"-x" is not the name of a host`,
		"version: 1\nhosts:\n  a:\n    endpoints: [http://a]\n":                                       `scheme "http" is not supported`,
		"version: 1\nhosts:\n  a:\n    endpoints: [" + strings.Repeat("ssh://a, ", 16) + "ssh://a]\n": `17 endpoints`,
		"version: 1\nhosts:\n\t- x":                                                                   `line 3: the text is not YAML`,
		host + "---\nversion: 1\n":                                                                    `line 5: a second document begins`,
	} {
		path := write(t, text)
		_, err := hosts.Load(path)
		message, hint, _ := strings.Cut(want, "|")
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "read hosts: "+path+": ") || !strings.Contains(err.Error(), message) || !strings.Contains(errkind.Hint(err), hint) {
			t.Errorf("%q:\n%v\nhint %q, want %s", text, err, errkind.Hint(err), want)
		}
	}
}

func TestAFileThatOthersCanWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o620, 0o602, 0o666} {
		path := writeAs(t, t.TempDir(), "hosts.yaml", fleet, mode)
		_, err := hosts.Load(path)
		if errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), "others can write it") || errkind.Hint(err) != "Take these rights away: chmod go-w "+path {
			t.Errorf("%#o: %v; hint %q", mode, err, errkind.Hint(err))
		}
	}
	if _, err := hosts.Load(writeAs(t, t.TempDir(), "hosts.yaml", fleet, 0o644)); err != nil {
		t.Errorf("a file that others can read: %v", err)
	}
	if _, err := hosts.Load(t.TempDir()); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a folder: %v", err)
	}
	if _, err := hosts.Load(write(t, strings.Repeat("#", 5<<20))); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a large file: %v", err)
	}
}

func TestTargetsAreSelectedByNameAndLabel(t *testing.T) {
	f, err := hosts.Load(write(t, fleet))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		names  []string
		labels string
		want   string
		kind   errkind.Kind
		hint   string
	}{
		"all":                       {nil, "", "test-1 web-1 web-2", "", ""},
		"by name, each once":        {[]string{"web-2", "web-1", "web-2"}, "", "web-2 web-1", "", ""},
		"an endpoint":               {[]string{"ssh://x", "web-1"}, "", "ssh://x web-1", "", ""},
		"by a label":                {nil, "env=prod", "web-1 web-2", "", ""},
		"by two labels":             {nil, "env=prod rack=7", "web-1", "", ""},
		"by name and label":         {[]string{"web-2", "test-1"}, "env=prod", "web-2", "", ""},
		"no host has the label":     {nil, "env=x", "", errkind.NotFound, "trident hosts list"},
		"an endpoint has no label":  {[]string{"ssh://x"}, "env=x", "", errkind.Invalid, ""},
		"a word that is nearly one": {[]string{"web1"}, "", "", errkind.NotFound, "Did you mean web-1?"},
		"a path":                    {[]string{"/run/x"}, "", "", errkind.NotFound, "unix:PATH"},
		"another word":              {[]string{"xyzzy"}, "", "", errkind.NotFound, "trident hosts add xyzzy ssh://root@xyzzy"},
	} {
		t.Run(name, func(t *testing.T) {
			var labels []hosts.Label
			for _, text := range strings.Fields(tt.labels) {
				l, err := hosts.ParseLabel(text)
				if err != nil {
					t.Fatal(err)
				}
				labels = append(labels, l)
			}
			targets, err := f.Select(tt.names, labels)
			var got []string
			for _, target := range targets {
				got = append(got, target.Name)
			}
			if strings.Join(got, " ") != tt.want || err != nil && errkind.Of(err) != tt.kind || (err != nil) != (tt.kind != "") || !strings.Contains(errkind.Hint(err), tt.hint) {
				t.Errorf("got %v, %v; hint %q", got, err, errkind.Hint(err))
			}
		})
	}
}

func TestLabelsAreNameAndValue(t *testing.T) {
	for _, text := range []string{"", "a", "=x", "a=", "-a=x", "a b=x", "a=x\ny", strings.Repeat("a", 300) + "=x"} {
		if _, err := hosts.ParseLabel(text); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
	if l, err := hosts.ParseLabel("example.com/tier=a=b c"); err != nil || l != (hosts.Label{Name: "example.com/tier", Value: "a=b c"}) {
		t.Errorf("%v, %v", l, err)
	}
}

func TestAddAndRemoveKeepTheRestAndItsComments(t *testing.T) {
	path := write(t, fleet)
	h := hosts.Host{Endpoints: []string{"tls://db:1", "ssh://db"}, CA: "ca", Certificate: "c", Key: "k", ServerName: "s", TokenFile: "t",
		SSHCommand: []string{"ssh"}, RemoteCommand: []string{"a b", "true"}, Labels: map[string]string{"n": "1", "m": "true"}}
	if err := hosts.Add(path, "db", h); err != nil {
		t.Fatal(err)
	}
	f, err := hosts.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := f.Host("db")
	if diff := cmp.Diff(h, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := hosts.Remove(path, "db", "web-2"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "# ours\nversion: 1\n") || !strings.Contains(string(text), "web-1: # the first\n") || strings.Contains(string(text), "web-2") {
		t.Errorf("the file is now:\n%s", text)
	}
}

func TestTheFirstHostMakesTheFile(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	path, err := hosts.DefaultPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := hosts.Add(path, "a", hosts.Host{Endpoints: []string{"ssh://a"}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("version: 1\nhosts:\n  a:\n    endpoints: ['ssh://a']\n", string(text)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestTheFileIsInTheFolderOfTheUser(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for folder, want := range map[string]string{"": "/home/me/.config/trident/hosts.yaml", "relative": "/home/me/.config/trident/hosts.yaml", "/c": "/c/trident/hosts.yaml"} {
		t.Setenv("XDG_CONFIG_HOME", folder)
		if got, err := hosts.DefaultPath(); got != want || err != nil {
			t.Errorf("%q: %s, %v", folder, got, err)
		}
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	if _, err := hosts.DefaultPath(); errkind.Of(err) != errkind.Precondition {
		t.Errorf("without HOME: %v", err)
	}
}

func TestChangesThatCannotBeAreRefusedAndLeaveTheFile(t *testing.T) {
	path := write(t, fleet)
	ok := hosts.Host{Endpoints: []string{"ssh://a"}}
	for name, tt := range map[string]struct {
		change func() error
		kind   errkind.Kind
	}{
		"a name that is there":  {func() error { return hosts.Add(path, "web-1", ok) }, errkind.Exists},
		"a wrong name":          {func() error { return hosts.Add(path, "a,b", ok) }, errkind.Invalid},
		"no endpoint":           {func() error { return hosts.Add(path, "a", hosts.Host{}) }, errkind.Invalid},
		"one that is not there": {func() error { return hosts.Remove(path, "web-1", "web-9") }, errkind.NotFound},
		"an endpoint":           {func() error { return hosts.Remove(path, "ssh://a") }, errkind.NotFound},
		"an empty text in a field": {func() error {
			return hosts.Add(path, "a", hosts.Host{Endpoints: ok.Endpoints, SSHCommand: []string{""}})
		}, errkind.Invalid},
	} {
		if err := tt.change(); errkind.Of(err) != tt.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(path); string(text) != fleet {
		t.Errorf("the file changed (%v):\n%s", err, text)
	}
}

func TestChangesAtTheSameTimeAreAllKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep/er/hosts.yaml")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := hosts.Add(path, fmt.Sprintf("h%d", i), hosts.Host{Endpoints: []string{"ssh://a"}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f, err := hosts.Load(path)
	if err != nil || len(f.Names()) != 20 {
		t.Errorf("%v, %v", f.Names(), err)
	}
}

// certify writes an authority, and a certificate by it with its key, for localhost.
func certify(t *testing.T, folder string) (pair tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour).Truncate(time.Second),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	writeAs(t, folder, "me.crt", string(cert), 0o644)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	writeAs(t, folder, "me.key", string(keyPEM), 0o600)
	if pair, err = tls.X509KeyPair(cert, keyPEM); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pair, pool
}

// select1 writes a file with one host a of these lines, and selects it.
func select1(t *testing.T, folder, lines string) hosts.Target {
	t.Helper()
	f, err := hosts.Load(writeAs(t, folder, "hosts.yaml", "version: 1\nhosts:\n  a:\n"+lines, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	targets, err := f.Select([]string{"a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return targets[0]
}

func TestAHostIsReachedWithItsCertificateThroughTheEndpointThatAnswers(t *testing.T) {
	folder := t.TempDir()
	pair, pool := certify(t, folder)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	s := clienttest.New(clienttest.Config{Version: "1.2.3"})
	t.Cleanup(s.Close)
	s.Serve(l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	writeAs(t, folder, "token", " abc\n", 0o600)
	target := select1(t, folder, "    endpoints: [unix:"+folder+"/none, tls://localhost:"+port+"]\n    ca: me.crt\n    certificate: me.crt\n    key: me.key\n    tokenFile: token\n")
	c, err := target.Dial(client.WithName("test", "1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if v, err := c.Version(t.Context()); v != "1.2.3" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	reached := target.Check(t.Context(), "tls://localhost:"+port)
	if reached.Err != nil || reached.Version != "1.2.3" || reached.RoundTrip <= 0 {
		t.Errorf("%+v", reached)
	}
	if want := pair.Leaf.NotAfter; !reached.Expiry.Server.Equal(want) || !reached.Expiry.Client.Equal(want) {
		t.Errorf("expiry %v, want %v", reached.Expiry, want)
	}
	missed := target.Check(t.Context(), "unix:"+folder+"/none")
	if errkind.Of(missed.Err) != errkind.Unavailable || missed.Version != "" {
		t.Errorf("%+v", missed)
	}
}

func TestSecretsThatOthersCanReadAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		lines, file string
		mode        os.FileMode
		kind        errkind.Kind
		text        string
	}{
		"a key of the group":      {"certificate: me.crt\n    key: me.key", "me.key", 0o640, errkind.Denied, "has the mode 0640: others can read it"},
		"a token of all":          {"tokenFile: token", "token", 0o644, errkind.Denied, "has the mode 0644: others can read it"},
		"a missing token":         {"tokenFile: none", "", 0, errkind.Internal, "read the token: "},
		"a missing key":           {"certificate: me.crt\n    key: none", "", 0, errkind.Internal, "read the key: "},
		"a missing certificate":   {"certificate: none\n    key: me.key", "", 0, errkind.Internal, "read the certificate: "},
		"a missing authority":     {"ca: none", "", 0, errkind.Internal, "read the authorities: "},
		"an authority without it": {"ca: token", "", 0, errkind.Invalid, "has no certificate in PEM form"},
		"a key that does not fit": {"certificate: me.key\n    key: me.key", "", 0, errkind.Invalid, "read the certificate "},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			certify(t, folder)
			writeAs(t, folder, "token", "geheim", 0o600)
			if tt.file != "" {
				if err := os.Chmod(filepath.Join(folder, tt.file), tt.mode); err != nil {
					t.Fatal(err)
				}
			}
			target := select1(t, folder, "    endpoints: [tls://localhost:1]\n    "+tt.lines+"\n")
			_, err := target.Dial()
			if errkind.Of(err) != tt.kind || !strings.Contains(err.Error(), "connect to host a: ") || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("error of kind %s: %v", errkind.Of(err), err)
			}
			if check := target.Check(t.Context(), "tls://localhost:1"); check.Err == nil || !strings.Contains(check.Err.Error(), tt.text) {
				t.Errorf("check: %v", check.Err)
			}
		})
	}
}
