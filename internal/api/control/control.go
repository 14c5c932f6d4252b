// Package control has the calls about units, logs, files, packets, power and mounts of the host. It
// converts requests, calls the packages below internal/machine, and converts their results.
package control

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/machine/capture"
	"github.com/trident-project/trident/internal/machine/files"
	"github.com/trident-project/trident/internal/machine/logs"
	"github.com/trident-project/trident/internal/machine/mounts"
	"github.com/trident-project/trident/internal/machine/power"
	"github.com/trident-project/trident/internal/machine/units"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// Services are what the calls call.
type Services struct {
	Units   *units.Service
	Logs    *logs.Service
	Events  *logs.Events
	Files   *files.Service
	Capture *capture.Service
	Power   *power.Service
	Mounts  *mounts.Service
}

// Register registers the services of the API with r. caller returns the process that makes the
// call of a context, or 0.
func (s *Services) Register(r grpc.ServiceRegistrar, caller func(context.Context) int32) {
	machinev1.RegisterUnitServiceServer(r, &unitServer{units: s.Units})
	machinev1.RegisterLogServiceServer(r, &logServer{logs: s.Logs, events: s.Events})
	machinev1.RegisterFileServiceServer(r, &fileServer{files: s.Files})
	machinev1.RegisterCaptureServiceServer(r, &captureServer{capture: s.Capture, caller: caller})
	machinev1.RegisterPowerServiceServer(r, &powerServer{power: s.Power})
	machinev1.RegisterMountServiceServer(r, &mountServer{mounts: s.Mounts})
}

// text returns s as protobuf accepts it: each byte that is not UTF-8 becomes \xNN.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&out, `\x%02x`, s[0])
		} else {
			out.WriteRune(r)
		}
		s = s[size:]
	}
	return out.String()
}

// stamp returns nil for the zero time.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return text(err.Error())
}
