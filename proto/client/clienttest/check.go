package clienttest

import (
	"context"
	"encoding/hex"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

// Limits of requests, the same as the daemon's.
const (
	maxChunk     = 1 << 20
	maxConfig    = 1 << 20
	maxImage     = 2 << 30
	maxList      = 1000
	leastMessage = 16 << 10
)

// checkedStream checks each request that it receives.
type checkedStream struct {
	grpc.ServerStream
	begun bool // a request has been received
}

func (c *checkedStream) RecvMsg(m any) error {
	if err := c.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	first := !c.begun
	c.begun = true
	if part, ok := m.(interface{ GetChunk() []byte }); ok {
		return checkPart(m.(proto.Message), part.GetChunk(), first)
	}
	return check(c.Context(), m)
}

// answer returns err as the daemon sends it; upstream's daemon sends no details.
func (s *Server) answer(err error) error {
	if sent := grpckind.Error(err, nil); !s.config.Upstream || sent == nil {
		return sent
	} else if _, isStatus := status.FromError(err); isStatus {
		return err
	} else {
		return status.Error(status.Code(sent), err.Error())
	}
}

func invalid(field, format string, args ...any) error {
	err := errkind.Errorf(errkind.Invalid, "read the request: "+format, args...)
	if field == "" {
		return err
	}
	return errkind.WithField(err, field)
}

func missing(field string) error { return invalid(field, "%s is missing", field) }

// check returns the error of a request that the daemon refuses for its content alone.
func check(ctx context.Context, req any) error {
	if r, ok := req.(interface {
		GetReboot() *tridentv1.RebootManagement
	}); ok {
		how := r.GetReboot().GetHandling()
		if _, known := tridentv1.RebootHandling_name[int32(how)]; !known {
			return invalid("reboot.handling", "%d is not a way to handle a reboot", how)
		}
	}
	switch r := req.(type) {
	case *tridentv1.UpdateRequest:
		return checkUpdate(ctx, r.GetStage() != nil, r.GetFinalize() != nil, r.GetStage().GetConfig())
	case *tridentv1preview.InstallRequest:
		return checkUpdate(ctx, r.GetStage() != nil, r.GetFinalize() != nil, r.GetStage().GetConfig())
	case *tridentv1.StageUpdateRequest:
		return checkConfig(ctx, "config", r.GetConfig())
	case *tridentv1preview.StageInstallRequest:
		return checkConfig(ctx, "config", r.GetConfig())
	case *tridentv1.StreamDiskRequest:
		return checkStreamDisk(ctx, r.GetImageUrl())
	case *setupv1.HandshakeRequest:
		if n := r.GetLimits().GetMaxMessageBytes(); n != 0 && n < leastMessage {
			return invalid("limits.max_message_bytes", "max_message_bytes is %d, at least %d is needed", n, leastMessage)
		}
	case interface{ GetTrial() *selfv1.Trial }:
		return checkTrial(r.GetTrial())
	case interface{ GetConfigHandle() int64 }:
		if m := req.(proto.Message).ProtoReflect(); m.WhichOneof(m.Descriptor().Oneofs().ByName("config")) == nil {
			return missing("config")
		}
	case interface {
		GetConfig() *tridentv1.HostConfiguration
	}:
		if r.GetConfig() == nil {
			return missing("config")
		}
	case interface{ GetLimit() int32 }:
		if n := r.GetLimit(); n < 0 || n > maxList {
			return invalid("", "limit is %d, it must be from 0 to %d", n, maxList)
		}
	}
	return nil
}

func checkUpdate(ctx context.Context, stage, finalize bool, config *tridentv1.HostConfiguration) error {
	switch {
	case !stage:
		return missing("stage")
	case !finalize:
		return missing("finalize")
	}
	return checkConfig(ctx, "stage.config", config)
}

func checkConfig(ctx context.Context, field string, config *tridentv1.HostConfiguration) error {
	given := metadata.ValueFromIncomingContext(ctx, wire.HeaderConfigHandle)
	switch {
	case len(given) == 0 && config == nil:
		return missing(field)
	case len(given) > 1 || len(given) == 1 && config.GetConfig() != "":
		return invalid(wire.HeaderConfigHandle, "there is more than one Host Configuration")
	}
	return nil
}

func checkStreamDisk(ctx context.Context, image string) error {
	if u, err := url.Parse(image); err != nil || u.Scheme == "" {
		return invalid("image_url", "the image URL is not valid")
	}
	for _, header := range []string{wire.HeaderBytesPerSecond, wire.HeaderDataBudget, wire.HeaderFetchTimeout} {
		given := metadata.ValueFromIncomingContext(ctx, header)
		if len(given) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(given[0], 10, 64); err != nil || n < 1 || len(given) > 1 {
			return invalid(header, "%s is not one number from 1 on", header)
		}
	}
	return nil
}

func checkTrial(t *selfv1.Trial) error {
	if least := min(t.GetSoak().AsDuration(), t.GetDeadline().AsDuration()); least < 0 {
		return invalid("", "a time of the trial is negative: %s", least.Round(time.Nanosecond))
	}
	return nil
}

// checkPart checks one part of an upload: start comes first, and then chunks.
func checkPart(m proto.Message, chunk []byte, first bool) error {
	part := m.ProtoReflect().WhichOneof(m.ProtoReflect().Descriptor().Oneofs().ByName("part"))
	isStart := part != nil && part.Name() == "start"
	switch {
	case isStart != first:
		return invalid("start", "start must be the first message, and only that")
	case !first && (len(chunk) == 0 || len(chunk) > maxChunk):
		return invalid("", "a chunk of %d bytes; it must have from 1 to %d", len(chunk), maxChunk)
	}
	switch r := m.(type) {
	case *selfv1.StageRequest:
		return checkSource(r.GetStart().GetSource(), first)
	case *selfv1.UpgradeRequest:
		if err := checkTrial(r.GetStart().GetTrial()); err != nil {
			return err
		}
		return checkSource(r.GetStart().GetSource(), first)
	case *handlesv1.OpenConfigRequest:
		if n := r.GetStart().GetSize(); first && (n <= 0 || n > maxConfig) {
			return invalid("start.size", "a Host Configuration of %d bytes; it must have from 1 to %d", n, maxConfig)
		}
		return checkHash("start.sha384", r.GetStart().GetSha384(), 48)
	case *handlesv1.OpenImageRequest:
		return checkImage(r.GetStart(), first)
	}
	return nil
}

func checkSource(source *selfv1.Source, first bool) error {
	upload, isUpload := source.GetFrom().(*selfv1.Source_Upload)
	switch {
	case first && source.GetFrom() == nil:
		return invalid("", "it does not say where the image comes from")
	case isUpload && upload.Upload.GetSize() <= 0:
		return invalid("", "an upload of %d bytes", upload.Upload.GetSize())
	case source.GetMaxBytes() < 0:
		return invalid("start.source.max_bytes", "max_bytes is %d, which is less than 0", source.GetMaxBytes())
	case source.GetMaxBytes() > 0 && (isUpload || source.GetImageHandle() != 0):
		return invalid("start.source.max_bytes", "max_bytes is for an image that the daemon fetches")
	case source.GetSha256() != "" && (source.GetFeed() != nil || source.GetIncoming() != nil):
		return invalid("start.source.sha256", "sha256 is not for the update feed, nor for the incoming folder")
	}
	return checkHash("", source.GetSha256(), 32)
}

func checkImage(start *handlesv1.OpenImageRequest_Start, first bool) error {
	upload, isUpload := start.GetFrom().(*handlesv1.OpenImageRequest_Start_Size)
	switch {
	case first && start.GetFrom() == nil:
		return invalid("start.from", "it does not say where the image comes from")
	case isUpload && (upload.Size <= 0 || upload.Size > maxImage):
		return invalid("start.size", "an upload of %d bytes; it must have from 1 to %d", upload.Size, int64(maxImage))
	case first && handlesv1.ImageKind_name[int32(start.GetKind())] == "" || first && start.GetKind() == 0:
		return invalid("start.kind", "%s is not a kind of image", start.GetKind())
	}
	return checkHash("start.sha384", start.GetSha384(), 48)
}

func checkHash(field, sum string, size int) error {
	if raw, err := hex.DecodeString(sum); sum != "" && (err != nil || len(raw) != size) {
		return invalid(field, "%.120q is not %d hexadecimal digits", sum, 2*size)
	}
	return nil
}
