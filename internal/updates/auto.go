package updates

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// retryAfter is how long after an attempt that only a person can repair Trident begins the
// next one by itself: it costs a download, and would fail in the same way.
const retryAfter = 24 * time.Hour

// auto returns what Trident may do by itself now with the offer, which may be nil, and why
// that is less than what the policy says.
func (a *answer) auto(offer *offered) (Auto, []Reason) {
	auto := cmp.Or(a.policy.Auto, AutoOff)
	if auto != AutoStage && auto != AutoActivate {
		return auto, nil
	}
	if closed := a.windowReason(); closed != nil {
		return AutoCheck, []Reason{*closed}
	}
	if failed := a.failedReason(offer); failed != nil {
		return AutoCheck, []Reason{*failed}
	}
	if auto == AutoActivate && a.self.Unfit != nil {
		return AutoStage, []Reason{{Kind: NeedsPerson, Message: withHint("this host cannot activate a new version by itself", a.self.Unfit)}}
	}
	return auto, nil
}

// windowReason returns a reason if the time is outside of the owner's window, else nil.
func (a *answer) windowReason() *Reason {
	if a.policy.Window == nil {
		return nil
	}
	inside, next := a.policy.Window.At(a.now)
	if inside {
		return nil
	}
	return &Reason{InWindow, fmt.Sprintf("The time is outside of the owner's window, which begins at %s.", next.Format(time.RFC3339)), next.UTC()}
}

// failedReason returns a reason if the last attempt with the image of offer failed less than
// retryAfter ago, and only a person can change why; else nil.
func (a *answer) failedReason(offer *offered) *Reason {
	f := a.self.Failed
	if f == nil || offer == nil || f.SHA256 != offer.SHA256 && f.Version != offer.Version || !needsPerson(f.Kind) {
		return nil
	}
	until := f.At.Add(retryAfter)
	if !until.After(a.now) {
		return nil
	}
	text := fmt.Sprintf("Trident does not try version %s again by itself before %s; by hand: trident self upgrade --from-feed. ", offer.Version, until.UTC().Format(time.RFC3339))
	text += sentence(fmt.Errorf("the attempt of %s failed: %s", f.At.UTC().Format(time.RFC3339), f.Message))
	return &Reason{HasFailed, text, until.UTC()}
}

// needsPerson reports whether an attempt that failed with kind fails again until a person has
// changed the host, the policy or the feed.
func needsPerson(kind errkind.Kind) bool {
	return slices.Contains([]errkind.Kind{
		errkind.Invalid, errkind.Precondition, errkind.Denied, errkind.Untrusted, errkind.Corrupt, errkind.Incompatible, errkind.Forbidden,
		errkind.TooOld, errkind.NoSpace, errkind.TooLarge, errkind.Unsupported,
	}, kind)
}

// withHint returns what fails and why as a sentence for people, with the hint of err.
func withHint(what string, err error) string {
	text := sentence(fmt.Errorf("%s: %w", what, err))
	if hint := errkind.Hint(err); hint != "" {
		text += " " + sentence(fmt.Errorf("%s", hint))
	}
	return text
}
