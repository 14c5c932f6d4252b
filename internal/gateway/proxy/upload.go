package proxy

import "github.com/trident-project/trident/internal/gateway/jsonrpc"

// Identity returns who has logged in.
func (g *gate) Identity() string {
	if l := g.current(); l != nil {
		return l.who
	}
	return ""
}

// Dial returns a connection to tridentd that outlives the caller's: an upload and the call that
// uses it can come over two connections. The session behind it has no caller.
func (g *gate) Dial() (jsonrpc.Upstream, error) {
	detached := &session{server: g.server, web: &web{}}
	return detached.connection()
}
