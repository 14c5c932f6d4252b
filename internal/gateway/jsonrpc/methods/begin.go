package methods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/openrpc"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	"github.com/trident-project/trident/proto/wire"
)

// uploadField is the field for the bytes of an image. A caller of JSON-RPC uploads the bytes
// before the call, and gives the ID of the upload in this field.
const uploadField protoreflect.FullName = "trident.self.v1.Source.upload"

// uploadSchema is the schema of uploadField for a caller of JSON-RPC.
func uploadSchema() openrpc.Schema {
	return openrpc.Schema{
		"type": "object", "required": []string{"id"}, "additionalProperties": false,
		"properties": openrpc.Schema{"id": openrpc.Schema{"type": "string"}},
	}
}

// requestParam is the parameter of each method that begins an operation.
func requestParam() openrpc.Content {
	return openrpc.Content{
		Name: "requestId", Schema: openrpc.Schema{"type": "string", "minLength": 1, "maxLength": wire.MaxRequest},
		Summary: "A name of this call that the caller makes up; a call of the method with the same name returns the same operation",
	}
}

// beginning is the parameters of a method that begins an operation, beside the fields of the
// request.
type beginning struct {
	request string
	upload  string // the ID of an upload; "" for none
}

// split removes requestId and source.upload from params and returns them as b.
func split(params json.RawMessage) (rest json.RawMessage, b beginning, err error) {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(params, &all); err != nil {
		return nil, b, err
	}
	if text, ok := all["requestId"]; ok {
		if err := json.Unmarshal(text, &b.request); err != nil || b.request == "" || len(b.request) > wire.MaxRequest {
			return nil, b, fmt.Errorf("%w: requestId is not a string of 1 to %d bytes", ErrParams, wire.MaxRequest)
		}
		delete(all, "requestId")
	}
	source := map[string]json.RawMessage{}
	if json.Unmarshal(all["source"], &source) == nil && source["upload"] != nil { // else protojson refuses it
		given := map[string]string{}
		if err := json.Unmarshal(source["upload"], &given); err != nil || len(given) != 1 || given["id"] == "" {
			return nil, b, fmt.Errorf("%w: source.upload is not an object with only the member id", ErrParams)
		}
		b.upload = given["id"]
		delete(source, "upload")
		if all["source"], err = json.Marshal(source); err != nil {
			return nil, b, err
		}
	}
	rest, err = json.Marshal(all)
	return rest, b, err
}

// runBegin begins an operation, and returns its ID.
func (c *call) runBegin(ctx context.Context, from Caller, params json.RawMessage) (json.RawMessage, error) {
	params, b, err := split(params)
	if err != nil {
		return nil, err
	}
	in, err := c.read(params)
	if err != nil {
		return nil, err
	}
	if b.request != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderRequest, b.request)
	}
	if b.upload != "" {
		return c.beginUploaded(ctx, from, in, b)
	}
	conn, err := from.Upstream()
	if err != nil {
		return nil, err
	}
	return c.begin(ctx, conn, in)
}

// beginUploaded begins an operation with an image that the caller has uploaded, over the
// connection to which its handle belongs.
func (c *call) beginUploaded(ctx context.Context, from Caller, in proto.Message, b beginning) (json.RawMessage, error) {
	up, ok := in.(*selfv1.UpgradeRequest)
	if !ok || up.GetStart().GetSource().GetFrom() != nil {
		return nil, fmt.Errorf("%w: source has an upload and another source", ErrParams)
	}
	image, err := from.Uploaded(b.upload)
	if err != nil && errkind.Of(err) == errkind.NotFound && b.request != "" {
		return c.find(ctx, from, in, err)
	}
	if err != nil {
		return nil, err
	}
	up.GetStart().GetSource().From = &selfv1.Source_ImageHandle{ImageHandle: image.Handle}
	result, err := c.begin(ctx, image.Conn, in)
	image.End(err == nil)
	return result, err
}

// find returns the operation that an earlier call with the same requestId has begun, or
// missing if there is none.
func (c *call) find(ctx context.Context, from Caller, in proto.Message, missing error) (json.RawMessage, error) {
	conn, err := from.Upstream()
	if err != nil {
		return nil, err
	}
	result, err := c.begin(metadata.AppendToOutgoingContext(ctx, wire.HeaderRepeated, "true"), conn, in)
	if status.Code(err) == codes.NotFound {
		return nil, missing
	}
	return result, err
}

// begin begins an operation and returns its ID. The operation goes on when the stream of its
// events ends.
func (c *call) begin(ctx context.Context, conn grpc.ClientConnInterface, in proto.Message) (json.RawMessage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: c.desc.IsStreamingClient()}, c.method)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	header, err := stream.Header()
	if err != nil {
		return nil, err
	}
	id := header.Get(wire.HeaderOperation)
	if len(id) == 0 { // refused: the stream has the reason
		err := stream.RecvMsg(c.response())
		if err == nil || errors.Is(err, io.EOF) {
			err = errkind.Errorf(errkind.Internal, "begin an operation: tridentd has not reported its ID")
		}
		return nil, err
	}
	return json.Marshal(map[string]string{"operationId": id[0]})
}
