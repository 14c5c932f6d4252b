package api

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/errkind/grpckind"
)

// gate wraps every method: it checks the caller, turns errors and panics into statuses,
// and logs the call.
type gate struct {
	rules      map[string]rule
	alsoUID    uint32
	policy     Policy
	hasHost    bool
	begin      func() (end func())
	logger     *slog.Logger
	runner     *operation.Runner
	bulk       slots
	lines      *lineQuota
	logOmitted *rateLimitedLog
	stopping   context.Context
	endWatches context.CancelFunc
}

func newGate(c Config) *gate {
	g := &gate{rules: access(), alsoUID: c.AlsoUID, policy: c.Policy, hasHost: c.Servicing != nil, begin: c.Begin, runner: c.Operations, logger: c.Logger, bulk: newSlots(maxBulkCalls), lines: newLineQuota(), logOmitted: newRateLimitedLog(c.Logger)}
	g.stopping, g.endWatches = context.WithCancel(context.Background())
	if g.policy == nil {
		g.policy = noPolicy{}
	}
	if g.begin == nil {
		g.begin = func() func() { return func() {} }
	}
	return g
}

// call has what the log line of a call needs.
type call struct {
	method string
	rule   rule
	peer   peerInfo
	start  time.Time
	// askedBy is the remote identity for which the gateway makes the call, or "".
	askedBy string

	mu        sync.Mutex
	operation string
}

type callKey struct{}

// noteOperation adds an operation's ID to the log line of the call.
func noteOperation(ctx context.Context, id string) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.operation = id
	}
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	err = g.serve(ctx, info.FullMethod, func(ctx context.Context) (err error) {
		session := sessionOf(ctx)
		done, ok := session.Use()
		if !ok {
			return errEnding(info.FullMethod)
		}
		defer done()
		if g.rules[info.FullMethod].isBulk {
			release, err := g.bulk.take(ctx)
			if err != nil {
				return err
			}
			defer release()
		}
		if resp, err = handler(ctx, req); err == nil {
			err = session.checkSize(resp)
		}
		if err == nil {
			session.countAnswer(resp)
		}
		return err
	})
	return resp, err
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return g.serve(ss.Context(), info.FullMethod, func(ctx context.Context) error {
		if g.rules[info.FullMethod].endsWithServer { // it would delay Stop
			var cancel context.CancelCauseFunc
			ctx, cancel = context.WithCancelCause(ctx)
			defer cancel(nil)
			defer context.AfterFunc(g.stopping, func() { cancel(errServerEnds()) })()
		}
		s := &stream{ServerStream: ss, ctx: ctx, session: sessionOf(ctx), method: info.FullMethod, gate: g}
		defer s.end()
		return handler(srv, s)
	})
}

// errServerEnds is the error of a stream without an end of its own, when the server stops.
func errServerEnds() error {
	return errkind.WithHint(errkind.Errorf(errkind.Unavailable, "tridentd ends or restarts"), "call again; the journal and the events go on after the last entry that has come")
}

// errEnding is the error of a call on a connection that is ending because its place is
// needed. The client has been told to repeat the call on a new connection.
func errEnding(method string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Unavailable, "%s: the connection was idle and is ending, because its place is needed", method), "try again")
}

// serve calls a method if the caller may call it.
func (g *gate) serve(ctx context.Context, method string, handle func(context.Context) error) (err error) {
	c := &call{method: method, rule: g.rules[method], start: time.Now()}
	defer func() { g.log(ctx, c, err) }()
	if err := g.admit(ctx, c); err != nil {
		return g.status(method, err)
	}
	if !c.peer.isSelf() { // the daemon's own health checks do not keep it from exiting
		defer g.begin()()
	}
	defer func() {
		if p := recover(); p != nil {
			g.logger.Error("panic", "method", method, "panic", p, "stack", string(debug.Stack()))
			err = g.status(method, errkind.WithName(errkind.Errorf(errkind.Internal, "%s: panic: %v", method, p), errkind.NamePanic))
		}
	}()
	// The server answers before the daemon has opened the datastore and resumed its
	// operations. A caller must not see, or act on, the state that an earlier daemon
	// left.
	if !c.rule.worksBeforeResume && g.runner != nil {
		if err := g.runner.Resumed(ctx); err != nil {
			return g.status(method, err)
		}
	}
	ctx = context.WithValue(ctx, callKey{}, c)
	if c.askedBy != "" {
		ctx = operation.WithAskedBy(ctx, c.askedBy)
	}
	return g.status(method, handle(ctx))
}

// callerOf returns the process that makes a call, or 0.
func callerOf(ctx context.Context) int32 {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.peer.pid
	}
	return 0
}

// status returns an error in the form of the method's package. If the host is busy, the
// details name the operation.
func (g *gate) status(method string, err error) error {
	err = hoststate.ForCallers(err)
	meta := map[string]string{}
	if err != nil && errkind.Of(err) == errkind.Busy && g.runner != nil {
		if id, ok := g.runner.Active(); ok {
			meta[grpckind.MetaOperation] = id
		}
	}
	if strings.HasPrefix(method, "/trident.v1.") || strings.HasPrefix(method, "/trident.v1preview.") {
		return grpckind.UpstreamError(err, codeOfCategory(errkind.NameOf(err).Category), meta)
	}
	return grpckind.Error(err, meta)
}

func (g *gate) admit(ctx context.Context, c *call) error {
	if p, ok := peer.FromContext(ctx); ok {
		if who, ok := p.AuthInfo.(peerInfo); ok {
			c.peer = who
			if who.refusal != nil {
				return who.refusal
			}
			remote, err := askedBy(ctx, c)
			if err != nil {
				return err
			}
			c.askedBy = remote
			return g.allow(c)
		}
	}
	return errkind.Errorf(errkind.Denied, "%s: the caller is not known", c.method)
}

func (g *gate) allow(c *call) error {
	isRoot := c.peer.uid == 0 || (g.alsoUID != 0 && c.peer.uid == g.alsoUID)
	switch {
	case c.rule.may == 0:
		return errkind.Errorf(errkind.Denied, "%s: nobody may call it: it is not in the access table", c.method)
	case c.peer.isGateway:
		if err := g.policy.Allow(c.askedBy, c.method, c.start); err != nil {
			return err
		}
	case c.rule.may != anyone && !isRoot:
		return errkind.WithHint(
			errkind.Errorf(errkind.Denied, "%s: only root may call it, and the caller is user ID %d", c.method, c.peer.uid),
			"run it as root")
	}
	if !g.hasHost && !c.rule.worksWithoutHost {
		return errkind.Errorf(errkind.Unsupported, "%s: this server does not service a host", c.method)
	}
	return nil
}

// log writes one line for each call, without its content. It logs few calls of a process
// that calls without end, so that journald keeps the daemon's other lines.
func (g *gate) log(ctx context.Context, c *call, err error) {
	level := slog.LevelInfo
	code := status.Code(err)
	switch {
	case code == codes.Internal:
		level = slog.LevelError
	case err == nil && c.rule.isQuiet:
		level = slog.LevelDebug
	}
	if !g.logger.Enabled(ctx, level) {
		return
	}
	if !g.lines.take(c.peer.pid, time.Now()) {
		g.logOmitted.warn("calls are not logged: a process makes too many", "uid", c.peer.uid, "pid", c.peer.pid, "method", c.method)
		return
	}
	attrs := []any{
		"method", c.method, "code", code.String(), "uid", c.peer.uid, "pid", c.peer.pid,
		"duration", time.Since(c.start).Round(time.Microsecond),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.operation != "" {
		attrs = append(attrs, "operation", c.operation)
	}
	if c.askedBy != "" {
		attrs = append(attrs, "asked_by", c.askedBy)
	}
	if client := c.peer.session.name(); client != "" {
		attrs = append(attrs, "client", client)
	}
	if err != nil {
		attrs = append(attrs, "error", status.Convert(err).Message())
	}
	g.logger.Log(ctx, level, "call", attrs...)
}
