package api

import (
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Limits of connections.
const (
	maxConnections = 64 // at a time, without those of the daemon itself
	maxOfUser      = 40
	maxOfProcess   = 16
	// maxOfGateway is maxOfProcess for the gateway, which has one connection for each of
	// its callers.
	maxOfGateway = 32
	// Of maxConnections some are reserved: for processes of root that have no connection yet,
	// and for Trident's own programs (the CLI, the rescuer).
	reservedForFirst = 8
	reservedForOwn   = 8
	// idleTime is how long a connection has to be idle to be ended for any other caller.
	idleTime = 2 * time.Second
)

// roster has the connections that are served, and decides which new ones are admitted.
//
// If all places are taken, the process with the most connections loses the one that has
// been idle for the longest time. A connection with a running call is never ended.
type roster struct {
	now func() time.Time

	mu   sync.Mutex
	open map[*conn]struct{}
}

func newRoster() *roster { return &roster{now: time.Now, open: map[*conn]struct{}{}} }

// admit adds c, perhaps in place of another connection, which the caller has to close. It
// fails with TooLarge if there is no place for c.
func (r *roster) admit(c *conn) (ended *conn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.peer.isSelf() { // the daemon's own health check always has a place
		r.open[c] = struct{}{}
		return nil, nil
	}
	all, ofUser, ofProcess := 0, 0, map[int32]int{}
	for o := range r.open {
		if o.peer.isSelf() {
			continue
		}
		all++
		ofProcess[o.peer.pid]++
		if o.peer.uid == c.peer.uid {
			ofUser++
		}
	}
	among := func(*conn) bool { return true }
	switch reserved := c.peer.reservedPlaces(ofProcess[c.peer.pid] == 0); {
	case ofProcess[c.peer.pid] >= c.peer.maxConnections():
		among = func(o *conn) bool { return o.peer.pid == c.peer.pid }
		err = errkind.Errorf(errkind.TooLarge, "connect to tridentd: process %d has %d connections, and may have %d", c.peer.pid, ofProcess[c.peer.pid], c.peer.maxConnections())
	case ofUser >= maxOfUser && reserved == 0:
		among = func(o *conn) bool { return o.peer.uid == c.peer.uid }
		err = errkind.Errorf(errkind.TooLarge, "connect to tridentd: user ID %d has %d connections, and may have %d", c.peer.uid, ofUser, maxOfUser)
	case all >= maxConnections-reservedForFirst-reservedForOwn+reserved:
		err = errkind.Errorf(errkind.TooLarge, "connect to tridentd: all %d connections are in use", all)
	default:
		r.open[c] = struct{}{}
		return nil, nil
	}
	ended = r.chooseIdle(c, ofProcess, among)
	if ended == nil {
		return nil, errkind.WithHint(err, "close connections that are not needed (`ss -xp` lists them with their processes), then try again")
	}
	delete(r.open, ended)
	r.open[c] = struct{}{}
	return ended, nil
}

// chooseIdle returns the connection that is ended for c, or nil. No call begins on that
// connection any more. The caller holds r.mu.
func (r *roster) chooseIdle(c *conn, ofProcess map[int32]int, among func(*conn) bool) *conn {
	for {
		var best *conn
		var since time.Time
		for o := range r.open {
			idle, ok := o.session.idleSince()
			if !ok || o.peer.isSelf() || !among(o) || !r.canYield(o, c, ofProcess, idle) {
				continue
			}
			if best == nil || ofProcess[o.peer.pid] > ofProcess[best.peer.pid] ||
				ofProcess[o.peer.pid] == ofProcess[best.peer.pid] && idle.Before(since) {
				best, since = o, idle
			}
		}
		if best == nil || best.session.endIfIdle() {
			return best
		}
	}
}

// canYield reports whether the idle connection o may be ended for c.
func (r *roster) canYield(o, c *conn, ofProcess map[int32]int, idle time.Time) bool {
	return ofProcess[o.peer.pid] > ofProcess[c.peer.pid]+1 ||
		c.peer.isOwn && !o.peer.isOwn ||
		c.peer.isRoot && !o.peer.isRoot ||
		r.now().Sub(idle) >= idleTime
}

func (r *roster) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// maxConnections returns how many connections the process of the peer may have.
func (p peerInfo) maxConnections() int {
	if p.isGateway {
		return maxOfGateway
	}
	return maxOfProcess
}

// reservedPlaces returns how many of the reserved places a peer may take. first reports
// whether its process has no other connection.
func (p peerInfo) reservedPlaces(first bool) int {
	switch {
	case p.isOwn:
		return reservedForFirst + reservedForOwn
	case p.isRoot && first:
		return reservedForFirst
	}
	return 0
}
