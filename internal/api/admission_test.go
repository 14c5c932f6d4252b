package api

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// visitors are connections that nobody has behind them.
type visitors struct {
	*roster
	clock time.Time
}

func newVisitors() *visitors {
	v := &visitors{roster: newRoster(), clock: time.Now()}
	v.now = func() time.Time { return v.clock }
	return v
}

func (v *visitors) come(p peerInfo) (c, leaves *conn, err error) {
	session, _ := newSession()
	v.clock = v.clock.Add(time.Millisecond)
	session.idleFrom = v.clock
	c = &conn{peer: p, session: session}
	leaves, err = v.admit(c)
	return c, leaves, err
}

func (v *visitors) mustCome(t *testing.T, n int, p peerInfo) []*conn {
	t.Helper()
	var out []*conn
	for range n {
		c, _, err := v.come(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func rootProcess(pid int32) peerInfo { return peerInfo{pid: pid, isRoot: true} }

func busy(t *testing.T, all []*conn) {
	t.Helper()
	for _, c := range all {
		if _, ok := c.session.Use(); !ok {
			t.Fatal("a connection is about to end")
		}
	}
}

func TestAProcessHasALimitOfConnections(t *testing.T) {
	v := newVisitors()
	all := v.mustCome(t, maxOfProcess, rootProcess(7))
	_, _, err := v.come(rootProcess(7))
	if errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "process 7 has 16 connections") || errkind.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	v.mustCome(t, 1, rootProcess(8))
	v.clock = v.clock.Add(idleTime) // now its oldest makes room
	if _, leaves, err := v.come(rootProcess(7)); leaves != all[0] || err != nil {
		t.Errorf("leaves %v, %v", leaves, err)
	}
	if _, ok := all[0].session.Use(); ok {
		t.Error("a call begins on a connection that ends")
	}
}

func TestTheProcessWithTheMostMakesRoom(t *testing.T) {
	v := newVisitors()
	busy(t, v.mustCome(t, 16, rootProcess(1)))
	v.mustCome(t, 12, rootProcess(2))
	v.mustCome(t, 12, rootProcess(3))
	v.mustCome(t, 4, rootProcess(4)) // only the first of them finds a place that is kept
	if len(v.open) != maxOfUser+1 {
		t.Errorf("%d are open", len(v.open))
	}
	if _, leaves, err := v.come(rootProcess(4)); err != nil || leaves == nil || leaves.peer.pid != 2 && leaves.peer.pid != 3 {
		t.Errorf("leaves %v, %v", leaves, err)
	}
}

func TestRunningCallsAreNeverEndedAndRootHasReservedPlaces(t *testing.T) {
	v := newVisitors()
	for pid := range int32(10) { // a user, for whom the socket was opened
		for range 16 {
			if c, leaves, err := v.come(peerInfo{uid: 1000 + uint32(pid), pid: pid}); err == nil {
				busy(t, []*conn{c})
			} else if leaves != nil {
				t.Error("a call was ended")
			}
		}
	}
	if len(v.open) != maxConnections-reservedForFirst-reservedForOwn {
		t.Errorf("%d are open", len(v.open))
	}
	for pid := range int32(reservedForFirst) {
		busy(t, v.mustCome(t, 1, rootProcess(100+pid)))
	}
	if _, _, err := v.come(rootProcess(200)); err == nil {
		t.Error("a place that is kept for the rescuer was given away")
	}
	own := rootProcess(300)
	own.isOwn = true
	busy(t, v.mustCome(t, reservedForOwn, own))
	if _, _, err := v.come(own); err == nil {
		t.Error("more than all places")
	}
	v.mustCome(t, 3, peerInfo{pid: int32(os.Getpid()), isRoot: true})
}

func TestRootComesBeforeOthers(t *testing.T) {
	v := newVisitors()
	for pid := range int32(48) {
		v.mustCome(t, 1, peerInfo{uid: 1000 + uint32(pid%3), pid: pid})
	}
	if _, _, err := v.come(peerInfo{uid: 2000, pid: 99}); err == nil {
		t.Error("a process took the place of one that has no more")
	}
	v.mustCome(t, reservedForFirst, rootProcess(100))
	if _, leaves, err := v.come(rootProcess(100)); err != nil || leaves == nil || leaves.peer.uid == 0 {
		t.Errorf("leaves %v, %v", leaves, err)
	}
}

func TestAConnectionWithAHandleIsNotIdle(t *testing.T) {
	v := newVisitors()
	c := v.mustCome(t, 1, rootProcess(1))[0]
	done, _ := c.session.Use()
	if _, idle := c.session.idleSince(); idle {
		t.Error("idle while it is used")
	}
	done()
	done()
	if _, idle := c.session.idleSince(); !idle || c.session.uses != 0 {
		t.Error("not idle afterwards")
	}
}
