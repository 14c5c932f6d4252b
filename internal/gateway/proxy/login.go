package proxy

import (
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// enter makes l the login of the connection. It fails if the identity has too many connections.
func (c *session) enter(l *login) error {
	release, err := c.server.callers.Connect(l.who)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.login, c.release = l, release
	c.granted = c.server.state.Load().rightsOf(l, c.server.now())
	c.logged()
	return nil
}

// awaitLogin has the connection ended if the caller does not log in within limits.handshakeTime,
// or refusedTime if that is longer. It does not wait.
func (c *session) awaitLogin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.login != nil {
		return
	}
	c.timer = time.AfterFunc(max(c.server.state.Load().config.Limits.HandshakeTime, c.server.refusedTime), c.abortStranger)
}

// abortStranger ends the connection if the caller has not logged in.
func (c *session) abortStranger() {
	c.mu.Lock()
	isStranger := c.login == nil
	c.mu.Unlock()
	if isStranger {
		c.server.refused.warn("connection ended", "peer", c.peer.String(), "reason", "the caller did not log in")
		c.abort()
	}
}

// invalidity returns why the login of the connection is no longer valid, or "" if it is. It
// verifies a certificate again when the settings have changed or the certificate has expired.
func (c *session) invalidity(st *state, now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.login == nil {
		return ""
	}
	// A verification takes a tenth of a millisecond, and there may be a thousand connections.
	if l := c.login; l.cert != nil && (l.verifiedBy != st || now.Before(l.from) || now.After(l.until)) {
		again, err := st.verify(c.chain, now)
		if err != nil {
			return err.Error()
		}
		l.verifiedBy, l.from, l.until = again.verifiedBy, again.from, again.until
	}
	set := st.rightsOf(c.login, now)
	if c.granted&^set != 0 {
		return c.login.who + " has lost rights; now it has: " + set.String()
	}
	c.granted = set
	return ""
}

// authenticate returns the login with which a call is made: that of the client certificate, or
// that of the token in authorization. It fails for another identity than that of the first call:
// a connection has one identity, because it has one connection to tridentd.
func (c *session) authenticate(authorization []string, now time.Time) (*login, error) {
	c.mu.Lock()
	known, refusal, hasCert := c.login, c.refusal, len(c.chain) > 0
	c.mu.Unlock()
	switch {
	case refusal != nil:
		return nil, refusal
	case len(authorization) == 0 && known != nil && known.cert != nil:
		return known, nil
	case len(authorization) == 0:
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the call has neither a client certificate nor a token"),
			"connect with a certificate, or send the metadata authorization: Bearer TOKEN")
	case hasCert:
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the call has both a client certificate and a token"), "use one of them")
	}
	text, err := bearer(authorization)
	if err != nil {
		return nil, err
	}
	l, err := c.server.find(text, now)
	switch {
	case err != nil:
		return nil, err
	case known == nil:
		return l, c.enter(l)
	case known.who != l.who:
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "log in as %s: this connection belongs to %s", l.who, known.who), "use a connection for each token")
	}
	return l, nil
}
