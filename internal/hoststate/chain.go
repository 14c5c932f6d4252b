package hoststate

import (
	"iter"
	"slices"

	"github.com/trident-project/trident/internal/version"
)

// LinkKind is how a rollback is done.
type LinkKind string

// The kinds of links, by upstream's names.
const (
	ABLink      LinkKind = "ab"      // boot the other volume
	RuntimeLink LinkKind = "runtime" // change the running host
)

// A Link is one state of this host that it can be rolled back to from the one
// after it.
type Link struct {
	Kind           LinkKind
	Spec           string // as in Status
	ABActiveVolume Volume
	InstallIndex   int

	row int64 // of the status that it goes back to
}

// oldestWithRollback is the first version of upstream that keeps on the disk what a
// rollback needs.
const oldestWithRollback = "0.21.0"

// A chain is the ways back after a number of rows (reference, 4.9).
type chain struct {
	links       []Link // the next first
	lastSettled *row   // the newest row in which the host was settled
	since       servicing
}

// servicing is what happened since the host was settled.
type servicing int

const (
	noServicing servicing = iota
	runtimeUpdate
	abUpdate
	rollback
	fellBack // of an update that was not healthy
)

// chainOf goes through rows, the oldest first. A host that is not settled cannot
// be rolled back.
func chainOf(rows iter.Seq[row]) []Link {
	var c chain
	newest := int64(-1)
	for r := range rows {
		c.add(r)
		newest = r.Row
	}
	if c.lastSettled == nil || c.lastSettled.Row != newest {
		return nil
	}
	// The other volume holds one state; what the one before it held is gone.
	if i := slices.IndexFunc(c.links, isAB); i >= 0 {
		if j := slices.IndexFunc(c.links[i+1:], isAB); j >= 0 {
			return c.links[:i+1+j]
		}
	}
	return c.links
}

func isAB(l Link) bool { return l.Kind == ABLink }

func (c *chain) add(r row) {
	if r.err != nil || r.ManagementOS { // whatever was before, nobody knows how it led here
		*c = chain{}
		return
	}
	switch r.Phase {
	case Fresh{}, StagedInstall, TryingInstall: // another host begins
		*c = chain{}
	case StagedABUpdate: // the other volume is written over
		c.since = abUpdate
		if v := r.ABActiveVolume; v != "" {
			c.removeLinks(func(l Link) bool { return l.ABActiveVolume != v })
		}
	case TryingABUpdate:
		c.since = abUpdate
	case TryingABUpdateFailed:
		c.since = fellBack
	case StagedRuntimeUpdate:
		c.since = runtimeUpdate
	case StagedABRollback, StagedRuntimeRollback, TryingABRollback:
		c.since = rollback
	case Settled{}:
		c.settle(r)
		c.lastSettled, c.since = &r, noServicing
	}
}

// settle adds or takes away what the servicing that ended in r is worth. One
// that failed is worth nothing: the host is where it was.
func (c *chain) settle(r row) {
	if c.lastSettled == nil || r.LastError != nil {
		return
	}
	// What was staged was given up, and the host is where it was.
	if r.Spec == c.lastSettled.Spec && r.ABActiveVolume == c.lastSettled.ABActiveVolume {
		return
	}
	kind := RuntimeLink
	switch c.since {
	case noServicing, fellBack:
		return
	case rollback:
		c.removeUsed(r)
		return
	case abUpdate:
		kind = ABLink
	}
	if c.lastSettled.canRollBack() && r.canRollBack() {
		l := Link{Kind: kind, Spec: c.lastSettled.Spec, ABActiveVolume: c.lastSettled.ABActiveVolume, InstallIndex: c.lastSettled.InstallIndex, row: c.lastSettled.Row}
		c.links = slices.Insert(c.links, 0, l)
	}
}

// removeUsed takes away the link that a rollback to r has used, and those that began
// from a volume that was left.
func (c *chain) removeUsed(r row) {
	if previous := c.lastSettled.ABActiveVolume; previous != r.ABActiveVolume {
		c.removeLinks(func(l Link) bool { return l.ABActiveVolume == previous })
	}
	i := slices.IndexFunc(c.links, func(l Link) bool { return l.ABActiveVolume == r.ABActiveVolume })
	if i >= 0 {
		c.links = slices.Delete(c.links, i, i+1)
	}
}

func (c *chain) removeLinks(out func(Link) bool) { c.links = slices.DeleteFunc(c.links, out) }

// canRollBack reports whether a row is of a version that can roll back. All of ours
// can, whatever they are numbered.
func (r row) canRollBack() bool {
	if r.isOurs {
		return true
	}
	v, err := version.Parse(r.TridentVersion)
	oldest, oerr := version.Parse(oldestWithRollback)
	return err == nil && oerr == nil && version.Compare(v, oldest) >= 0
}
