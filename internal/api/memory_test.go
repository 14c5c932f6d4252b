package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

func rawFrame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

func TestFramesAreFoundHoweverTheyArrive(t *testing.T) {
	var all []byte
	all = append(all, rawFrame(frameHeaders, 4, 1, make([]byte, 20))...)
	all = append(all, rawFrame(frameData, 0, 1, nil)...)
	all = append(all, rawFrame(frameData, 1, 1<<31|3, make([]byte, 300))...)
	want := []frameHeader{{20, frameHeaders, 4, 1}, {0, frameData, 0, 1}, {300, frameData, 1, 3}}
	for _, step := range []int{1, 2, 9, 10, 29, len(all)} {
		var f frames
		var got []frameHeader
		for rest := all; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			f.feed(rest[:min(step, len(rest))], func(h frameHeader) { got = append(got, h) })
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(frameHeader{})); diff != "" || !f.isAtFrameEnd() {
			t.Errorf("in steps of %d: %s", step, diff)
		}
	}
}

// traffic is what passes over one connection.
type traffic struct {
	*account
	ended string
}

func newTraffic(m *memory) *traffic {
	t := &traffic{}
	t.account = m.open(func(why string) { t.ended = why })
	t.received(make([]byte, clientPreface))
	return t
}

func (t *traffic) open(stream uint32) { t.received(rawFrame(frameHeaders, 4, stream, nil)) }
func (t *traffic) data(stream uint32, n int) {
	t.received(rawFrame(frameData, 0, stream, make([]byte, n)))
}
func (t *traffic) answered(stream uint32) {
	t.sent(rawFrame(frameHeaders, flagEndStream, stream, nil))
}

func TestHeldBytesAreCounted(t *testing.T) {
	m := newMemory(10 << 20)
	c := newTraffic(m)
	step := func(name string, want int64, do func()) {
		t.Helper()
		if do(); m.total != want || c.held != want {
			t.Errorf("%s: %d bytes, want %d", name, m.total, want)
		}
	}
	step("data of no stream", 0, func() { c.data(1, 100) })
	step("a message that is not complete", 300, func() { c.open(1); c.data(1, 100); c.data(1, 200) })
	step("another stream", 350, func() { c.open(3); c.data(3, 50) })
	step("the first is answered", 50, func() { c.answered(1) })
	step("data after the answer", 50, func() { c.data(1, 100) })
	step("the second is given up", 0, func() { c.received(rawFrame(frameReset, 0, 3, make([]byte, 4))) })
	step("an upload counts with what can wait of it", maxMessage+window, func() {
		c.open(5)
		for range 200 {
			c.data(5, 16<<10)
		}
	})
	step("an answer", maxMessage+window+1000, func() { c.willSend(1000) })
	step("half of it is sent", maxMessage+window+500, func() { c.sent(rawFrame(frameData, 0, 5, make([]byte, 500))) })
	step("the caller gives it up", 0, func() { c.received(rawFrame(frameReset, 0, 5, make([]byte, 4))) })
	step("the connection ends", 0, func() { c.open(7); c.data(7, 9); c.close(); c.close() })
}

func TestTheConnectionThatHoldsMostIsEnded(t *testing.T) {
	m := newMemory(1000)
	small, large := newTraffic(m), newTraffic(m)
	large.open(1)
	large.data(1, 900)
	small.open(1)
	small.data(1, 101)
	if !strings.Contains(large.ended, "900 bytes") || small.ended != "" || m.total != 101 {
		t.Errorf("ended %q and %q, %d bytes", large.ended, small.ended, m.total)
	}
	large.data(1, 900) // what was on its way
	if m.total != 101 || m.peak > 1001 {
		t.Errorf("%d bytes, at most %d", m.total, m.peak)
	}
}

func field(name, value string) []byte {
	return append(append(append([]byte{0, byte(len(name))}, name...), byte(len(value))), value...)
}

func headersOf(method string) []byte {
	var b []byte
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		b = append(b, field(f[0], f[1])...)
	}
	return b
}

// answerPings reads frames until the connection ends, and returns why it ended. It answers
// pings, as the daemon ends a connection whose pings have no answer.
func answerPings(conn net.Conn) error {
	const ping, ack = 6, 1
	for head := make([]byte, 9); ; {
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			return err
		}
		if head[3] == ping && head[4]&ack == 0 {
			_, _ = conn.Write(rawFrame(ping, ack, 0, payload))
		}
	}
}

// A caller that asks and never reads costs little. The log says why it is cut off;
// the caller hears the reason, too, unless a write to it is under way just then.
func TestAnswersThatNobodyReadsAreBounded(t *testing.T) {
	f := newFixture(t)
	f.record(t, hoststate.Status{Phase: hoststate.Settled{}, Spec: "os:\n  additionalFiles:\n  - destination: /x\n    content: " + strings.Repeat("x", 900<<10) + "\n"})
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), rawFrame(4, 0, 0, nil)...)
	for i := range uint32(maxStreams) {
		b = append(b, rawFrame(frameHeaders, 4, 2*i+1, headersOf(tridentv1preview.StatusService_GetProvisionedConfig_FullMethodName))...)
		b = append(b, rawFrame(frameData, flagEndStream, 2*i+1, make([]byte, 5))...)
	}
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(4 * time.Minute))
	ended := make(chan error, 1)
	go func() { ended <- answerPings(conn) }() // no window is ever opened
	f.log.wait(t, "all connections may hold")  // why the daemon ends the connection
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the daemon did not end the connection")
	}
	m := f.listener.memory
	if held := m.now(); held > 1<<20 {
		t.Errorf("%d bytes are held after the end of the connection", held)
	}
	if most := m.atMost(); most < 8<<20 || most > maxMemory+2<<20 {
		t.Errorf("at most %d bytes", most)
	}
}

// now is what all connections hold.
func (m *memory) now() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// atMost is the most that all connections have held so far.
func (m *memory) atMost() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peak
}

// A watcher that never reads is sent a window and a quota of gRPC's; the rest
// stays in the journal.
func TestAWatcherThatNeverReadsIsWaitedFor(t *testing.T) {
	f := newFixtureIn(t, operationtest.NewMemory(), "boot 1")
	const lines = 1000
	talk := operation.Register(f.runner, operation.Kind[struct{}]{Name: "talk", Steps: []operation.Step[struct{}]{{
		Name: "talk", Do: func(_ context.Context, r *operation.Run[struct{}]) error {
			for range lines {
				r.Logf(slog.LevelInfo, "%s", strings.Repeat("x", 1000))
			}
			return nil
		},
	}}})
	f.resume(t)
	op, err := talk(t.Context(), "talk a lot", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range f.runner.Watch(t.Context(), op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		op.Sequence = e.Sequence
	}
	if op.Sequence < lines {
		t.Fatalf("%d events", op.Sequence)
	}
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := append([]byte{0, 0, 0, 0, byte(2 + len(op.ID)), 10, byte(len(op.ID))}, op.ID...)
	b := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), rawFrame(4, 0, 0, nil)...)
	for i := range uint32(maxStreams) {
		b = append(b, rawFrame(frameHeaders, 4, 2*i+1, headersOf(operationsv1.OperationsService_Watch_FullMethodName))...)
		b = append(b, rawFrame(frameData, flagEndStream, 2*i+1, request)...)
	}
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	m := f.listener.memory
	// Every watcher fills its quota of 64 KiB, and then waits.
	for end := time.Now().Add(time.Minute); m.now() < maxStreams*60<<10; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are held", m.now())
		}
	}
	if most := m.atMost(); most > maxStreams*(64+8)<<10 {
		t.Errorf("at most %d bytes", most)
	}
}
