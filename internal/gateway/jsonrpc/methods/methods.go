// Package methods is the table of the methods that the gateway has for JSON-RPC: their names,
// parameters and results, and the calls of the API that they stand for.
//
// Most methods are a call of tridentd. Their parameters are the fields of the request and
// their results the answer, as protojson writes them, so a row needs only two names. The
// gateway itself answers the rest.
package methods

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/openrpc"
	"github.com/trident-project/trident/internal/gateway/rights"
)

// A Caller is the connection that calls methods.
type Caller interface {
	// Upstream returns the connection to tridentd. The context of a Call has the metadata for it.
	Upstream() (grpc.ClientConnInterface, error)
	// Uploaded returns an image that the caller has uploaded. It fails with NotFound if there
	// is none with this ID.
	Uploaded(id string) (Upload, error)
}

// An Upload is an image in tridentd.
type Upload struct {
	Conn   grpc.ClientConnInterface // the connection to which Handle belongs
	Handle int64
	// End frees the image if it was used; otherwise it keeps the image for another call.
	End func(isUsed bool)
}

// A Method is one row of the table.
type Method struct {
	Name    string
	Summary string
	Params  []openrpc.Content
	Result  openrpc.Content
	// GRPC is the method of the API, as on the wire, for the rights and the audit log; empty
	// for a method that the gateway itself answers.
	GRPC string
	// Right is what the caller needs; empty for a method that needs no login.
	Right rights.Right
	// Call calls the method of the API. It is nil for a method that the gateway answers.
	// params is an object with no other members than Params.
	Call func(ctx context.Context, c Caller, params json.RawMessage) (json.RawMessage, error)
}

// row is a line of the table: a method that is a call of the API.
type row struct {
	name, summary string
	grpc          string   // "trident.self.v1.SelfService/GetStatus"
	required      []string // parameters
	// inside is the path to the field of the request that has the parameters, as in
	// "policy.hold"; empty for the request itself.
	inside string
	// set is the setting of the policy that the call sets; empty for other calls. If it is a
	// field of the message that has the parameters, it is the only parameter.
	set string
	// begins: the call begins an operation and shows its events. The method returns as soon
	// as the operation has begun, with its ID.
	begins bool
}

// omitted has the fields that a caller of JSON-RPC cannot use, because it cannot open a handle.
func omitted() []protoreflect.FullName {
	return []protoreflect.FullName{"trident.self.v1.Source.image_handle"}
}

// A Table is all methods.
type Table struct {
	Methods    []*Method
	Components openrpc.Components
	byName     map[string]*Method
}

// New returns the table: the methods of tridentd, and own, which the gateway itself answers.
func New(own ...*Method) (*Table, error) {
	t := &Table{byName: map[string]*Method{}}
	schemas := openrpc.NewMessages(omitted()...)
	schemas.Replace(uploadField, uploadSchema())
	all := own
	for _, r := range rows() {
		m, err := r.method(schemas)
		if err != nil {
			return nil, fmt.Errorf("make the method %s: %w", r.name, err)
		}
		all = append(all, m)
	}
	journal, err := journalMethod(schemas)
	if err != nil {
		return nil, fmt.Errorf("make the method machine.journal: %w", err)
	}
	for _, m := range append(all, journal) {
		if t.byName[m.Name] != nil {
			return nil, fmt.Errorf("make the method %s: there are two", m.Name)
		}
		t.byName[m.Name] = m
		t.Methods = append(t.Methods, m)
	}
	t.Components = schemas.Components()
	return t, nil
}

// Find returns the method of a name, or nil.
func (t *Table) Find(name string) *Method { return t.byName[name] }

func (r row) method(schemas *openrpc.Messages) (*Method, error) {
	service, name, _ := strings.Cut(r.grpc, "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok || sd.Methods().ByName(protoreflect.Name(name)) == nil {
		return nil, fmt.Errorf("the API does not have %s", r.grpc)
	}
	md := sd.Methods().ByName(protoreflect.Name(name))
	right, ok := rights.Of("/" + r.grpc)
	if !ok {
		return nil, fmt.Errorf("the table of package rights lacks %s", r.grpc)
	}
	c := &call{method: "/" + r.grpc, desc: md, begins: r.begins, omitted: omitted()}
	if c.request, err = newMessage(md.Input()); err != nil {
		return nil, err
	}
	if c.response, err = newMessage(md.Output()); err != nil {
		return nil, err
	}
	params := md.Input()
	for name := range strings.SplitSeq(r.inside, ".") {
		if name == "" {
			continue
		}
		f := params.Fields().ByName(protoreflect.Name(name))
		if f == nil || f.Message() == nil {
			return nil, fmt.Errorf("its request has no message %s", r.inside)
		}
		c.inside, params = append(c.inside, f), f.Message()
	}
	c.set = r.set
	m := &Method{
		Name: r.name, Summary: r.summary, GRPC: c.method, Right: right, Call: c.run,
		Params: schemas.Params(params, r.required...), Result: openrpc.Content{Name: "result"},
	}
	if r.set != "" && r.inside != "policy."+r.set {
		m.Params = slices.DeleteFunc(m.Params, func(p openrpc.Content) bool { return p.Name != r.set })
	}
	if r.begins {
		m.Params = append(m.Params, requestParam())
		m.Result.Schema = Begun()
	} else {
		m.Result.Schema = schemas.Of(md.Output())
	}
	return m, nil
}

// Begun is the schema of the result of a method that begins an operation.
func Begun() openrpc.Schema {
	return openrpc.Schema{"type": "object", "required": []string{"operationId"}, "properties": openrpc.Schema{"operationId": openrpc.Schema{"type": "string"}}}
}

func newMessage(md protoreflect.MessageDescriptor) (func() proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		return nil, err
	}
	return func() proto.Message { return t.New().Interface() }, nil
}

// Document returns the OpenRPC document of the table.
func (t *Table) Document(info openrpc.Info, servers ...openrpc.Server) *openrpc.Document {
	d := &openrpc.Document{OpenRPC: openrpc.Version, Info: info, Servers: servers, Components: t.Components}
	for _, m := range t.Methods {
		params := m.Params
		if params == nil {
			params = []openrpc.Content{}
		}
		d.Methods = append(d.Methods, openrpc.Method{
			Name: m.Name, Summary: m.Summary, ParamStructure: "either", Params: params, Result: m.Result, Right: string(m.Right), Errors: errorsOf(m),
		})
	}
	return d
}

func errorsOf(m *Method) []openrpc.Error {
	out := []openrpc.Error{{Code: -32602, Message: "the parameters are wrong"}}
	if m.Right != "" {
		out = append(out, openrpc.Error{Code: 7, Message: "the caller lacks the right " + string(m.Right)}, openrpc.Error{Code: 16, Message: "the caller has not logged in"})
	}
	if m.GRPC != "" {
		out = append(out, openrpc.Error{Code: 14, Message: "tridentd cannot be reached"})
	}
	return out
}

// Bind returns params, an array or an object, as an object. It fails if a required parameter is
// absent or one is unknown; it does not check their types.
func (m *Method) Bind(params json.RawMessage) (json.RawMessage, error) {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	given := map[string]json.RawMessage{}
	if params[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(params, &list); err != nil {
			return nil, err
		}
		if len(list) > len(m.Params) {
			return nil, fmt.Errorf("there are %d parameters, %s has at most %d", len(list), m.Name, len(m.Params))
		}
		for i, p := range list {
			given[m.Params[i].Name] = p
		}
	} else if err := json.Unmarshal(params, &given); err != nil {
		return nil, err
	}
	known := []string{}
	for _, p := range m.Params {
		known = append(known, p.Name)
		if v, ok := given[p.Name]; p.Required && (!ok || string(v) == "null") {
			return nil, fmt.Errorf("the parameter %s is absent", p.Name)
		}
	}
	for name := range given {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown parameter %.80q; %s has: %s", name, m.Name, cmp.Or(strings.Join(known, ", "), "none"))
		}
	}
	return json.Marshal(given)
}
