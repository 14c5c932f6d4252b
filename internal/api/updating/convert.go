package updating

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/when"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

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
	out := &selfv1.Policy{Channel: p.Channel, Auto: autoToWire(p.Auto), Pin: p.Pin, MaxBytes: p.MaxBytes, AllowReadOnlyUsr: p.AllowReadOnlyUsr}
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
	out := updates.Policy{
		Feed: in.GetFeed(), Channel: in.GetChannel(), Auto: auto, Pin: in.GetPin(), MaxBytes: in.GetMaxBytes(), AllowReadOnlyUsr: in.GetAllowReadOnlyUsr(),
	}
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
		out.Window = &when.Window{Begin: int(w.GetBegin()), End: int(w.GetEnd()), TimeZone: w.GetTimeZone()}
		for _, day := range w.GetDays() {
			out.Window.Days = append(out.Window.Days, time.Weekday(day))
		}
	}
	return out, nil
}
