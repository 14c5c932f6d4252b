package proxy

import "github.com/trident-project/trident/internal/gateway/jsonrpc"

// Identity returns the identity that has logged in, or "".
func (g *gate) Identity() string {
	if l := g.current(); l != nil {
		return l.who
	}
	return ""
}

// Dial returns a connection to tridentd that outlives the connection of the caller, because a
// caller can send an upload over one connection and the call that uses it over another. No caller
// is logged in on the session of that connection.
func (g *gate) Dial() (jsonrpc.Upstream, error) {
	detached := &session{server: g.server, web: &web{}}
	return detached.connection()
}
