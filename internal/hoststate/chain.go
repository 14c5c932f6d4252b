package hoststate

import (
	"iter"
	"slices"

	"github.com/trident-project/trident/internal/version"
)

// A LinkKind says how a rollback is done.
type LinkKind string

// The kinds of links, by upstream's names.
const (
	ABLink      LinkKind = "ab"      // boot the other volume
	RuntimeLink LinkKind = "runtime" // change the running host
)

// A Link is a previous state of this host. A rollback returns the host from the next
// state in the chain to this one.
type Link struct {
	Kind           LinkKind
	Spec           string // as in Status
	ABActiveVolume Volume
	InstallIndex   int

	row int64 // of the status of that state
}

// oldestWithRollback is the first version of upstream that stores on the disk what
// a rollback needs.
const oldestWithRollback = "0.21.0"

// A chain collects the states to which the host can be rolled back, as upstream
// does from its rows of hoststatus.
type chain struct {
	links       []Link // the state of the next rollback first
	lastSettled *row   // the newest row in which the host was settled
	since       servicing
}

// servicing is the kind of servicing since the host was last settled.
type servicing int

const (
	noServicing servicing = iota
	runtimeUpdate
	abUpdate
	rollback
	fellBack // after an update that was not healthy
)

// chainOf returns the links after rows, the oldest row first. It returns none for
// a host that is not settled.
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
	// The other volume holds one state; the states before that were overwritten.
	if i := slices.IndexFunc(c.links, isAB); i >= 0 {
		if j := slices.IndexFunc(c.links[i+1:], isAB); j >= 0 {
			return c.links[:i+1+j]
		}
	}
	return c.links
}

func isAB(l Link) bool { return l.Kind == ABLink }

func (c *chain) add(r row) {
	if r.err != nil || r.ManagementOS { // earlier rows do not say how the host came to this state
		*c = chain{}
		return
	}
	switch r.Phase {
	case Fresh{}, StagedInstall, TryingInstall: // a new host begins
		*c = chain{}
	case StagedABUpdate: // the update overwrites the other volume
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

// settle adds or removes the link of the servicing that ended in r. A failed
// servicing changes no link.
func (c *chain) settle(r row) {
	if c.lastSettled == nil || r.LastError != nil {
		return
	}
	// The staged servicing was given up, and the host has not changed.
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

// removeUsed removes the link that a rollback to r has used, and the links that
// began from the volume that the rollback left.
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

// canRollBack reports whether the version that wrote the row supports rollbacks.
// All versions of this Trident do.
func (r row) canRollBack() bool {
	if r.isOurs {
		return true
	}
	v, err := version.Parse(r.TridentVersion)
	oldest, oerr := version.Parse(oldestWithRollback)
	return err == nil && oerr == nil && version.Compare(v, oldest) >= 0
}
