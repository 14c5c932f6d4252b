// Package jsonrpc serves JSON-RPC 2.0 over HTTP POST and over WebSocket: the same methods on
// both, from one table, which also makes the OpenRPC document.
//
// The package decides nothing about callers. Each call goes through a Gate, which knows the
// caller and the caller's rights, and writes the audit log, as for calls of gRPC.
package jsonrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/load"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/methods"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/openrpc"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/uploads"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/version"
	"github.com/trident-project/trident/proto/errkind/grpckind"
)

// Bounds of a message.
const (
	// maxRequest is the largest request or batch, in bytes.
	maxRequest = 1 << 20
	// maxAnswer bounds the answer to a request or batch, in bytes.
	maxAnswer = 4 << 20
	// maxBatch is how many members a batch can have.
	maxBatch = 100
	// callTime bounds how long a call takes; a check for updates reads a feed.
	callTime = 2 * time.Minute
)

// Paths of the gateway.
const (
	PathRPC     = "/rpc"
	PathOpenRPC = "/openrpc.json"
)

// An Action is a call, as the Gate judges it.
type Action struct {
	Name  string       // the method of JSON-RPC
	GRPC  string       // the method of the API that it calls; "" for none
	Right rights.Right // that the caller needs
}

// Credentials are the parameters of the method authenticate: a token, or a passphrase and the
// name of the person who has it.
type Credentials struct {
	Token      string `json:"token"`
	Name       string `json:"name"`
	Passphrase string `json:"passphrase"`
}

// A Welcome is the result of the method authenticate.
type Welcome struct {
	Identity string `json:"identity"`
	Rights   string `json:"rights"`
	// Token is a new token after a login with a passphrase; otherwise empty.
	Token string `json:"token,omitempty"`
	// Expires is when the login ends.
	Expires time.Time `json:"expires"`
}

// Settings are the present settings of the gateway, as far as HTTP needs them.
type Settings struct {
	Hosts     []string // names that the header Host may have, besides addresses and localhost
	Origins   []string // origins of pages that may call from a browser, besides the gateway's own
	KeepAlive time.Duration
	Page      http.Handler // answers requests for other paths; nil if there is no page
}

// A Gate is the connection of one caller: who has logged in, with which rights, and the
// connection to tridentd.
type Gate interface {
	Settings() Settings
	// Login logs the connection in for one HTTP request, with the values of its header
	// Authorization. Without a value the owner of the client certificate is logged in, or nobody:
	// the login of the previous request ends. For a caller that fails often, Login delays the
	// error.
	Login(ctx context.Context, authorization []string) error
	// Authenticate logs the connection in, until it ends, the login expires, or Login changes it.
	// The error for wrong credentials is of kind Denied.
	Authenticate(ctx context.Context, c Credentials) (Welcome, error)
	// Do calls f if the caller has the right for the action, and returns the error of f. The
	// context of f has the metadata for tridentd. Do writes the action to the audit log, also if
	// it refuses it.
	Do(ctx context.Context, a Action, f func(context.Context) error) error
	// Pass counts bytes that the caller sends or receives, and waits until the caller is within
	// its limit of bytes per second. It fails when ctx ends.
	Pass(ctx context.Context, bytes int) error
	// Identity returns who has logged in; "" for nobody.
	Identity() string
	// Upstream returns the connection to tridentd that belongs to this one.
	Upstream() (grpc.ClientConnInterface, error)
	// Dial returns another connection to tridentd, which outlives this one until it is closed.
	Dial() (Upstream, error)
}

// An Upstream is a connection to tridentd.
type Upstream = uploads.Conn

// A Server has the methods. Its fields never change.
type Server struct {
	table    *methods.Table
	own      map[string]ownFunc
	document json.RawMessage
	load     *load.History
	uploads  *uploads.Store
	follower *follower
	// writeTime is how long the caller of a WebSocket may take to read a message, until the
	// connection ends.
	writeTime time.Duration
	// slowTime is how long a message may take until a subscription to the journal ends.
	slowTime time.Duration
}

// New returns a server of the methods, which keeps the history of the load in loadFile. If the
// file cannot be used, New logs that. Then, and with an empty name, the history is only in
// memory.
func New(loadFile string, logger *slog.Logger) (*Server, error) {
	history, err := load.Open(loadFile, time.Now(), logger)
	if err != nil {
		logger.Warn("the history of the load is kept in memory alone", "error", err)
		if history, err = load.Open("", time.Now(), logger); err != nil {
			return nil, err
		}
	}
	s := &Server{load: history, uploads: uploads.New(), follower: newFollower(), writeTime: writeTime, slowTime: writeTime / 2, own: map[string]ownFunc{}}
	var rows []*methods.Method
	for _, o := range ownMethods() {
		rows = append(rows, &o.Method)
		s.own[o.Name] = o.answer
	}
	if s.table, err = methods.New(rows...); err != nil {
		return nil, err
	}
	s.document, err = json.Marshal(s.table.Document(openrpc.Info{
		Title: "Trident", Version: version.String(),
		Description: "Methods of the Trident gateway, by HTTP POST and by WebSocket at " + PathRPC + ". docs/json-rpc.md describes them.",
	}, openrpc.Server{Name: "this gateway", URL: PathRPC}))
	return s, err
}

// Run samples the load until ctx ends. Then it discards the uploads and returns.
func (s *Server) Run(ctx context.Context) {
	defer s.uploads.Close()
	s.load.Run(ctx)
}

// conn is a WebSocket, or one HTTP request.
type conn struct {
	*Server
	gate   Gate
	socket *socket // nil for HTTP
	host   string  // the name by which the caller reached this gateway: its header Host
}

// Upstream returns the connection to tridentd.
func (c *conn) Upstream() (grpc.ClientConnInterface, error) { return c.gate.Upstream() }

// Uploaded takes an upload of the caller out of the store. End puts it back if no call has used
// it.
func (c *conn) Uploaded(id string) (methods.Upload, error) {
	u, err := c.uploads.Take(c.gate.Identity(), id)
	if err != nil {
		return methods.Upload{}, err
	}
	return methods.Upload{Conn: u.Conn, Handle: u.Handle, End: func(isUsed bool) {
		if !isUsed {
			c.uploads.Return(u)
			return
		}
		_ = u.Conn.Close()
	}}, nil
}

// describe returns the OpenRPC document, with the URL by which the caller reaches this gateway.
func (c *conn) describe() json.RawMessage {
	at, _ := json.Marshal("https://" + c.host + PathRPC) // of a text
	return bytes.Replace(c.document, []byte(`"url":"`+PathRPC+`"`), append([]byte(`"url":`), at...), 1)
}

// answer returns the answer to a message; nil for notifications, which have none.
func (c *conn) answer(ctx context.Context, data []byte) json.RawMessage {
	m, fault := envelope.Parse(data)
	if fault != nil {
		return envelope.Answer(nil, nil, fault)
	}
	return c.answerMessage(ctx, m)
}

func (c *conn) answerMessage(ctx context.Context, m *envelope.Message) json.RawMessage {
	if !m.IsBatch {
		return c.one(ctx, &m.Requests[0], nil)
	}
	var refusal *envelope.Error
	if len(m.Requests) > maxBatch {
		refusal = envelope.Errorf(envelope.InvalidRequest, "read the batch: it has %d members, at most %d are allowed; none was called", len(m.Requests), maxBatch)
	}
	var answers []json.RawMessage
	size, logins := 0, 0
	for i := range m.Requests {
		r := &m.Requests[i]
		if r.Method == methodAuthenticate {
			if logins++; logins > 1 { // a batch must not be a hundred guesses
				r.Fault = envelope.Errorf(envelope.InvalidRequest, "call %s: a batch can have only one call of it", methodAuthenticate)
			}
		}
		a := c.one(ctx, r, refusal)
		if a == nil {
			continue
		}
		answers, size = append(answers, a), size+len(a)
		if size > maxAnswer {
			if refusal != nil {
				return envelope.Answer(nil, nil, refusal)
			}
			refusal = tooLarge()
			answers[len(answers)-1] = envelope.Answer(r.ID, nil, refusal)
			size -= len(a)
		}
	}
	return envelope.Batch(answers)
}

func tooLarge() *envelope.Error {
	return toFault(errkind.WithHint(errkind.Errorf(errkind.TooLarge, "answer the request: the answer is larger than %d bytes", maxAnswer), "ask for less"))
}

// one calls the method of one request and returns the answer. If refusal is not nil, it calls
// nothing and answers with that.
func (c *conn) one(ctx context.Context, r *envelope.Request, refusal *envelope.Error) json.RawMessage {
	fault := r.Fault
	if fault == nil {
		fault = refusal
	}
	var result json.RawMessage
	if fault == nil {
		var err error
		if result, err = c.call(ctx, r); err != nil {
			fault = toFault(err)
		}
	}
	if r.IsNotification() {
		return nil
	}
	if len(result) > maxAnswer {
		fault = tooLarge()
	}
	return envelope.Answer(r.ID, result, fault)
}

// call calls a method.
func (c *conn) call(ctx context.Context, r *envelope.Request) (json.RawMessage, error) {
	m := c.table.Find(r.Method)
	if m == nil {
		return nil, envelope.Errorf(envelope.MethodNotFound, "call %.80q: there is no such method; rpc.discover lists them", r.Method)
	}
	params, err := m.Bind(r.Params)
	if err != nil {
		return nil, envelope.Errorf(envelope.InvalidParams, "call %s: %v", m.Name, err)
	}
	var result json.RawMessage
	run := func(ctx context.Context) (err error) {
		if m.Call != nil {
			if result, err = m.Call(ctx, c, params); errors.Is(err, methods.ErrParams) {
				err = errkind.With(errkind.Invalid, envelope.Errorf(envelope.InvalidParams, "call %s: %v", m.Name, err))
			}
			return err
		}
		result, err = c.own[m.Name](ctx, c, params)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if m.Right == "" {
		err = run(ctx)
	} else {
		err = c.gate.Do(ctx, Action{m.Name, m.GRPC, m.Right}, run)
	}
	return result, err
}

// faultData is the member data of an error, for programs. Fields are only added.
type faultData struct {
	Kind      string `json:"kind"` // as in docs/errors.md
	Hint      string `json:"hint,omitempty"`
	Operation string `json:"operationId,omitempty"`
}

// toFault returns the error of an answer. Its code is that of JSON-RPC or, for an error of
// Trident, the number of the gRPC code.
func toFault(err error) *envelope.Error {
	if fault, ok := errors.AsType[*envelope.Error](err); ok {
		return fault
	}
	err = grpckind.Error(err, nil)
	kind, hint, meta := grpckind.FromError(err)
	st := status.Convert(err)
	message := st.Message()
	if inner, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok { // Convert has the text of gRPC around the message of a wrapped status
		message = strings.Replace(message, inner.Error(), inner.GRPCStatus().Message(), 1)
	}
	return &envelope.Error{Code: int(st.Code()), Message: message, Data: faultData{string(kind), hint, meta[grpckind.MetaOperation]}}
}
