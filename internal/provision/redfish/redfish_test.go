package redfish

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// controller is a small Redfish service with one machine, in the form of DMTF's mockups.
type controller struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	power    string
	slowOff  int    // answers after ForceOff that still say PoweringOff
	polled   func() // called for each of these
	inserted string
	boot     map[string]string
	did      []string
	answers  map[string]string // in place of the resource, by path
	statuses map[string]int    // by method and path
}

func newController(t *testing.T) *controller {
	t.Helper()
	c := &controller{t: t, power: "On", slowOff: 2, answers: map[string]string{}, statuses: map[string]int{}}
	c.Server = httptest.NewTLSServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if user, password, ok := r.BasicAuth(); !ok || user != "admin" || password != "secret" {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	if status := c.statuses[r.Method+" "+r.URL.Path]; status != 0 {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error":{"message":"general","@Message.ExtendedInfo":[{"Message":"The image cannot be fetched."}]}}`)
		return
	}
	if r.Method == http.MethodGet {
		text, ok := c.resource(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, text)
		return
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	w.WriteHeader(c.act(r, body))
}

func (c *controller) resource(path string) (string, bool) {
	if text, ok := c.answers[path]; ok {
		return text, true
	}
	power := c.power
	if c.power == "Off" && c.slowOff > 0 {
		c.slowOff--
		if c.polled != nil {
			c.polled()
		}
		power = "PoweringOff"
	}
	text, ok := map[string]string{
		"/redfish/v1/":        `{"Systems":{"@odata.id":"/redfish/v1/Systems"}}`,
		"/redfish/v1/Systems": `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`,
		"/redfish/v1/Systems/1": fmt.Sprintf(`{"Id":"1","PowerState":%q,"Links":{"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/bmc"}]},
			"Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/1/Actions/Reset"}}}`, power),
		"/redfish/v1/Managers/bmc":        `{"VirtualMedia":{"@odata.id":"/redfish/v1/Managers/bmc/VM"}}`,
		"/redfish/v1/Managers/bmc/VM":     `{"Members":[{"@odata.id":"/redfish/v1/Managers/bmc/VM/usb"},{"@odata.id":"/redfish/v1/Managers/bmc/VM/cd"}]}`,
		"/redfish/v1/Managers/bmc/VM/usb": `{"MediaTypes":["USBStick"],"Actions":{"#VirtualMedia.InsertMedia":{"target":"/usb"}}}`,
		"/redfish/v1/Managers/bmc/VM/cd": fmt.Sprintf(`{"MediaTypes":["CD","DVD"],"Inserted":%t,"Actions":{
			"#VirtualMedia.InsertMedia":{"target":"/cd/insert"},"#VirtualMedia.EjectMedia":{"target":"/cd/eject"}}}`, c.inserted != ""),
	}[path]
	return text, ok
}

// act makes a change; one that a controller would refuse has another status than 204.
func (c *controller) act(r *http.Request, body map[string]any) int {
	what := r.Method + " " + r.URL.Path
	switch what {
	case "POST /redfish/v1/Systems/1/Actions/Reset":
		kind, _ := body["ResetType"].(string)
		c.power = map[string]string{"ForceOff": "Off", "On": "On"}[kind]
		what = kind
	case "POST /cd/insert":
		if c.inserted != "" || c.power != "Off" {
			return http.StatusConflict
		}
		c.inserted, _ = body["Image"].(string)
		what = "insert"
	case "POST /cd/eject":
		c.inserted, what = "", "eject"
	case "PATCH /redfish/v1/Systems/1":
		if r.Header.Get("If-Match") != `"1"` {
			return http.StatusPreconditionFailed
		}
		boot, _ := body["Boot"].(map[string]any)
		c.boot = map[string]string{}
		for k, v := range boot {
			c.boot[k], _ = v.(string)
		}
		what = "boot once"
	default:
		return http.StatusNotFound
	}
	c.did = append(c.did, what)
	return http.StatusNoContent
}

func (c *controller) options() Options {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	return Options{URL: c.URL, User: "admin", Password: "secret", CA: ca}
}

func (c *controller) client(change func(*Options)) *Client {
	c.t.Helper()
	o := c.options()
	if change != nil {
		change(&o)
	}
	out, err := New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	out.pause = time.Millisecond
	return out
}

const iso = "http://192.0.2.1:8000/x/live.iso"

func TestAMachineIsBootedOnceFromTheVirtualCD(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		power, inserted string
		want            string
	}{
		"on":            {"On", "", "ForceOff insert boot once On"},
		"off":           {"Off", "", "insert boot once On"},
		"another image": {"On", "http://old", "ForceOff eject insert boot once On"},
	} {
		bmc := newController(t)
		bmc.power, bmc.inserted = c.power, c.inserted
		if c.power == "Off" {
			bmc.slowOff = 0
		}
		r := bmc.client(nil)
		if err := r.Check(t.Context()); err != nil || len(bmc.did) != 0 {
			t.Errorf("%s: the check: %v, %v", name, err, bmc.did)
		}
		if err := r.Boot(t.Context(), iso); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(bmc.did, " "); got != c.want || bmc.inserted != iso || bmc.power != "On" {
			t.Errorf("%s: %s; the CD has %q, the power is %s", name, got, bmc.inserted, bmc.power)
		}
		if bmc.boot["BootSourceOverrideEnabled"] != "Once" || bmc.boot["BootSourceOverrideTarget"] != "Cd" || bmc.boot["BootSourceOverrideMode"] != "UEFI" {
			t.Errorf("%s: %v", name, bmc.boot)
		}
		if err := errors.Join(r.Eject(t.Context()), r.Eject(t.Context())); err != nil || bmc.inserted != "" {
			t.Errorf("%s: eject: %v, %q", name, err, bmc.inserted)
		}
	}
}

// Newer services have the media below the system, and several systems.
func TestASystemOfSeveralIsChosen(t *testing.T) {
	t.Parallel()
	bmc := newController(t)
	bmc.answers["/redfish/v1/Systems"] = `{"Members":[{"@odata.id":"/redfish/v1/Systems/other"},{"@odata.id":"/redfish/v1/Systems/1"}]}`
	bmc.answers["/redfish/v1/Systems/other"] = `{"Id":"other"}`
	err := bmc.client(nil).Check(t.Context())
	if errkind.Of(err) != errkind.NotFound || !strings.Contains(errkind.Hint(err), "other, 1") {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
	if err := bmc.client(func(o *Options) { o.System = "1" }).Check(t.Context()); err != nil {
		t.Error(err)
	}
	bmc.answers["/redfish/v1/Systems/other"] = `{"Id":"other","VirtualMedia":{"@odata.id":"/redfish/v1/Managers/bmc/VM"}}`
	if err := bmc.client(func(o *Options) { o.System = "other" }).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFaultsOfAServiceAreNamed(t *testing.T) {
	t.Parallel()
	const vm = "/redfish/v1/Managers/bmc/VM"
	for name, c := range map[string]struct {
		options func(*Options)
		service func(*controller)
		kind    errkind.Kind
		want    string
	}{
		"password":      {options: func(o *Options) { o.Password = "wrong" }, kind: errkind.Denied, want: "401"},
		"authority":     {options: func(o *Options) { o.CA = nil }, kind: errkind.TLS, want: "certificate"},
		"no CD":         {service: func(c *controller) { c.answers[vm] = `{"Members":[]}` }, kind: errkind.Unsupported, want: "no virtual CD"},
		"no system":     {service: func(c *controller) { c.answers["/redfish/v1/Systems"] = `{}` }, kind: errkind.NotFound, want: "0 systems"},
		"another host":  {service: func(c *controller) { c.answers[vm] = `{"Members":[{"@odata.id":"https://elsewhere.example/x"}]}` }, kind: errkind.Incompatible, want: "not a path on it"},
		"no reference":  {service: func(c *controller) { c.answers["/redfish/v1/"] = `{}` }, kind: errkind.Incompatible, want: "not a path on it"},
		"not JSON":      {service: func(c *controller) { c.answers["/redfish/v1/"] = `<html>` }, kind: errkind.Incompatible, want: "not a resource of Redfish"},
		"endless":       {service: func(c *controller) { c.answers["/redfish/v1/"] = strings.Repeat(" ", maxAnswer+1) }, kind: errkind.TooLarge, want: "more than"},
		"missing":       {service: func(c *controller) { c.statuses["GET "+vm+"/cd"] = 404 }, kind: errkind.Unavailable, want: "404"},
		"no manager":    {service: func(c *controller) { c.statuses["GET /redfish/v1/Managers/bmc"] = 404 }, kind: errkind.Unavailable, want: "404"},
		"redirect":      {service: func(c *controller) { c.statuses["GET /redfish/v1/"] = 307 }, kind: errkind.Unavailable, want: "307"},
		"image refused": {service: func(c *controller) { c.statuses["POST /cd/insert"] = 400 }, kind: errkind.Unavailable, want: "insert the live image: POST /cd/insert: the service answers \"400 Bad Request\": The image cannot be fetched."},
		"eject refused": {service: func(c *controller) { c.statuses["POST /cd/eject"], c.inserted = 400, "x" }, kind: errkind.Unavailable, want: "eject the previous medium"},
		"boot refused":  {service: func(c *controller) { c.statuses["PATCH /redfish/v1/Systems/1"] = 400 }, kind: errkind.Unavailable, want: "set the boot source"},
		"power refused": {service: func(c *controller) { c.statuses["POST /redfish/v1/Systems/1/Actions/Reset"] = 400 }, kind: errkind.Unavailable, want: "turn the machine off"},
		"gone":          {service: func(c *controller) { c.Close() }, kind: errkind.Unavailable, want: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmc := newController(t)
			r := bmc.client(c.options)
			if c.service != nil {
				c.service(bmc)
			}
			err := r.Boot(t.Context(), iso)
			if errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", errkind.Of(err), err)
			}
			if !strings.HasPrefix(err.Error(), "boot the machine by Redfish at 127.0.0.1:") {
				t.Error(err)
			}
		})
	}
}

func TestAMachineThatStaysOnIsGivenUp(t *testing.T) {
	t.Parallel()
	bmc := newController(t)
	bmc.slowOff = 1 << 30
	ctx, cancel := context.WithCancelCause(t.Context())
	bmc.polled = func() { cancel(errors.New("enough")) }
	if err := bmc.client(nil).Boot(ctx, iso); err == nil || !strings.Contains(err.Error(), "turn the machine off: enough") {
		t.Error(err)
	}
	gone := bmc.client(nil)
	bmc.Close()
	if err := gone.Eject(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "eject the live image at ") {
		t.Error(err)
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	ok := Options{URL: "https://bmc.example", User: "u", Password: "secret"}
	for name, change := range map[string]func(*Options){
		"no scheme": func(o *Options) { o.URL = "bmc.example" }, "file": func(o *Options) { o.URL = "file:///x" }, "user in it": func(o *Options) { o.URL = "https://u:secret@bmc.example" },
		"parameters": func(o *Options) { o.URL += "/?a=secret" }, "http": func(o *Options) { o.URL = "http://bmc.example" }, "malformed": func(o *Options) { o.URL = "https://%zz" },
		"no user": func(o *Options) { o.User = "" }, "no password": func(o *Options) { o.Password = "" }, "authority": func(o *Options) { o.CA = []byte("x") },
	} {
		o := ok
		change(&o)
		if _, err := New(o); errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, want := range map[string]string{"https://bmc.example": "bmc.example:443", "https://[2001:db8::1]:8443/": "[2001:db8::1]:8443", "http://bmc.example": "bmc.example:80"} {
		o := ok
		o.URL, o.Insecure = text, true
		c, err := New(o)
		if err != nil || c.Host() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Each byte of an answer comes from a machine that may be taken over.
func FuzzAnswer(f *testing.F) {
	f.Add(`{"error":{"message":"x"}}`, `{"Id":"1","Members":[{"@odata.id":"/a"}]}`)
	f.Add(`{"error":[]}`, `{"@odata.id":7}`)
	f.Fuzz(func(t *testing.T, failure, resource string) {
		if text := reason([]byte(failure)); text != "" && !strings.HasPrefix(text, ": ") {
			t.Errorf("%q", text)
		}
		calls := 0
		c := &Client{options: Options{User: "u", Password: "p"}, pause: time.Millisecond}
		c.base = &url.URL{Scheme: "https", Host: "bmc.example"}
		c.http = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if calls++; r.URL.Host != "bmc.example" || r.URL.Scheme != "https" {
				t.Errorf("a request goes to %s", r.URL)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(resource))}, nil
		})}
		_ = c.Check(t.Context())
		if calls > 4*maxMembers*maxMembers {
			t.Errorf("%d requests", calls)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
