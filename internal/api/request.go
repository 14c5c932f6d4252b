package api

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// requestHeader is the request header by which a client names a call that begins
// an operation. The same call with the same name does not begin another one but
// shows the first, from its beginning: so a client whose connection broke before
// it had learned the operation's ID can ask again, without fear.
const requestHeader = "trident-request-id"

// maxRequestID bounds a name, in bytes.
const maxRequestID = 128

// once begins an operation, unless the call has begun one before. A call without
// a name always begins one.
func once(stream grpc.ServerStream, runner *operation.Runner, begin func(context.Context) (string, error)) (id string, err error) {
	ctx := detached(stream)
	request, err := requestOf(stream)
	if err != nil || request == "" {
		if err == nil {
			id, err = begin(ctx)
		}
		return id, err
	}
	if op, ok, err := runner.Requested(ctx, request); err != nil || ok {
		return op.ID, err
	}
	id, err = begin(operation.WithRequest(ctx, request))
	if err != nil { // perhaps because the first call is only now getting there
		if op, ok, again := runner.Requested(ctx, request); again == nil && ok {
			return op.ID, nil
		}
	}
	return id, err
}

// requestOf is the name of a call with its method: what two methods are asked
// for is never the same request.
func requestOf(stream grpc.ServerStream) (string, error) {
	given := metadata.ValueFromIncomingContext(stream.Context(), requestHeader)
	if len(given) == 0 {
		return "", nil
	}
	if len(given) > 1 || given[0] == "" || len(given[0]) > maxRequestID {
		return "", errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %s must be there once, with 1 to %d bytes", requestHeader, maxRequestID), requestHeader)
	}
	method, _ := grpc.MethodFromServerStream(stream)
	return method + " " + given[0], nil
}
