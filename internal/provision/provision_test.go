package provision

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/provision/provisiontest"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// The machine reads everything out of the live image. It reboots into a system that has the
// agent, because the Host Configuration that it was installed by has it.
func TestAnEmptyMachineIsProvisioned(t *testing.T) {
	t.Parallel()
	r := prepare(t, func(o *Options) { o.WithAgent = true })
	live := clienttest.New(clienttest.Config{HostID: "live", Script: installation()})
	stop := r.boot(live)
	var steps []string
	got, err := r.Install(t.Context(), func(e *client.Event) {
		steps = append(steps, e.GetStep())
		if e.GetChange().GetWaiting() != "reboot" {
			return
		}
		go func() {
			stop()
			installed := clienttest.New(clienttest.Config{HostID: "installed", Operations: []*operationsv1.Operation{{Id: "op-1", Phase: done}}})
			provisiontest.Agent(t, []byte(r.installed(live).agent), installed)
		}()
	})
	if err != nil || got != (Result{Name: "m1", Address: "127.0.0.1", IsConnected: true}) || strings.Join(steps[:3], " ") != "write write reboot" {
		t.Errorf("%+v, %v, %v", got, err, steps)
	}
	config := r.installed(live)
	if !strings.HasSuffix(config.image, "/image.cosi") || config.phonehome != r.url("phonehome") || config.mode != "0600" {
		t.Errorf("%+v", config)
	}
	if want, err := os.ReadFile(r.options.Image); err != nil || !bytes.Equal(r.get(config.image), want) {
		t.Errorf("the served image is another: %v", err)
	}
	if !bytes.HasPrefix(r.read("/etc/trident/config.yaml"), []byte(live.Configs()[0])) {
		t.Errorf("the live image has another Host Configuration: %.200s", r.read("/etc/trident/config.yaml"))
	}
}

type installed struct{ agent, mode, image, phonehome string }

// installed returns what a machine has of its Host Configuration.
func (r *run) installed(daemon *clienttest.Server) (out installed) {
	c, report := hostconfig.Parse([]byte(daemon.Configs()[0]), rules.Check)
	if report.Err() != nil {
		r.t.Error(report.Err())
		return out
	}
	for _, f := range c.Spec().OS.AdditionalFiles {
		if f.Destination == "/etc/trident/connect.yaml" {
			out.agent, out.mode = *f.Content, f.Permissions
		}
	}
	out.image, out.phonehome = string(c.Spec().Image.URL), c.Spec().Trident.Phonehome
	return out
}

func TestASystemWithoutTheAgentReports(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{"succeeded": "", "failed": "after the reboot Trident reports: the unit died"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			r := prepare(t, nil)
			live := clienttest.New(clienttest.Config{Script: installation()})
			stop := r.boot(live)
			if code := r.report(r.url("phonehome"), `{"state":"succeeded"}`); code != 200 { // too early: it does not count
				t.Errorf("status %d", code)
			}
			got, err := r.Install(t.Context(), onReboot(func() {
				stop()
				url := r.installed(live).phonehome
				r.report(url, `{"state":"started","message":"x","host_status":null}`)
				r.report(strings.Replace(url, "phonehome", "tracestream", 1), `{}`)
				r.report(url, text(`{"state":%q,"message":"the unit died","host_status":"servicingState: x"}`, state))
			}))
			if _, isFailure := errors.AsType[*FailedError](err); isFailure != (want != "") || (err != nil && !strings.Contains(err.Error(), want)) {
				t.Errorf("%v", err)
			}
			if want == "" && got != (Result{Name: "m1", Address: "127.0.0.1"}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAFailedInstallationIsAFailureOfTrident(t *testing.T) {
	t.Parallel()
	failure := &operationsv1.Failure{Reason: "CORRUPT", Message: "write: the image is corrupt"}
	for name, config := range map[string]clienttest.Config{
		"undone":  {Script: []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "write", failure)}},
		"refused": {Refuse: errkind.Errorf(errkind.Busy, "the image is corrupt")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := prepare(t, nil)
			r.boot(clienttest.New(config))
			_, err := r.Install(t.Context(), nothing)
			if _, ok := errors.AsType[*FailedError](err); !ok || !strings.Contains(err.Error(), "the image is corrupt") || !strings.HasPrefix(err.Error(), "install the machine: ") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAMachineThatNeverCallsEndsTheRun(t *testing.T) {
	t.Parallel()
	r := prepare(t, func(o *Options) { o.CallTime = 10 * time.Millisecond })
	_, err := r.Install(t.Context(), nothing)
	if client.Kind(err) != client.KindTimeout || !strings.Contains(err.Error(), "none has connected to 127.0.0.1:") || client.Hint(err) == "" {
		t.Errorf("%v (%s)", err, client.Hint(err))
	}
}

func TestAMachineThatDoesNotReturnEndsTheRun(t *testing.T) {
	t.Parallel()
	r := prepare(t, func(o *Options) { o.RebootTime = 50 * time.Millisecond })
	stop := r.boot(clienttest.New(clienttest.Config{Script: installation()}))
	_, err := r.Install(t.Context(), onReboot(stop))
	if _, isFailure := errors.AsType[*FailedError](err); isFailure || client.Kind(err) != client.KindTimeout || !strings.Contains(err.Error(), "has not reported within 50ms") {
		t.Errorf("%v", err)
	}
}

func TestAnInterruptEndsTheInstallationAndTheServers(t *testing.T) {
	t.Parallel()
	r := prepare(t, nil)
	live := clienttest.New(clienttest.Config{Script: installation()[:2]})
	r.boot(live)
	ctx, interrupt := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	_, err := r.Install(ctx, func(e *client.Event) {
		if e.GetProgress() != nil {
			interrupt(cause)
		}
	})
	if !errors.Is(err, cause) || live.Cancels() != 1 {
		t.Errorf("%v, %d requests to undo", err, live.Cancels())
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, l := range []net.Listener{r.socket, r.web} {
		if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
			_ = conn.Close()
			t.Errorf("%s is still open", l.Addr())
		}
	}
}

func TestAnInterruptEndsTheWait(t *testing.T) {
	t.Parallel()
	r := prepare(t, nil)
	ctx, interrupt := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	interrupt(cause)
	if _, err := r.Install(ctx, nothing); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestAStrangerIsRefused(t *testing.T) {
	t.Parallel()
	r := prepare(t, func(o *Options) { o.CallTime = 200 * time.Millisecond })
	stranger := connecttest.NewAuthority(t)
	conn, err := tls.Dial("tcp", r.socket.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stranger.Issue("m1").TLS}})
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3 refuses a client after its handshake
		_ = conn.Close()
	}
	if err == nil {
		t.Error("the stranger is let in")
	}
	if line := <-r.log; !strings.Contains(line, "a connection is refused") {
		t.Error(line)
	}
	if _, err := r.Install(t.Context(), nothing); client.Kind(err) != client.KindTimeout {
		t.Errorf("the stranger is taken for the machine: %v", err)
	}
	for _, path := range []string{"/", "/live.iso", "/image.cosi", "/" + r.secret + "/", "/" + r.secret + "/live.iso/x"} {
		resp, err := http.Get("http://" + r.web.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	for _, body := range []string{"", "{", strings.Repeat(" ", maxReport+1)} {
		if code := r.report(r.url("phonehome"), body); code != http.StatusBadRequest {
			t.Errorf("a body of %d bytes: %d", len(body), code)
		}
	}
}

// peer is a connection from an address.
type peer struct {
	net.Conn
	address string
}

func (p peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(p.address), Port: 1} }

func from(address string) client.HostConn { return client.HostConn{Conn: peer{address: address}} }

func TestOnlyTheFirstOfTwoMachinesIsInstalled(t *testing.T) {
	t.Parallel()
	var notices []string
	m := newMachine(func(s string) { notices = append(notices, s) })
	for _, address := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"} {
		m.connected(from(address))
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "at 192.0.2.2, has booted the same live image") || !m.isOther("192.0.2.2") || m.isOther("192.0.2.1") {
		t.Errorf("%q", notices)
	}
	m.event(clienttest.Reboot("reboot"))
	m.connected(from("192.0.2.2")) // still the other one
	if address, _ := m.known(); address != "192.0.2.1" {
		t.Error(address)
	}
	m.connected(from("192.0.2.3")) // the installed system has another address
	if address, _ := m.known(); address != "192.0.2.3" || m.isOther("192.0.2.3") || len(notices) != 1 {
		t.Errorf("%s, %q", address, notices)
	}
}

// Another machine, at another address, boots the same image while the first one is installed,
// and connects again and again. The installation and its end are those of the first.
func TestASecondMachineDoesNotDisturb(t *testing.T) {
	t.Parallel()
	r := prepare(t, func(o *Options) { o.WithAgent = true })
	live := clienttest.New(clienttest.Config{HostID: "live", Script: installation()})
	stop := r.boot(live)
	c, _, err := connect.Parse(r.read("/trident_cdrom/rcp-agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.X509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		t.Fatal(err)
	}
	second := func() *tls.Conn {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		conn, err := tls.DialWithDialer(dialer, "tcp", c.ClientAddress, &tls.Config{RootCAs: r.keys.pool, ServerName: connect.ServerName, Certificates: []tls.Certificate{own}})
		if err != nil {
			t.Error(err)
		}
		return conn
	}
	refused := make(chan error, 1)
	got, err := r.Install(t.Context(), func(e *client.Event) {
		switch {
		case e.GetProgress() != nil:
			conn := second()
			if notice := <-r.notices; !strings.Contains(notice, "Another machine, at 127.0.0.2") {
				t.Error(notice)
			}
			go func() {
				_, err := conn.Read(make([]byte, 1))
				refused <- err
			}()
		case e.GetChange().GetWaiting() == "reboot":
			go func() {
				stop()
				if err := <-refused; err == nil { // the run has tried the connection, and closed it
					t.Error("the second machine was spoken to")
				}
				provisiontest.Agent(t, []byte(r.installed(live).agent), clienttest.New(clienttest.Config{
					HostID: "installed", Operations: []*operationsv1.Operation{{Id: "op-1", Phase: done}},
				}))
			}()
		}
	})
	if err != nil || got != (Result{Name: "m1", Address: "127.0.0.1", IsConnected: true}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFaultsAreFoundBeforeTheWait(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = used.Close() }()
	port := used.Addr().(*net.TCPAddr).Port
	missing := t.TempDir() + "/missing"
	for name, c := range map[string]struct {
		change func(*Options)
		kind   errkind.Kind
		want   string
	}{
		"configuration": {func(o *Options) { o.Config = []byte("storage: 7\n") }, errkind.Invalid, "read Host Configuration"},
		"no image":      {func(o *Options) { o.Config = []byte("trident: {}\n") }, errkind.Invalid, "it has no image to install"},
		"name":          {func(o *Options) { o.Name = "a b" }, errkind.Invalid, `the name of the machine is "a b"`},
		"image":         {func(o *Options) { o.Image = missing }, errkind.NotFound, missing},
		"other image":   {func(o *Options) { o.Image = provisiontest.Write(t, "x", "text") }, "", "open image"},
		"hash": {func(o *Options) {
			o.Config = []byte(strings.Replace(string(o.Config), "sha384: ignored", "sha384: "+strings.Repeat("1", 96), 1))
		}, errkind.Corrupt, "open image"},
		"no ISO":    {func(o *Options) { o.ISO = missing }, "", "open the live image"},
		"plain ISO": {func(o *Options) { o.ISO = provisiontest.LiveImage(t, placeholder(configPath, room)) }, errkind.NotFound, "no placeholder for the configuration of the agent"},
		"two places": {func(o *Options) {
			o.ISO = provisiontest.LiveImage(t, placeholder(agentPath, room), placeholder(agentPath, room))
		}, errkind.Invalid, agentPath},
		"small place": {func(o *Options) { o.ISO = provisiontest.LiveImage(t, placeholder(agentPath, 300)) }, errkind.TooLarge, "has room for 300"},
		"two agents": {func(o *Options) {
			o.WithAgent = true
			o.Config = []byte(string(o.Config) + "os: {additionalFiles: [{destination: /etc/trident/connect.yaml, content: x}]}\n")
		}, errkind.Invalid, "/etc/trident/connect.yaml"},
		"port":      {func(o *Options) { o.Port = port }, errkind.Unavailable, text("listen for the agent of the machine on port %d", port)},
		"HTTP port": {func(o *Options) { o.HTTPPort = port }, errkind.Unavailable, text("listen for requests of the images on port %d", port)},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			c.change(&o)
			r, err := Prepare(t.Context(), o)
			if err == nil {
				_ = r.Close()
			}
			if err == nil || (c.kind != "" && errkind.Of(err) != c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", errkind.Of(err), err)
			}
		})
	}
}

func TestAnImageThatItsServerDoesNotHaveIsFoundMissing(t *testing.T) {
	t.Parallel()
	o := options(t)
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	o.Image, o.Config = "", []byte(strings.Replace(string(o.Config), "https://example.org/os.cosi", server.URL+"/os.cosi", 1))
	if _, err := Prepare(t.Context(), o); err == nil || !strings.Contains(err.Error(), "404") || !strings.Contains(client.Hint(err), "image.url") {
		t.Errorf("%v (%s)", err, client.Hint(err))
	}
}

func TestALargeHostConfigurationIsSentOverTheConnectionAlone(t *testing.T) {
	t.Parallel()
	r := prepare(t, func(o *Options) {
		o.ISO = provisiontest.LiveImage(t, placeholder(configPath, 200), placeholder(agentPath, room))
	})
	if notice := <-r.notices; !strings.Contains(notice, "its placeholder in the live image has 200") {
		t.Error(notice)
	}
	if !bytes.Contains(r.get(r.ISO()), []byte("clientAddress: \"127.0.0.1:")) {
		t.Error("the image has no configuration of the agent")
	}
}

// Servers of virtual media read in ranges, whose borders lie anywhere.
func TestThePatchedImageIsServedInRanges(t *testing.T) {
	t.Parallel()
	r := prepare(t, nil)
	whole := r.get(r.ISO())
	iso, size := r.ISOContent()
	if copied, err := io.ReadAll(iso); err != nil || !bytes.Equal(copied, whole) || size != int64(len(whole)) {
		t.Errorf("the copy differs: %v", err)
	}
	for _, span := range [][2]int64{{0, 1}, {2, 10}, {100, 200}, {17000, 17100}, {0, int64(len(whole))}, {int64(len(whole)) - 1, int64(len(whole))}} {
		got, err := io.ReadAll(io.NewSectionReader(r.iso, span[0], span[1]-span[0]))
		if err != nil || !bytes.Equal(got, whole[span[0]:span[1]]) {
			t.Errorf("bytes %v: %v", span, err)
		}
	}
}

// Two runs share nothing: the machine of one is a stranger to the other.
func TestEachRunHasItsOwnAuthority(t *testing.T) {
	t.Parallel()
	a, err := newKeys("m1")
	b, err2 := newKeys("m1")
	if err != nil || err2 != nil || bytes.Equal(a.authority, b.authority) || bytes.Equal(a.secret, b.secret) {
		t.Error(err, err2)
	}
	if left := time.Until(a.own.Leaf.NotAfter); left > 48*time.Hour || left < 47*time.Hour {
		t.Errorf("a certificate is valid for %s", left)
	}
}

func TestTheDefaultsAreThoseOfTheHost(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Name, o.Address, o.Loopback = "", "", true
	o.Config = []byte(provisiontest.HostConfiguration + "trident: {disable: true}\n")
	r, err := Prepare(t.Context(), o)
	if err != nil {
		if errkind.Of(err) == errkind.Precondition {
			t.Skip("this host has no default route")
		}
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if r.Name() == "" || net.ParseIP(r.options.Address) == nil || r.config.Spec().Trident.Phonehome != "" {
		t.Errorf("name %q, address %q", r.Name(), r.options.Address)
	}
	if _, err := Towards(t.Context(), "no port"); errkind.Of(err) != errkind.Precondition || client.Hint(err) == "" {
		t.Error(err)
	}
}

// A machine whose installed system loses its connection for good reports nevertheless.
func TestTheWaitAfterTheRebootIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		e := &ending{run: &Run{options: Options{RebootTime: RebootTime}, reports: make(chan report)}, rebootBegun: make(chan struct{}), stop: stop}
		go e.wait(ctx)
		time.Sleep(10 * RebootTime) // the installation may take long
		if synctest.Wait(); ctx.Err() != nil {
			t.Error("the time of the installation counts")
		}
		close(e.rebootBegun)
		began := time.Now()
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), errSilent) || time.Since(began) != RebootTime {
			t.Errorf("%v after %s", context.Cause(ctx), time.Since(began))
		}
	})
}
