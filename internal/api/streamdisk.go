package api

import (
	"context"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

type streamingServer struct {
	tridentv1.UnimplementedStreamingServiceServer
	servicer
}

// StreamDisk refuses a malformed URL. A malformed hash fails the operation, as upstream.
func (s *streamingServer) StreamDisk(req *tridentv1.StreamDiskRequest, stream servicingStream) error {
	if u, err := url.Parse(req.GetImageUrl()); err != nil || u.Scheme == "" {
		// The URL may contain a password.
		return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: the image URL is not valid"), "image_url")
	}
	rate, err := numberFromWire(stream.Context(), wire.HeaderBytesPerSecond, "bytes")
	if err != nil {
		return err
	}
	budget, err := numberFromWire(stream.Context(), wire.HeaderDataBudget, "bytes")
	if err != nil {
		return err
	}
	seconds, err := numberFromWire(stream.Context(), wire.HeaderFetchTimeout, "seconds")
	if err != nil {
		return err
	}
	return s.run(stream, req.GetReboot(), func(ctx context.Context, callerReboots bool) (string, error) {
		hash, err := imageHashFromWire(req)
		if err != nil {
			return "", err
		}
		return s.host.StreamDisk(ctx, servicing.StreamRequest{
			URL: req.GetImageUrl(), SHA384: hash, CallerReboots: callerReboots, BytesPerSecond: rate, DataBudget: budget,
			Timeout: time.Duration(min(seconds, int64(maxFetchTime/time.Second))) * time.Second,
		})
	})
}

// maxFetchTime is longer than anyone waits for an image.
const maxFetchTime = 365 * 24 * time.Hour

// numberFromWire returns a number in a request header; 0 without the header.
func numberFromWire(ctx context.Context, header, unit string) (int64, error) {
	given := metadata.ValueFromIncomingContext(ctx, header)
	if len(given) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseInt(given[0], 10, 64)
	if len(given) > 1 || err != nil || n < 1 {
		return 0, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %s must be there once, as a number of %s from 1 on", header, unit), header)
	}
	return n, nil
}

// sha384Prefix begins every hash of an image.
const sha384Prefix = "sha384:"

func imageHashFromWire(req *tridentv1.StreamDiskRequest) (string, error) {
	if req.ImageHash == nil || req.GetImageHash() == servicing.Ignored {
		return servicing.Ignored, nil
	}
	digits, ok := strings.CutPrefix(req.GetImageHash(), sha384Prefix)
	if sum, err := hex.DecodeString(digits); ok && err == nil && len(sum) == 48 {
		return strings.ToLower(digits), nil
	}
	err := errkind.Errorf(errkind.Invalid, "read the hash of the image: it must be %q or %s and 96 hexadecimal digits", servicing.Ignored, sha384Prefix)
	return "", errkind.WithName(err, errkind.NameUnsupportedHashKind)
}

// imageHashToWire omits an empty hash.
func imageHashToWire(sha384 string) *string {
	if sha384 == "" {
		return nil
	}
	text := sha384Prefix + sha384
	return &text
}
