// Package updates finds new versions of Trident in an update feed, says why a host does not
// take a version, and does what the policy of the host's owner permits.
package updates

import (
	"time"

	"github.com/trident-project/trident/internal/when"
)

// Auto is what Trident does by itself with a new version.
type Auto string

// Values of Auto. Each includes the ones before it.
const (
	AutoOff      Auto = "off"      // nothing
	AutoCheck    Auto = "check"    // reads the feed, and reports a new version in status and log
	AutoStage    Auto = "stage"    // fetches, verifies and probes it
	AutoActivate Auto = "activate" // activates it on trial
)

// A Policy is what the owner of a host has decided about new versions of Trident. The zero
// value of a field means that the owner has decided nothing.
type Policy struct {
	// Feed is the URL of the feed: http, https or file.
	Feed string `json:"feed,omitempty"`
	// Channel is a channel of the feed; "" means stable.
	Channel string `json:"channel,omitempty"`
	// Auto is what Trident does by itself; "" means off.
	Auto Auto `json:"auto,omitempty"`
	// Hold, if not nil, keeps everything new from this host.
	Hold *Hold `json:"hold,omitempty"`
	// Pin is the only version that this host may take; "" for none.
	Pin string `json:"pin,omitempty"`
	// Window says when Trident may stage and activate by itself; nil means at any time.
	Window *when.Window `json:"window,omitempty"`
	// MaxBytes bounds what one staging may receive over the network, in bytes; 0 for no bound.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// Grace is for how long the image before the previous one stays on this host, as a way
	// back, after a new version is kept; 0 means not at all.
	Grace time.Duration `json:"grace,omitempty"`
	// AllowReadOnlyUsr lets Trident activate a version by itself although a package manager can
	// then not write to /usr.
	AllowReadOnlyUsr bool `json:"allowReadOnlyUsr,omitempty"`
}

// A Hold keeps everything new from a host until a time.
type Hold struct {
	// Until is when the hold ends; the zero time means never.
	Until time.Time `json:"until,omitzero"`
	// Reason is for people.
	Reason string `json:"reason,omitempty"`
}
