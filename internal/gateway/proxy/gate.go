package proxy

import (
	"cmp"
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/audit"
	"github.com/trident-project/trident/internal/gateway/jsonrpc"
	"github.com/trident-project/trident/internal/gateway/password"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	"github.com/trident-project/trident/proto/wire"
)

// gate implements jsonrpc.Gate for one session.
type gate struct{ *session }

func (g *gate) current() *login {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.login
}

func (g *gate) Settings() jsonrpc.Settings {
	st := g.server.state.Load()
	s := jsonrpc.Settings{Hosts: st.config.HTTP.Hosts, Origins: st.config.HTTP.Origins, KeepAlive: st.config.Limits.KeepAliveEvery}
	if st.config.HTTP.Page {
		s.Page = g.server.page
	}
	if leaf := st.certificate.Leaf; leaf != nil {
		s.Hosts = append(leaf.DNSNames[:len(leaf.DNSNames):len(leaf.DNSNames)], s.Hosts...)
	}
	return s
}

// Login makes the credentials of a request those of the connection. The requests of a
// connection come one after another, and each has its own: a browser uses one connection for
// several tabs.
func (g *gate) Login(ctx context.Context, authorization []string) error {
	s, begin := g.server, g.server.now()
	s.used.Add(1)
	err := g.become(authorization, begin)
	if err == nil {
		return nil
	}
	s.refused.warn("call refused", "peer", g.peer.String(), "reason", err)
	s.record(audit.Entry{Time: begin.UTC(), Peer: g.peer.String(), Result: "Unauthenticated", Reason: err.Error()})
	return g.failed(ctx, err)
}

// failed delays a caller who could not log in, and returns the error of the login. It ends the
// connection of a caller who has failed too often.
func (g *gate) failed(ctx context.Context, err error) error {
	if errkind.Of(err) == errkind.Denied && !g.server.logins.Failed(ctx, g.peer.Addr(), g.server.now()) {
		g.abort()
	}
	return err
}

func (g *gate) become(authorization []string, now time.Time) error {
	known := g.current()
	if known != nil && known.cert == nil { // of a request before
		var l *login
		if len(authorization) > 0 {
			text, err := bearer(authorization)
			if err != nil {
				return err
			}
			if l, err = g.server.find(text, now); err != nil {
				return err
			}
		}
		if l != nil && l.who == known.who {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.login = l
			return nil
		}
		g.leave()
	}
	if len(authorization) == 0 {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.refusal
	}
	_, err := g.authenticate(authorization, now)
	return err
}

// leave ends the login of the connection, and the connection to tridentd with it.
func (g *gate) leave() {
	g.mu.Lock()
	upstream, release := g.upstream, g.release
	g.login, g.granted, g.upstream, g.release = nil, 0, nil, nil
	g.mu.Unlock()
	if upstream != nil {
		_ = upstream.Close()
	}
	if release != nil {
		release()
	}
	g.awaitLogin()
}

// Authenticate is the method authenticate.
func (g *gate) Authenticate(ctx context.Context, given jsonrpc.Credentials) (jsonrpc.Welcome, error) {
	s, now := g.server, g.server.now()
	w, l, err := g.welcome(ctx, given, now)
	if err == nil && g.current() == nil {
		err = g.enter(l)
	} else if known := g.current(); err == nil && (known.cert != nil || known.who != l.who) {
		err = errkind.WithHint(errkind.Errorf(errkind.Denied, "log in as %s: this connection belongs to %s", l.who, known.who), "use another connection")
	}
	entry := audit.Entry{Time: now.UTC(), Peer: g.peer.String(), RPC: "authenticate", Result: status.Code(grpckind.Error(err, nil)).String()}
	if l != nil {
		entry.Identity, entry.By = l.who, l.by
	}
	if err != nil {
		s.refused.warn("login refused", "peer", g.peer.String(), "reason", err)
		entry.Reason = err.Error()
	}
	entry.Seconds = s.now().Sub(now).Seconds()
	s.record(entry)
	if err != nil {
		return jsonrpc.Welcome{}, g.failed(ctx, err)
	}
	return w, nil
}

func (g *gate) welcome(ctx context.Context, given jsonrpc.Credentials, now time.Time) (w jsonrpc.Welcome, l *login, err error) {
	s := g.server
	st := s.state.Load()
	if given.Token != "" && !strings.HasPrefix(given.Token, password.ConsolePrefix) {
		if l, err = s.find(given.Token, now); err != nil {
			return w, nil, err
		}
		if l.session != nil {
			w.Expires = l.session.Expires
		} else if t, err := st.tokens.Find(given.Token, now); err == nil {
			w.Expires = t.Expires
		}
	} else {
		e, err := g.meet(ctx, given, now)
		if err != nil {
			return w, nil, err
		}
		expires := now.Add(st.config.HTTP.LoginTime)
		if l, err = st.person(password.Session{Entry: e, Expires: expires}); err != nil {
			return w, nil, err
		}
		if w.Token, w.Expires, err = s.people.Begin(e, now, st.config.HTTP.LoginTime); err != nil {
			return w, l, err
		}
	}
	w.Identity, w.Rights, w.Expires = l.who, st.rightsOf(l, now).String(), w.Expires.UTC().Truncate(time.Second)
	return w, l, nil
}

// meet checks a passphrase or a console token, and returns the person; the zero value for a
// console token.
func (g *gate) meet(ctx context.Context, given jsonrpc.Credentials, now time.Time) (password.Entry, error) {
	if given.Token != "" {
		return password.Entry{}, g.server.console.Use(given.Token, now)
	}
	return g.server.checker.Check(ctx, g.server.state.Load().passphrases, cmp.Or(given.Name, password.DefaultName), given.Passphrase)
}

// Do is a call: the same checks in the same order as for one of gRPC.
func (g *gate) Do(ctx context.Context, a jsonrpc.Action, f func(context.Context) error) error {
	s, begin := g.server, g.server.now()
	s.used.Add(1)
	entry := audit.Entry{Time: begin.UTC(), Peer: g.peer.String(), Method: a.GRPC, RPC: a.Name, Right: string(a.Right)}
	l, err := g.permit(a, begin)
	if l != nil {
		entry.Identity, entry.By, entry.Serial = l.who, l.by, l.serial
	}
	switch {
	case err == nil:
		err = g.run(ctx, l, f)
	case l == nil:
		entry.Reason = err.Error()
		err = g.unauthenticated(ctx, err)
	default:
		entry.Reason = err.Error()
	}
	if entry.Reason != "" {
		s.refused.warn("call refused", "peer", entry.Peer, "identity", entry.Identity, "method", a.Name, "reason", entry.Reason)
	}
	entry.Result, entry.Seconds = status.Code(grpckind.Error(err, nil)).String(), s.now().Sub(begin).Seconds()
	s.record(entry)
	return err
}

// permit returns the login of the caller, nil if there is none, and an error if the caller may
// not make the call.
func (g *gate) permit(a jsonrpc.Action, now time.Time) (*login, error) {
	l := g.current()
	if l == nil {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "call %s: the caller has not logged in", a.Name),
			"send the header Authorization: Bearer TOKEN, connect with a certificate, or call authenticate first")
	}
	set := g.server.state.Load().rightsOf(l, now)
	if a.GRPC != "" {
		return l, set.Check(l.who, a.GRPC)
	}
	return l, set.Need(a.Right, l.who, a.Name)
}

func (g *gate) run(ctx context.Context, l *login, f func(context.Context) error) error {
	end, err := g.server.callers.Begin(l.who, g.server.now())
	if err != nil {
		return err
	}
	defer end()
	return unreachable(f(metadata.NewOutgoingContext(ctx, metadata.Pairs(wire.HeaderAskedBy, l.who))))
}

// Pass counts bytes of the caller. It does not count those of a caller who has not logged in:
// maxStrange bounds the messages of such a caller.
func (g *gate) Pass(ctx context.Context, bytes int) error {
	l := g.current()
	if l == nil {
		return nil
	}
	return g.server.callers.Pass(ctx, l.who, bytes, g.server.now())
}

func (g *gate) Upstream() (grpc.ClientConnInterface, error) { return g.connection() }
