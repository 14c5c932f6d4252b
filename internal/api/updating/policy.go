// Package updating has the calls of the API about the update feed and the policy of the host's
// owner: it converts requests, calls the services, and converts their results.
package updating

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/updates/settings"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// The one setting whose name in the API differs from the name in update.conf.
const (
	maxBytesInAPI  = "max_bytes"
	maxBytesInConf = "maxBytes"
)

// GetPolicy returns the policy in effect and where it comes from. The feed is without secrets.
func (s *Server) GetPolicy(ctx context.Context) (*selfv1.GetPolicyResponse, error) {
	view, err := s.Settings.Read(ctx)
	if err != nil {
		return nil, err
	}
	return &selfv1.GetPolicyResponse{
		Policy: policyToWire(view.Policy), Set: namesToWire(view.Stored), Configured: namesToWire(view.Configured),
	}, nil
}

// SetPolicy stores and resets settings, and returns the policy in effect.
func (s *Server) SetPolicy(ctx context.Context, req *selfv1.SetPolicyRequest) (*selfv1.SetPolicyResponse, error) {
	set, err := namesFromWire("set", req.GetSet())
	if err != nil {
		return nil, err
	}
	reset, err := namesFromWire("reset", req.GetReset_())
	if err != nil {
		return nil, err
	}
	p, err := policyFromWire(req.GetPolicy())
	if err != nil {
		return nil, err
	}
	after, err := s.Settings.Change(ctx, p, set, reset)
	if err != nil {
		if field := errkind.Field(err); field != "" {
			err = errkind.WithField(err, "policy."+nameToWire(field))
		}
		return nil, err
	}
	return &selfv1.SetPolicyResponse{Policy: policyToWire(after)}, nil
}

func nameToWire(name string) string {
	if name == maxBytesInConf {
		return maxBytesInAPI
	}
	return name
}

func namesToWire(names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, nameToWire(name))
	}
	return out
}

func namesFromWire(field string, names []string) ([]string, error) {
	var out, known []string
	for _, name := range settings.Names() {
		known = append(known, nameToWire(name))
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			err := errkind.Errorf(errkind.Invalid, "read the request: %s names %.80q, which is not a setting of the policy", field, name)
			return nil, errkind.WithField(errkind.WithHint(err, "the settings are %s", strings.Join(known, ", ")), field)
		}
		if name == maxBytesInAPI {
			name = maxBytesInConf
		}
		out = append(out, name)
	}
	return out, nil
}

func autoToWire(a updates.Auto) selfv1.Auto {
	switch a {
	case updates.AutoCheck:
		return selfv1.Auto_AUTO_CHECK
	case updates.AutoStage:
		return selfv1.Auto_AUTO_STAGE
	case updates.AutoActivate:
		return selfv1.Auto_AUTO_ACTIVATE
	}
	return selfv1.Auto_AUTO_OFF
}

func autoFromWire(a selfv1.Auto) (updates.Auto, error) {
	switch a {
	case selfv1.Auto_AUTO_UNSPECIFIED:
		return "", nil
	case selfv1.Auto_AUTO_OFF:
		return updates.AutoOff, nil
	case selfv1.Auto_AUTO_CHECK:
		return updates.AutoCheck, nil
	case selfv1.Auto_AUTO_STAGE:
		return updates.AutoStage, nil
	case selfv1.Auto_AUTO_ACTIVATE:
		return updates.AutoActivate, nil
	}
	return "", fault("auto", "%d is not a value of Auto", a)
}

func fault(field, format string, args ...any) error {
	return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: policy.%s: %w", field, errkind.Errorf(errkind.Invalid, format, args...)), "policy."+field)
}

func timeToWire(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func policyToWire(p updates.Policy) *selfv1.Policy {
	out := &selfv1.Policy{Channel: p.Channel, Auto: autoToWire(p.Auto), Pin: p.Pin, MaxBytes: p.MaxBytes}
	if p.Feed != "" {
		out.Feed = fetch.Redact(p.Feed)
	}
	if p.Hold != nil {
		out.Hold = &selfv1.Hold{Until: timeToWire(p.Hold.Until), Reason: p.Hold.Reason}
	}
	if p.Grace != 0 {
		out.Grace = durationpb.New(p.Grace)
	}
	if w := p.Window; w != nil {
		out.Window = &selfv1.Window{Begin: int32(w.Begin), End: int32(w.End), TimeZone: w.TimeZone}
		for _, day := range w.Days {
			out.Window.Days = append(out.Window.Days, int32(day))
		}
	}
	return out
}

func policyFromWire(in *selfv1.Policy) (updates.Policy, error) {
	auto, err := autoFromWire(in.GetAuto())
	if err != nil {
		return updates.Policy{}, err
	}
	out := updates.Policy{Feed: in.GetFeed(), Channel: in.GetChannel(), Auto: auto, Pin: in.GetPin(), MaxBytes: in.GetMaxBytes()}
	if g := in.GetGrace(); g != nil {
		if err := g.CheckValid(); err != nil {
			return out, fault("grace", "%d s is not a duration", g.GetSeconds())
		}
		out.Grace = g.AsDuration()
	}
	if h := in.GetHold(); h != nil {
		out.Hold = &updates.Hold{Reason: h.GetReason()}
		if until := h.GetUntil(); until != nil {
			if err := until.CheckValid(); err != nil {
				return out, fault("hold", "until is %d s after 1970, which is not a time", until.GetSeconds())
			}
			out.Hold.Until = until.AsTime()
		}
	}
	if w := in.GetWindow(); w != nil {
		out.Window = &updates.Window{Begin: int(w.GetBegin()), End: int(w.GetEnd()), TimeZone: w.GetTimeZone()}
		for _, day := range w.GetDays() {
			out.Window.Days = append(out.Window.Days, time.Weekday(day))
		}
	}
	return out, nil
}
