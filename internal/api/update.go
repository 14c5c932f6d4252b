package api

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// configHandleHeader is the request header that names a configuration which was
// opened before: upstream's messages have no field for one.
const configHandleHeader = "trident-config-handle"

type updateServer struct {
	tridentv1.UnimplementedUpdateServiceServer
	servicer
	handles *handleTable
}

func (s *updateServer) Update(req *tridentv1.UpdateRequest, stream servicingStream) error {
	if req.GetStage() == nil {
		return missing("stage", "what to stage")
	}
	if req.GetFinalize() == nil {
		return missing("finalize", "how to finalize")
	}
	return s.update(stream, "stage.config", req.GetStage().GetConfig(), req.GetFinalize().GetReboot(), true)
}

func (s *updateServer) UpdateStage(req *tridentv1.StageUpdateRequest, stream servicingStream) error {
	return s.update(stream, "config", req.GetConfig(), nil, false)
}

// update stages, and finalizes too if that is asked for. That a configuration
// cannot be parsed is a failure of the update, not of the request (reference,
// 2.8).
func (s *updateServer) update(stream servicingStream, field string, config *tridentv1.HostConfiguration, reboot *tridentv1.RebootManagement, finalize bool) error {
	callerReboots, err := rebootFromWire(reboot)
	if err != nil {
		return err
	}
	return s.run(stream, callerReboots, func(ctx context.Context) (string, error) {
		text, err := s.configText(ctx, field, config)
		if err != nil {
			return "", err
		}
		parsed, report := hostconfig.Parse(text)
		if err := report.Err(); err != nil {
			return "", err
		}
		return s.host.Update(ctx, servicing.UpdateRequest{Config: parsed, Stage: true, Finalize: finalize, CallerReboots: callerReboots})
	})
}

// configText is the configuration of a request, or what its header's handle holds.
func (s *updateServer) configText(ctx context.Context, field string, config *tridentv1.HostConfiguration) ([]byte, error) {
	given := metadata.ValueFromIncomingContext(ctx, configHandleHeader)
	switch {
	case len(given) == 0 && config == nil:
		return nil, missing(field, "a Host Configuration")
	case len(given) == 0:
		return []byte(config.GetConfig()), nil
	case len(given) > 1 || config.GetConfig() != "":
		return nil, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: it has more than one Host Configuration"), configHandleHeader)
	}
	id, err := strconv.ParseInt(given[0], 10, 64)
	if err != nil {
		return nil, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %.40q is no handle", given[0]), configHandleHeader)
	}
	text, err := s.handles.config(ctx, id)
	return text, errkind.WithField(err, configHandleHeader)
}

func (s *updateServer) UpdateFinalize(req *tridentv1.FinalizeUpdateRequest, stream servicingStream) error {
	callerReboots, err := rebootFromWire(req.GetReboot())
	if err != nil {
		return err
	}
	return s.run(stream, callerReboots, func(ctx context.Context) (string, error) {
		return s.host.Finalize(ctx, callerReboots)
	})
}

type commitServer struct {
	tridentv1.UnimplementedCommitServiceServer
	servicer
}

func (s *commitServer) Commit(req *tridentv1.CommitRequest, stream servicingStream) error {
	callerReboots, err := rebootFromWire(req.GetReboot())
	if err != nil {
		return err
	}
	return s.run(stream, callerReboots, func(ctx context.Context) (string, error) {
		return s.host.Commit(ctx, callerReboots)
	})
}

func missing(field, what string) error {
	return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: it does not say %s: %s is missing", what, field), field)
}

// rebootFromWire tells whether the caller reboots the host. Who does not say
// leaves it to Trident.
func rebootFromWire(r *tridentv1.RebootManagement) (callerReboots bool, err error) {
	switch h := r.GetHandling(); h {
	case tridentv1.RebootHandling_REBOOT_HANDLING_UNSPECIFIED, tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT:
		return false, nil
	case tridentv1.RebootHandling_CALLER_HANDLES_REBOOT:
		return true, nil
	default:
		return false, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d is no way to handle a reboot", h), "reboot.handling")
	}
}
