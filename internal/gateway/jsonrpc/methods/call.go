package methods

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// ErrParams marks an error that the parameters of the caller cause.
var ErrParams = errors.New("the parameters do not fit the method")

// call is a method of the API.
type call struct {
	method            string
	desc              protoreflect.MethodDescriptor
	inside            []protoreflect.FieldDescriptor
	set               string // a setting of the policy
	begins            bool
	omitted           []protoreflect.FullName
	request, response func() proto.Message
}

func (c *call) run(ctx context.Context, from Caller, params json.RawMessage) (json.RawMessage, error) {
	if c.begins {
		return c.runBegin(ctx, from, params)
	}
	in, err := c.read(params)
	if err != nil {
		return nil, err
	}
	conn, err := from.Upstream()
	if err != nil {
		return nil, err
	}
	out := c.response()
	if err := conn.Invoke(ctx, c.method, in, out); err != nil {
		return nil, err
	}
	return Encode(out)
}

// read makes the request from parameters.
func (c *call) read(params json.RawMessage) (proto.Message, error) {
	in := c.request()
	into := in
	for _, f := range c.inside {
		into = into.ProtoReflect().Mutable(f).Message().Interface()
	}
	if err := protojson.Unmarshal(params, into); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrParams, plain(err))
	}
	// Unmarshal has reset what it fills.
	if r, ok := in.(*selfv1.SetPolicyRequest); ok && c.set != "" {
		r.Set = []string{c.set}
	}
	if name := c.findOmitted(into.ProtoReflect()); name != "" {
		return nil, fmt.Errorf("%w: a caller of JSON-RPC cannot use %s", ErrParams, name)
	}
	return in, nil
}

// Reason returns what is wrong with parameters for the person who wrote them: the text of an
// error of encoding/json without the names of Go.
func Reason(err error) string {
	if e, ok := errors.AsType[*time.ParseError](err); ok {
		return fmt.Sprintf("%.80q is not a time as in RFC 3339, such as 2026-11-30T00:00:00Z", strings.Trim(e.Value, `"`))
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		name := strings.ToLower(e.Field[strings.LastIndex(e.Field, ".")+1:])
		wanted := map[reflect.Kind]string{reflect.String: "a text", reflect.Bool: "true or false"}[e.Type.Kind()]
		return fmt.Sprintf("%s is a %.80s, not %s", name, e.Value, cmp.Or(wanted, "a whole number that fits"))
	}
	return err.Error()
}

// plain returns the text of an error of protojson without its prefix, whose blank differs
// from build to build.
func plain(err error) string {
	return strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
}

// findOmitted returns the name of an omitted field that a message has, or "".
func (c *call) findOmitted(m protoreflect.Message) (name protoreflect.Name) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		for _, o := range c.omitted {
			if f.FullName() == o {
				name = f.Name()
			}
		}
		if name == "" && f.Message() != nil && !f.IsList() && !f.IsMap() {
			name = c.findOmitted(v.Message())
		}
		return name == ""
	})
	return name
}

// Encode returns a message as JSON. Members that have their default values are included.
func Encode(m proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
}
