package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
	"github.com/trident-project/trident/proto/client"
)

// The fleet of the tests and the figures that it has to keep.
const (
	fleetSize     = 500
	fleetBack     = 30 * time.Second
	mostPerSecond = 300
)

// attempts are the times at which agents tried to connect.
type attempts struct {
	mu sync.Mutex
	at []time.Time
}

func (a *attempts) add() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

// busiest returns the number of attempts since a time, and the largest number in a second.
func (a *attempts) busiest(since time.Time) (all, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.DeleteFunc(slices.Clone(a.at), func(t time.Time) bool { return t.Before(since) })
	slices.SortFunc(at, time.Time.Compare)
	for first, last := 0, 0; last < len(at); last++ {
		for at[last].Sub(at[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return len(at), most
}

// door is a listener in memory that accepts while it is open.
type door struct {
	attempts
	mu     sync.Mutex
	isOpen bool
	conns  []net.Conn
}

type pipeEnd struct{ net.Conn }

func (p pipeEnd) CloseWrite() error { return p.Close() }

func (d *door) connect(context.Context) (halfConn, error) {
	d.add()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isOpen {
		return nil, syscall.ECONNREFUSED
	}
	ours, theirs := net.Pipe()
	d.conns = append(d.conns, theirs)
	return pipeEnd{ours}, nil
}

// set opens or closes the door. Closed, it ends all connections.
func (d *door) set(open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.isOpen = open
	if !open {
		for _, c := range d.conns {
			_ = c.Close()
		}
		d.conns = nil
	}
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

// When a listener restarts, all hosts are back within 30 s, and their attempts are spread,
// whether it had used their connections or not, and if it restarts again 4 s later.
func TestAFleetReturnsToAListenerThatRestarts(t *testing.T) {
	t.Parallel()
	for _, down := range []time.Duration{0, time.Second, 3 * time.Second, 20 * time.Second} {
		for _, end := range []end{unusedEnd, listenerEnd} {
			synctest.Test(t, func(t *testing.T) { fleetReturns(t, down, end, false) })
		}
	}
	for _, end := range []end{unusedEnd, listenerEnd} {
		synctest.Test(t, func(t *testing.T) { fleetReturns(t, 0, end, true) })
	}
}

// fleetReturns has a listener end the connections of a fleet and come back after a time. With
// again, it does so once more, and uses no connection between.
func fleetReturns(t *testing.T, down time.Duration, by end, again bool) {
	d := &door{isOpen: true}
	var first atomic.Bool // the connections that it ends now are those of the beginning
	first.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	var agents sync.WaitGroup
	for range fleetSize {
		a := newAgent(Config{Socket: "/nowhere", MinPause: minPause, MaxPause: maxPause}, slog.New(slog.DiscardHandler))
		a.connect = d.connect
		a.relay = func(ctx context.Context, conn halfConn) (end, error) {
			got, err := relay(ctx, conn, "/nowhere") // which no byte reaches
			if got == unusedEnd && first.Load() {
				got = by
			}
			return got, err
		}
		agents.Go(func() { a.run(ctx) })
	}
	time.Sleep(time.Minute)
	if n := d.count(); n != fleetSize {
		t.Errorf("%d hosts are connected at first", n)
	}
	ended := time.Now()
	d.set(false)
	time.Sleep(down)
	d.set(true)
	if again {
		time.Sleep(4 * time.Second)
		first.Store(false)
		d.set(false)
		d.set(true)
	}
	began := time.Now()
	for d.count() < fleetSize && time.Since(began) < 10*time.Minute {
		time.Sleep(100 * time.Millisecond)
	}
	all, most := d.busiest(ended)
	t.Logf("ended by %s, down for %s, again %v: %d hosts are back after %s; %d attempts, at most %d in a second", by, down, again, fleetSize, time.Since(began), all, most)
	if took := time.Since(began); took > fleetBack {
		t.Errorf("the hosts are back after %s", took)
	}
	if most > mostPerSecond {
		t.Errorf("%d attempts in a second", most)
	}
	cancel()
	agents.Wait()
}

// The same over TCP and TLS, with the listener of the SDK.
func BenchmarkAFleetReturns(b *testing.B) {
	ca := connecttest.NewAuthority(b)
	settings := &tls.Config{Certificates: []tls.Certificate{ca.Issue(ServerName).TLS}, ClientCAs: ca.Pool}
	var connections atomic.Int64 // one certificate serves all hosts: each connection counts as one
	listen := func(address string) *client.Listener {
		l, err := client.Listen(address, settings, client.WithIdentity(func(*x509.Certificate) string {
			return strconv.FormatInt(connections.Add(1), 10)
		}))
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	await := func(l *client.Listener) {
		for len(l.Hosts()) < fleetSize {
			time.Sleep(10 * time.Millisecond)
		}
	}
	l := listen("127.0.0.1:0")
	address := l.Addr().String()
	ctx, cancel := context.WithCancel(b.Context())
	var agents sync.WaitGroup
	var tries attempts
	host := ca.Issue("host")
	for range fleetSize {
		a := newAgent(Config{
			ClientAddress: address, Socket: "/nowhere", Proxy: "none", MinPause: minPause, MaxPause: maxPause,
			TLS: Identity{Certificate: host.Certificate, Key: host.Key, CA: ca.PEM, ServerName: ServerName},
		}, slog.New(slog.DiscardHandler))
		a.connect = func(ctx context.Context) (halfConn, error) {
			tries.add()
			return a.dial(ctx)
		}
		agents.Go(func() { a.run(ctx) })
	}
	await(l)
	time.Sleep(livedTime)
	for b.Loop() {
		ended := time.Now()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		l = listen(address)
		await(l)
		all, most := tries.busiest(ended)
		b.ReportMetric(time.Since(ended).Seconds(), "s/return")
		b.ReportMetric(float64(all), "attempts")
		b.ReportMetric(float64(most), "most/s")
	}
	cancel()
	agents.Wait()
	_ = l.Close()
}
