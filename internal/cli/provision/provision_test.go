package provision

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/provision"
	"github.com/trident-project/trident/internal/provision/provisiontest"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// screen is the standard error of a command. lines gets each whole line.
type screen struct {
	mu    sync.Mutex
	all   bytes.Buffer
	rest  string
	lines chan string
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(p)
	text := s.rest + string(p)
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			s.rest = text
			return len(p), nil
		}
		s.lines <- line
		text = rest
	}
}

// after returns the rest of the next line that has the given beginning.
func (s *screen) after(t *testing.T, beginning string) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line := <-s.lines:
			if rest, ok := strings.CutPrefix(line, beginning); ok {
				return rest
			}
		case <-deadline:
			t.Fatalf("no line begins with %q:\n%s", beginning, s.all.String())
		}
	}
}

// ended is a command that has ended.
type ended struct {
	err    error
	stdout string
}

// session is a running command.
type session struct {
	*options
	screen *screen
	end    chan ended
}

func newOptions(t *testing.T) (*options, *screen, *bytes.Buffer) {
	t.Helper()
	a, stdout, _ := commandtest.New()
	s := &screen{lines: make(chan string, 1000)}
	a.Stderr = s
	o := &options{app: a, size: "1M", memory: "256M", config: provisiontest.Write(t, "host.yaml", provisiontest.HostConfiguration)}
	o.run = provision.Options{ISO: provisiontest.LiveImage(t), Image: provisiontest.OSImage(t), Address: "127.0.0.1", Name: "m1"}
	return o, s, stdout
}

func begin(t *testing.T, ctx context.Context, change func(*options)) *session {
	t.Helper()
	o, s, stdout := newOptions(t)
	if change != nil {
		change(o)
	}
	out := &session{options: o, screen: s, end: make(chan ended, 1)}
	go func() {
		err := run(ctx, o)
		out.end <- ended{err, stdout.String()}
	}()
	return out
}

// script is an installation without a reboot, so that one boot is enough.
func script(failure *operationsv1.Failure) []*operationsv1.Event {
	phase := operationsv1.Phase_PHASE_DONE
	if failure != nil {
		phase = operationsv1.Phase_PHASE_UNDONE
	}
	return []*operationsv1.Event{clienttest.Step(0, "write", nil), clienttest.Step(phase, "settle", failure)}
}

func TestAMachineThatAPersonBootsIsProvisioned(t *testing.T) {
	t.Parallel()
	s := begin(t, t.Context(), nil)
	url := s.screen.after(t, "Boot the machine from ")
	provisiontest.Boot(t, url, s.run.ISO, clienttest.New(clienttest.Config{Script: script(nil)}))
	s.screen.after(t, "The machine has connected from 127.0.0.1")
	if got := <-s.end; got.err != nil || got.stdout != "Provisioned m1: reach it at 127.0.0.1.\n" {
		t.Errorf("%q, %v", got.stdout, got.err)
	}
	if resp, err := http.Get(url); err == nil {
		_ = resp.Body.Close()
		t.Error("the live image is still served")
	}
}

func TestTheResultIsPrintedForPrograms(t *testing.T) {
	t.Parallel()
	s := begin(t, t.Context(), func(o *options) { o.app.Output = "json" })
	provisiontest.Boot(t, s.screen.after(t, "Boot the machine from "), s.run.ISO, clienttest.New(clienttest.Config{Script: script(nil)}))
	want := "{\n  \"name\": \"m1\",\n  \"address\": \"127.0.0.1\",\n  \"connected\": true\n}\n"
	if got := <-s.end; got.err != nil || got.stdout != want {
		t.Errorf("%q, %v", got.stdout, got.err)
	}
}

func TestAFailureOfTridentIsToldFromOthers(t *testing.T) {
	t.Parallel()
	s := begin(t, t.Context(), nil)
	failure := &operationsv1.Failure{Reason: "CORRUPT", Message: "write: the image is corrupt"}
	provisiontest.Boot(t, s.screen.after(t, "Boot the machine from "), s.run.ISO, clienttest.New(clienttest.Config{Script: script(failure)}))
	got := <-s.end
	if _, ok := errors.AsType[command.UpstreamError](got.err); !ok || !strings.Contains(got.err.Error(), "the image is corrupt") {
		t.Errorf("%v", got.err)
	}
	s = begin(t, t.Context(), func(o *options) { o.run.CallTime = time.Millisecond })
	got = <-s.end
	if _, ok := errors.AsType[command.SetupError](got.err); !ok || !strings.Contains(got.err.Error(), "none has connected") {
		t.Errorf("%v", got.err)
	}
}

func TestAnInterruptEndsTheCommand(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancelCause(t.Context())
	s := begin(t, ctx, nil)
	s.screen.after(t, "Waiting for m1")
	interrupt(command.ErrInterrupted)
	if got := <-s.end; !errors.Is(got.err, command.ErrInterrupted) {
		t.Errorf("%v", got.err)
	}
}

func TestFaultsAreFoundBeforeTheMachineBoots(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*options)
		want   string
	}{
		"no configuration":  {func(o *options) { o.config = "/missing" }, "read Host Configuration: open /missing"},
		"bad configuration": {func(o *options) { o.config = provisiontest.Write(t, "x.yaml", "storage: 7\n") }, "read Host Configuration: "},
		"no live image":     {func(o *options) { o.run.ISO = "/missing" }, "open the live image"},
		"size":              {func(o *options) { o.disk, o.size = "d", "many" }, "--qemu-size: "},
		"memory":            {func(o *options) { o.disk, o.memory = "d", "many" }, "--qemu-memory: "},
		"no password":       {func(o *options) { o.redfish = redfishOptions{url: "https://x", user: "u", passwordFile: "/missing"} }, "read --password-file: "},
		"no authority": {func(o *options) {
			o.redfish = redfishOptions{url: "https://x", user: "u", passwordFile: provisiontest.Write(t, "p", "secret\n"), ca: "/missing"}
		}, "read --redfish-ca: "},
		"URL": {func(o *options) {
			o.redfish = redfishOptions{url: "x", user: "u", passwordFile: provisiontest.Write(t, "p", "secret\n")}
		}, "the URL of the Redfish service"},
		"route": {func(o *options) {
			o.redfish = redfishOptions{url: "https://x.invalid", user: "u", passwordFile: provisiontest.Write(t, "p", "secret\n")}
			o.run.Address = ""
		}, "find the address of this host"},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, t.Context(), c.change)
			got := <-s.end
			if _, ok := errors.AsType[command.SetupError](got.err); !ok || !strings.Contains(got.err.Error(), c.want) {
				t.Errorf("%v", got.err)
			}
			if text := s.screen.all.String(); strings.Contains(text, "Waiting") {
				t.Error(text)
			}
		})
	}
}

// vm is a virtual machine that boots its CD.
type vm struct {
	t      *testing.T
	create error
	run    func(ctx context.Context, iso []byte) error
	ended  bool
}

func (v *vm) Create() error { return v.create }
func (v *vm) Log() string   { return "vm.log" }

func (v *vm) Run(ctx context.Context, iso io.Reader, size int64) error {
	defer func() { v.ended = true }()
	content, err := io.ReadAll(iso)
	if err != nil || int64(len(content)) != size {
		v.t.Errorf("%d bytes, %v", len(content), err)
	}
	return v.run(ctx, content)
}

func TestAVirtualMachineEndsWithTheCommand(t *testing.T) {
	t.Parallel()
	failure := errkind.Errorf(errkind.Unavailable, "it has powered off")
	for name, c := range map[string]struct {
		machine vm
		want    string
	}{
		"interrupt":  {vm{run: func(ctx context.Context, _ []byte) error { <-ctx.Done(); return nil }}, "interrupted"},
		"ends early": {vm{run: func(context.Context, []byte) error { return failure }}, "it has powered off"},
		"no disk":    {vm{create: errors.New("it exists"), run: func(context.Context, []byte) error { return nil }}, "it exists"},
	} {
		o, s, _ := newOptions(t)
		c.machine.t = t
		v := &virtual{machine: &c.machine}
		ctx, interrupt := context.WithCancelCause(t.Context())
		end := make(chan error, 1)
		go func() { end <- provisionWith(ctx, o, v) }()
		if name == "interrupt" {
			if line := s.after(t, "Waiting for m1 to connect to "); !strings.HasPrefix(line, "10.0.2.2:") {
				t.Error(line)
			}
			interrupt(command.ErrInterrupted)
		}
		err := <-end
		interrupt(nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.machine.ended != (c.machine.create == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The controller fetches the live image, as a machine would do from its virtual CD.
func TestAMachineWithAControllerIsProvisioned(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var did []string
	inserted := make(chan string, 1)
	hasImage := false
	bmc := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if user, password, _ := r.BasicAuth(); user != "admin" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet {
			inside := "false"
			if hasImage {
				inside = "true"
			}
			_, _ = io.WriteString(w, map[string]string{
				"/redfish/v1/": `{"Systems":{"@odata.id":"/s"}}`, "/s": `{"Members":[{"@odata.id":"/s/1"}]}`, "/v": `{"Members":[{"@odata.id":"/v/cd"}]}`,
				"/s/1":  `{"Id":"1","PowerState":"Off","VirtualMedia":{"@odata.id":"/v"},"Actions":{"#ComputerSystem.Reset":{"target":"/reset"}}}`,
				"/v/cd": `{"MediaTypes":["CD"],"Inserted":` + inside + `,"Actions":{"#VirtualMedia.InsertMedia":{"target":"/insert"},"#VirtualMedia.EjectMedia":{"target":"/eject"}}}`,
			}[r.URL.Path])
			return
		}
		did = append(did, r.URL.Path)
		switch r.URL.Path {
		case "/insert":
			body, _ := io.ReadAll(r.Body)
			_, rest, _ := strings.Cut(string(body), `"Image":"`)
			url, _, _ := strings.Cut(rest, `"`)
			hasImage = true
			inserted <- url
		case "/eject":
			hasImage = false
		}
	}))
	t.Cleanup(bmc.Close)
	s := begin(t, t.Context(), func(o *options) {
		o.run.Address = "" // that towards the controller
		o.redfish = redfishOptions{url: bmc.URL, user: "admin", passwordFile: provisiontest.Write(t, "password", "secret\n"), insecure: true}
	})
	select {
	case url := <-inserted:
		provisiontest.Boot(t, url, s.run.ISO, clienttest.New(clienttest.Config{Script: script(nil)}))
	case got := <-s.end:
		t.Fatal(got.err)
	}
	if got := <-s.end; got.err != nil || got.stdout != "Provisioned m1: reach it at 127.0.0.1.\n" {
		t.Errorf("%q, %v", got.stdout, got.err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(did, " "); got != "/insert /s/1 /reset /eject" {
		t.Errorf("the controller was told %s", got)
	}
}

func TestFlagsBecomeOptions(t *testing.T) {
	got, err := commandtest.Parse(t, newCommand, "h.yaml", "--iso", "l.iso", "--image", "i", "--name", "n", "--port", "1", "--http-port", "2", "--with-agent",
		"--call-time", "3m", "--reboot-time", "4m", "--qemu", "d", "--qemu-size", "5G", "--qemu-memory", "6G")
	commandtest.Want(t, &options{
		config: "h.yaml", disk: "d", size: "5G", memory: "6G",
		run: provision.Options{ISO: "l.iso", Image: "i", Name: "n", Port: 1, HTTPPort: 2, WithAgent: true, CallTime: 3 * time.Minute, RebootTime: 4 * time.Minute},
	}, got, err)
	got, err = commandtest.Parse(t, newCommand, "h.yaml", "--iso", "l.iso", "--address", "a", "--redfish", "r", "--user", "u", "--password-file", "p", "--redfish-system", "s", "--redfish-insecure")
	commandtest.Want(t, &options{
		config: "h.yaml", size: "16G", memory: "4G", redfish: redfishOptions{url: "r", user: "u", passwordFile: "p", system: "s", insecure: true},
		run: provision.Options{ISO: "l.iso", Address: "a", CallTime: provision.CallTime, RebootTime: provision.RebootTime},
	}, got, err)
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for name, args := range map[string][]string{
		"no live image": {"h.yaml"}, "no configuration": {"--iso", "l"}, "two": {"a", "b", "--iso", "l"}, "two machines": {"a", "--iso", "l", "--qemu", "d", "--redfish", "r", "--user", "u", "--password-file", "p"},
		"no password": {"a", "--iso", "l", "--redfish", "r", "--user", "u"}, "two trusts": {"a", "--iso", "l", "--redfish", "r", "--user", "u", "--password-file", "p", "--redfish-ca", "c", "--redfish-insecure"},
		"address": {"a", "--iso", "l", "--qemu", "d", "--address", "x"},
	} {
		if got, err := commandtest.Parse(t, newCommand, args...); err == nil || got != nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestTheRealVirtualMachineIsMadeByItsFlags(t *testing.T) {
	o, _, _ := newOptions(t)
	o.disk = filepath.Join(t.TempDir(), "d")
	made, err := o.starter()
	if v, ok := made.(*virtual); err != nil || !ok || v.machine.Log() != o.disk+".log" {
		t.Errorf("%v, %v", made, err)
	}
	if _, err := os.Stat(o.disk); err == nil {
		t.Error("the disk is made too early")
	}
}
