package api

import (
	"context"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// once begins an operation, unless an earlier call with the same request name has begun
// one. A call without a name always begins one. The context of begin does not end with the
// stream.
func once(stream grpc.ServerStream, runner *operation.Runner, begin func(context.Context) (string, error)) (id string, err error) {
	ctx := context.WithoutCancel(stream.Context())
	request, err := requestOf(stream)
	if err != nil {
		return "", err
	}
	if request == "" {
		return begin(ctx)
	}
	if op, ok, err := runner.FindByRequest(ctx, request); err != nil || ok {
		return op.ID, err
	}
	if len(metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRepeated)) > 0 {
		return "", errkind.WithField(errkind.Errorf(errkind.NotFound, "repeat the request: no operation has this request ID"), wire.HeaderRequest)
	}
	id, err = begin(operation.WithRequest(ctx, request))
	if err != nil { // perhaps because the first call has begun it meanwhile
		if op, ok, again := runner.FindByRequest(ctx, request); again == nil && ok {
			return op.ID, nil
		}
	}
	return id, err
}

// requestOf returns the request name of a call with its method: calls of two methods are
// never the same request. It returns "" for a call without a name.
func requestOf(stream grpc.ServerStream) (string, error) {
	given := metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRequest)
	if len(given) == 0 {
		return "", nil
	}
	if len(given) > 1 || given[0] == "" || len(given[0]) > wire.MaxRequest {
		return "", errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %s must be there once, with 1 to %d bytes", wire.HeaderRequest, wire.MaxRequest), wire.HeaderRequest)
	}
	method, _ := grpc.MethodFromServerStream(stream)
	return method + " " + given[0], nil
}

// config returns the configuration of a request, from its text or from the handle in its
// header. As with upstream's daemon, a fault in it fails the operation, not the request.
func (s servicer) config(ctx context.Context, field string, config *tridentv1.HostConfiguration) (*hostconfig.Config, error) {
	text, err := s.configText(ctx, field, config)
	if err != nil {
		return nil, err
	}
	parsed, report, err := s.parser.parse(ctx, text)
	if err != nil {
		return nil, err
	}
	return parsed, report.Err()
}

func (s servicer) configText(ctx context.Context, field string, config *tridentv1.HostConfiguration) ([]byte, error) {
	given := metadata.ValueFromIncomingContext(ctx, wire.HeaderConfigHandle)
	switch {
	case len(given) == 0 && config == nil:
		return nil, missing(field, "a Host Configuration")
	case len(given) == 0:
		return []byte(config.GetConfig()), nil
	case len(given) > 1 || config.GetConfig() != "":
		return nil, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: it has more than one Host Configuration"), wire.HeaderConfigHandle)
	}
	id, err := strconv.ParseInt(given[0], 10, 64)
	if err != nil {
		return nil, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %.40q is not a handle", given[0]), wire.HeaderConfigHandle)
	}
	text, err := s.handles.Config(ownerOf(ctx), id)
	return text, errkind.WithField(err, wire.HeaderConfigHandle)
}

// needBoth fails if a request that stages and finalizes lacks one of the parts.
func needBoth(stage, finalize bool) error {
	switch {
	case !stage:
		return missing("stage", "what to stage")
	case !finalize:
		return missing("finalize", "how to finalize")
	}
	return nil
}

func missing(field, what string) error {
	return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: it does not say %s: %s is missing", what, field), field)
}

// rebootFromWire reports whether the caller reboots the host. The default is that Trident
// does.
func rebootFromWire(r *tridentv1.RebootManagement) (callerReboots bool, err error) {
	switch h := r.GetHandling(); h {
	case tridentv1.RebootHandling_REBOOT_HANDLING_UNSPECIFIED, tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT:
		return false, nil
	case tridentv1.RebootHandling_CALLER_HANDLES_REBOOT:
		return true, nil
	default:
		return false, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d is not a way to handle a reboot", h), "reboot.handling")
	}
}
