package updating

import (
	"strings"

	"github.com/trident-project/trident/internal/updates"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// Bounds of an answer: a feed decides how many versions it has, and how long their texts are.
const (
	maxOthers  = 500
	maxMessage = 1 << 10 // of a reason, in bytes
)

func reportToWire(r updates.Report) *selfv1.CheckUpdatesResponse {
	out := &selfv1.CheckUpdatesResponse{
		RunningVersion: r.Running, Feed: textToWire(r.Feed), Channel: textToWire(r.Channel), Reasons: reasonsToWire(r.Reasons),
		RefreshTime: timeToWire(r.Refreshed), ExpireTime: timeToWire(r.Expires),
		Auto: autoToWire(r.Auto), AutoReasons: reasonsToWire(r.AutoReasons),
	}
	if r.Offer != nil {
		out.Offer = releaseToWire(*r.Offer)
	}
	for _, other := range r.Others[:min(len(r.Others), maxOthers)] {
		out.Others = append(out.Others, releaseToWire(other))
	}
	return out
}

func releaseToWire(r updates.Release) *selfv1.Release {
	return &selfv1.Release{
		Version: textToWire(r.Version), Size: r.Size, TransferSize: r.TransferSize, PublishTime: timeToWire(r.Published), Staged: r.Staged,
		Reasons: reasonsToWire(r.Reasons),
	}
}

func reasonsToWire(in []updates.Reason) []*selfv1.Reason {
	var out []*selfv1.Reason
	for _, r := range in {
		out = append(out, &selfv1.Reason{Kind: reasonKinds()[r.Kind], Message: textToWire(r.Message), Until: timeToWire(r.Until)})
	}
	return out
}

// textToWire bounds a text, and makes it the UTF-8 that a message needs.
func textToWire(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + " …"
	}
	return strings.ToValidUTF8(s, "?")
}

// reasonKinds has the kinds of reasons in the words of the API.
func reasonKinds() map[updates.Kind]selfv1.ReasonKind {
	return map[updates.Kind]selfv1.ReasonKind{
		updates.NoFeed:       selfv1.ReasonKind_REASON_KIND_NO_FEED,
		updates.Unreachable:  selfv1.ReasonKind_REASON_KIND_FEED_UNREACHABLE,
		updates.Stale:        selfv1.ReasonKind_REASON_KIND_FEED_STALE,
		updates.Untrusted:    selfv1.ReasonKind_REASON_KIND_FEED_UNTRUSTED,
		updates.NoChannel:    selfv1.ReasonKind_REASON_KIND_NO_CHANNEL,
		updates.Current:      selfv1.ReasonKind_REASON_KIND_CURRENT,
		updates.TooOld:       selfv1.ReasonKind_REASON_KIND_TOO_OLD,
		updates.IsBlocked:    selfv1.ReasonKind_REASON_KIND_BLOCKED,
		updates.Architecture: selfv1.ReasonKind_REASON_KIND_ARCHITECTURE,
		updates.OS:           selfv1.ReasonKind_REASON_KIND_OS,
		updates.Held:         selfv1.ReasonKind_REASON_KIND_HELD,
		updates.Pinned:       selfv1.ReasonKind_REASON_KIND_PINNED,
		updates.InWindow:     selfv1.ReasonKind_REASON_KIND_WINDOW,
		updates.InWave:       selfv1.ReasonKind_REASON_KIND_WAVE,
		updates.NeedsVersion: selfv1.ReasonKind_REASON_KIND_NEEDS_VERSION,
		updates.Superseded:   selfv1.ReasonKind_REASON_KIND_SUPERSEDED,
		updates.NeedsPerson:  selfv1.ReasonKind_REASON_KIND_HOST,
		updates.HasFailed:    selfv1.ReasonKind_REASON_KIND_FAILED,
	}
}
