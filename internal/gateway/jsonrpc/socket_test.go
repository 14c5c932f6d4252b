package jsonrpc

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/load"
)

// closed returns the status with which the gateway has closed a WebSocket.
func (c *wsConn) closed() websocket.StatusCode {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestAWebSocketIsLoggedInByItsFirstMessage(t *testing.T) {
	f := newFixture(t)
	c := f.dial()
	if got := brief(c.call(`{"jsonrpc":"2.0","method":"version","id":1}`)); got != "16 id=1" {
		t.Error(got)
	}
	// The call after the login does not overtake it.
	c.send(`{"jsonrpc":"2.0","method":"authenticate","params":{"passphrase":"correct horse"},"id":2}`)
	c.send(`{"jsonrpc":"2.0","method":"version","id":3}`)
	if got := c.read(); !strings.Contains(got, `"identity":"passphrase:admin"`) {
		t.Error(got)
	}
	if got := brief(c.read()); got != `{"version":"1.2.3"} id=3` {
		t.Error(got)
	}
}

func TestAWebSocketThatBreaksARuleIsClosed(t *testing.T) {
	f := newFixture(t)
	c := f.dial("Authorization", "Bearer t")
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got := c.closed(); got != websocket.StatusUnsupportedData {
		t.Errorf("a binary message: %v", got)
	}
	c = f.dial("Authorization", "Bearer t")
	_ = c.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte(" "), maxRequest+1))
	if got := c.closed(); got != websocket.StatusMessageTooBig {
		t.Errorf("a message that is too large: %v", got)
	}
	f.gate.loggedIn = false
	c = f.dial()
	for range maxStrange + 1 {
		c.send(`{"jsonrpc":"2.0","method":"rpc.discover"}`)
	}
	if got := c.closed(); got != websocket.StatusPolicyViolation {
		t.Errorf("many messages before the login: %v", got)
	}
	for _, header := range [][2]string{{"Origin", "https://evil.example.com"}, {"Authorization", "Bearer x"}, {"Sec-WebSocket-Version", "7"}} {
		h := http.Header{header[0]: {header[1]}}
		c, resp, err := websocket.Dial(t.Context(), f.http.URL+PathRPC, &websocket.DialOptions{HTTPHeader: h})
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		if err == nil {
			_ = c.CloseNow()
			t.Errorf("%s: a WebSocket was opened", header)
		} else if resp == nil || resp.StatusCode < 400 {
			t.Errorf("%s: %v", header, err)
		}
	}
}

func TestAReaderThatNeverReadsIsEnded(t *testing.T) {
	f := newFixture(t)
	c := f.dial("Authorization", "Bearer t")
	// Answers fill the buffers of the connection; then the gateway reads no further.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	for err == nil {
		err = c.Write(ctx, websocket.MessageText, []byte(`{"jsonrpc":"2.0","method":"rpc.discover","id":1}`))
	}
	if ctx.Err() != nil {
		t.Error("the connection is open after a minute")
	}
}

func TestAWebSocketEndsWithTheGateway(t *testing.T) {
	f := newFixture(t)
	c := f.dial("Authorization", "Bearer t")
	c.call(`{"jsonrpc":"2.0","method":"version","id":1}`)
	f.stop()
	if got := c.closed(); got != websocket.StatusGoingAway {
		t.Errorf("%v", got)
	}
}

func subscribeTo(id string, after int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications.subscribe","params":{"topic":"operation","id":%q,"afterSequence":%d},"id":"s"}`, id, after)
}

// Each event comes once and in order, although tridentd restarts twice.
func TestASubscriptionSurvivesRestartsOfTridentd(t *testing.T) {
	f := newFixture(t)
	f.daemon.restarts = 2
	c := f.dial("Authorization", "Bearer t")
	c.send(subscribeTo("op", 4))
	got := []string{c.read(), c.read(), c.read(), c.read(), c.read()}
	for i := 1; i < len(got); i++ { // the answer may come after the first event
		if strings.Contains(got[i], `"id":"s"`) {
			got[0], got[i] = got[i], got[0]
		}
	}
	if brief(got[0]) != `{"subscription":"s1"} id="s"` {
		t.Error(got[0])
	}
	for i, text := range got[1:4] {
		text = strings.ReplaceAll(text, " ", "")
		if want := fmt.Sprintf(`"sequence":"%d"`, 5+i); !strings.Contains(text, `"method":"notify.operation"`) || !strings.Contains(text, `{"subscription":"s1","event":{`) || !strings.Contains(text, want) {
			t.Errorf("%s, want %s", text, want)
		}
	}
	if want := `{"jsonrpc":"2.0","method":"notify.end","params":{"subscription":"s1"}}`; got[4] != want {
		t.Errorf("%s, want %s", got[4], want)
	}
	if fmt.Sprint(f.daemon.asked) != "[4 5 6]" {
		t.Errorf("tridentd was asked for events after %v", f.daemon.asked)
	}
	watched := 0
	for _, a := range f.gate.actions {
		if a.GRPC == watchMethod {
			watched++
		}
	}
	if watched != 1 {
		t.Errorf("the gate saw %d calls of Watch, not 1", watched)
	}
}

func TestSubscriptionsAreBoundedAndEnd(t *testing.T) {
	f := newFixture(t)
	c := f.dial("Authorization", "Bearer t")
	for text, want := range map[string]string{
		subscribeTo("none", 0): "5", `{"jsonrpc":"2.0","method":"notifications.subscribe","params":["sun"],"id":"s"}`: "-32602",
		`{"jsonrpc":"2.0","method":"notifications.subscribe","params":["operation"],"id":"s"}`:         "-32602",
		`{"jsonrpc":"2.0","method":"notifications.subscribe","params":["load","op"],"id":"s"}`:         "-32602",
		`{"jsonrpc":"2.0","method":"notifications.subscribe","params":["operation","op",-1],"id":"s"}`: "-32602",
	} {
		if got := brief(c.call(text)); got != want+` id="s"` {
			t.Errorf("%s: %s", text, got)
		}
	}
	load1 := `{"jsonrpc":"2.0","method":"notifications.subscribe","params":["load"],"id":"s"}`
	names := []string{}
	for range maxSubscriptions {
		got := brief(c.call(load1))
		names = append(names, strings.Split(got, `"`)[3])
	}
	for range 100 {
		if got := brief(c.call(load1)); got != `8 id="s"` {
			t.Fatal(got)
		}
	}
	for _, name := range names[1:] {
		if got := brief(c.call(`{"jsonrpc":"2.0","method":"notifications.unsubscribe","params":["` + name + `"],"id":1}`)); got != "{} id=1" {
			t.Error(got)
		}
	}
	if err := f.load.Add(load.Minute{Sample: load.Sample{Time: time.Now(), Load1: 0.5}}); err != nil {
		t.Fatal(err)
	}
	if got := c.read(); !strings.Contains(got, `"method":"notify.load"`) || !strings.Contains(got, `"load1":0.5`) || !strings.Contains(got, `"subscription":"`+names[0]+`"`) {
		t.Error(got)
	}
}

// BenchmarkCallsOverOneWebSocket has 16 calls under way.
func BenchmarkCallsOverOneWebSocket(b *testing.B) {
	f := newFixture(b)
	c := f.dial("Authorization", "Bearer t")
	ctx, turns := b.Context(), make(chan struct{}, 16)
	b.ResetTimer()
	go func() {
		for range b.N {
			turns <- struct{}{}
			_ = c.Write(ctx, websocket.MessageText, []byte(`{"jsonrpc":"2.0","method":"system_load.current","id":1}`))
		}
	}()
	for range b.N {
		if _, _, err := c.Read(ctx); err != nil {
			b.Fatal(err)
		}
		<-turns
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
