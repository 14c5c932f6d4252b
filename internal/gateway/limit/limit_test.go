package limit_test

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/limit"
)

func TestCallsAndStreamsOfAnIdentity(t *testing.T) {
	c := limit.NewCallers(limit.Bounds{CallsPerSecond: 2, Streams: 3, Connections: 1})
	now := time.Unix(1000, 0)
	var ends []func()
	for range 3 {
		end, err := c.Begin("dns:a", now)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	if _, err := c.Begin("dns:a", now); errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "3 running calls") {
		t.Error(err)
	}
	ends[0]()
	ends[0]() // counts once
	if _, err := c.Begin("dns:a", now); err != nil {
		t.Error(err)
	}
	ends[1]()
	if _, err := c.Begin("dns:a", now); errkind.Of(err) != errkind.Unavailable {
		t.Error(err)
	}
	if _, err := c.Begin("dns:b", now); err != nil {
		t.Errorf("another identity: %v", err)
	}
	if _, err := c.Begin("dns:a", now.Add(500*time.Millisecond)); err != nil {
		t.Errorf("half a second later: %v", err)
	}
	c.SetBounds(limit.Bounds{CallsPerSecond: 2, Streams: 10, Connections: 1})
	if _, err := c.Begin("dns:a", now.Add(time.Hour)); err != nil {
		t.Errorf("with other bounds: %v", err)
	}
}

func TestConnectionsOfAnIdentity(t *testing.T) {
	c := limit.NewCallers(limit.Bounds{Connections: 1})
	end, err := c.Connect("dns:a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Connect("dns:a"); errkind.Of(err) != errkind.TooLarge {
		t.Error(err)
	}
	end()
	if _, err := c.Connect("dns:a"); err != nil {
		t.Error(err)
	}
	for i := range 5000 { // none of these is remembered for good
		end, err := c.Connect("dns:other" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		end()
	}
	if _, err := c.Connect("dns:a"); err == nil {
		t.Error("an open connection was forgotten")
	}
}

func TestBytesOfAnIdentityWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limit.NewCallers(limit.Bounds{BytesPerSecond: 1000})
		begin := time.Now()
		for range 5 {
			if err := c.Pass(t.Context(), "dns:a", 1000, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begin); d != 4*time.Second {
			t.Errorf("5,000 bytes took %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Pass(ctx, "dns:a", 1<<20, time.Now()); err == nil {
			t.Error("a caller who goes away waits")
		}
		unbound := limit.NewCallers(limit.Bounds{})
		if err := unbound.Pass(t.Context(), "dns:a", 1<<40, time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestFailedLoginsOfASourceWaitLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.NewLogins(5)
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		took := func(source netip.Addr) time.Duration {
			begin := time.Now()
			if !l.Failed(t.Context(), source, time.Now()) {
				t.Error("refused")
			}
			return time.Since(begin)
		}
		var all []time.Duration
		for range 40 {
			all = append(all, took(a))
		}
		if all[4] != 0 || all[5] == 0 || all[39] <= all[6] || all[39] > 3*time.Second {
			t.Errorf("delays %v", all)
		}
		if d := took(b); d != 0 {
			t.Errorf("another source waits %s", d)
		}
		for range 10 {
			took(b)
		}
		if d := took(netip.MustParseAddr("2001:db8::2")); d == 0 {
			t.Error("another address of the same /64 does not wait")
		}
		time.Sleep(10 * time.Minute) // of the test's clock
		if d := took(a); d != 0 {
			t.Errorf("after 10 minutes: %s", d)
		}
	})
}

func TestSlowedLoginsAreBoundedInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.NewLogins(1)
		results := make(chan bool, 100)
		for i := range 100 {
			source := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			l.Failed(t.Context(), source, time.Now())
			go func() { results <- l.Failed(t.Context(), source, time.Now()) }()
		}
		refused := 0
		for range 100 {
			if !<-results {
				refused++
			}
		}
		if refused != 36 {
			t.Errorf("%d of 100 were refused, want 36", refused)
		}
	})
}

func TestSource(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:0:1:2::3": "2001:db8:0:1::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := limit.Source(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	if got := limit.Source(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: %s", got)
	}
}
