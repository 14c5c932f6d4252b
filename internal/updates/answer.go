package updates

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/version"
)

// An answer has what Check decides from, and decides. It does not read anything.
type answer struct {
	now             time.Time
	running, hostID string
	policy          Policy
	channel         string
	self            Self
	host            hostinfo.Host
	catalog         catalog
}

func (a *answer) addReason(kind Kind, message string) {
	a.catalog.faults = append(a.catalog.faults, Reason{Kind: kind, Message: message})
}

// A verdict is a release and why the host does not take it.
type verdict struct {
	offered
	reasons []Reason
}

// verdicts returns the releases of the channel, newest first, each with its reasons, and the
// index of the one that is offered, or -1.
func (a *answer) verdicts() (all []verdict, offer int) {
	offer = -1
	for _, r := range a.ofThisHost() {
		all = append(all, verdict{r, a.reasons(r)})
	}
	if len(a.catalog.faults) > 0 {
		return all, offer
	}
	offer = slices.IndexFunc(all, func(v verdict) bool { return len(v.reasons) == 0 })
	if offer < 0 {
		return all, offer
	}
	for i := range all[offer+1:] {
		v := &all[offer+1+i]
		if compare(v.Version, a.running) > 0 {
			v.reasons = append(v.reasons, Reason{Kind: Superseded, Message: fmt.Sprintf("Version %s is newer, and is offered.", all[offer].Version)})
		}
	}
	return all, offer
}

// ofThisHost returns the releases, newest first. Of one version it leaves out the images for
// other architectures if there is one for this host.
func (a *answer) ofThisHost() []offered {
	all := slices.Clone(a.catalog.releases)
	slices.SortFunc(all, func(x, y offered) int {
		if c := compare(y.Version, x.Version); c != 0 {
			return c
		}
		if c := strings.Compare(y.Version, x.Version); c != 0 { // build metadata
			return c
		}
		if mine := a.host.Architecture; x.Architecture != y.Architecture && (x.Architecture == mine || y.Architecture == mine) {
			return map[bool]int{true: -1, false: 1}[x.Architecture == mine]
		}
		return strings.Compare(x.Architecture, y.Architecture)
	})
	return slices.CompactFunc(all, func(x, y offered) bool { return x.Version == y.Version })
}

// reasons returns why the host does not take r, whatever else the channel has.
func (a *answer) reasons(r offered) (out []Reason) {
	add := func(kind Kind, until time.Time, format string, args ...any) {
		out = append(out, Reason{kind, sentence(fmt.Errorf(format, args...)), until.UTC()})
	}
	none := time.Time{}
	switch {
	case r.Version == a.running:
		add(Current, none, "version %s runs on this host", r.Version)
	case r.Version == a.self.Active:
		add(Current, none, "version %s is active on this host", r.Version)
	case compare(r.Version, a.running) <= 0:
		add(TooOld, none, "version %s is not newer than the running version, %s", r.Version, a.running)
	case a.self.Base != "" && compare(r.Version, a.self.Base) <= 0:
		add(TooOld, none, "version %s is not newer than the base, %s, the oldest version that this host accepts", r.Version, a.self.Base)
	}
	for _, b := range a.self.Blocked {
		if b.Version == r.Version {
			add(IsBlocked, none, "version %s failed on this host before: %s; permit another attempt with: trident self unblock %s", r.Version, b.Reason, r.Version)
		}
	}
	if r.Architecture != a.host.Architecture {
		add(Architecture, none, "the image is for the architecture %s, this host is %s", r.Architecture, a.host.Architecture)
	}
	image := extension.Release{Class: extension.Sysext, Name: extension.Own, Scope: "system", ID: r.OS.ID, VersionID: r.OS.VersionID, SysextLevel: r.OS.SysextLevel}
	if err := image.Fits(a.host); err != nil {
		add(OS, none, "%w", err)
	}
	out = append(out, a.ownersReasons(r)...)
	turn := r.Wave.Reaches(a.hostID, r.Version)
	if r.Wave != nil && a.hostID == "" {
		turn = r.Wave.End // hosts without a machine ID would all have the same turn
	}
	if turn.After(a.now) {
		add(InWave, turn, "the release reaches this host at %s", turn.UTC().Format(time.RFC3339))
	}
	if r.After != "" && compare(a.running, r.After) < 0 {
		add(NeedsVersion, none, "this host has to take version %s, or a newer one before %s, first", r.After, r.Version)
	}
	return out
}

// ownersReasons returns the reasons that are the owner's.
func (a *answer) ownersReasons(r offered) (out []Reason) {
	if h := a.policy.Hold; h != nil && (h.Until.IsZero() || h.Until.After(a.now)) {
		text := "The owner of this host holds new versions back"
		if !h.Until.IsZero() {
			text += " until " + h.Until.UTC().Format(time.RFC3339)
		}
		if h.Reason != "" {
			text += ": " + h.Reason
		}
		out = append(out, Reason{Held, sentence(fmt.Errorf("%s", text)), h.Until})
	}
	if pin := a.policy.Pin; pin != "" && pin != r.Version {
		out = append(out, Reason{Kind: Pinned, Message: fmt.Sprintf("The owner of this host has pinned version %s.", pin)})
	}
	if closed := a.windowReason(); closed != nil {
		out = append(out, *closed)
	}
	return out
}

// report returns the answer of Check.
func (a *answer) report() Report {
	out := Report{
		Running: a.running, Channel: a.channel, Reasons: a.catalog.faults, Refreshed: a.catalog.refreshed, Expires: a.catalog.expires,
	}
	if a.policy.Feed != "" {
		out.Feed = fetch.Redact(a.policy.Feed)
	}
	all, offer := a.verdicts()
	var next *offered
	if offer >= 0 {
		next = &all[offer].offered
	}
	out.Auto, out.AutoReasons = a.auto(next)
	for i, v := range all {
		one := Release{
			Version: v.Version, Size: v.Size, TransferSize: a.transferSize(v.offered), Published: v.Published, Staged: a.isStaged(v.offered), Reasons: v.reasons,
		}
		if i == offer {
			out.Offer = &one
		} else {
			out.Others = append(out.Others, one)
		}
	}
	return out
}

// isStaged reports whether the image of r is in the store.
func (a *answer) isStaged(r offered) bool {
	return slices.Contains(a.self.Images, Image{r.Version, r.RootHash})
}

// transferSize returns how many bytes the host would receive for r.
func (a *answer) transferSize(r offered) int64 {
	if a.isStaged(r) {
		return 0
	}
	size := r.Size
	for _, p := range a.patches(r) {
		size = min(size, p.Size)
	}
	return size
}

// compare compares two versions. A text that is not a version, which a development build may
// have, is older than every version.
func compare(x, y string) int {
	a, aerr := version.Parse(x)
	b, berr := version.Parse(y)
	switch {
	case aerr != nil && berr != nil:
		return 0
	case aerr != nil:
		return -1
	case berr != nil:
		return 1
	}
	return version.Compare(a, b)
}
