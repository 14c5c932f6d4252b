package updates

import (
	"time"
)

// A Report is the answer of Check.
type Report struct {
	Running string
	// Feed is the URL of the feed without its secrets, and Channel the channel.
	Feed, Channel string
	// Offer is the version that this host may take now; nil for none.
	Offer *Release
	// Others are the other versions of the channel, newest first. If the feed cannot be read or
	// trusted, they are those of the last good refresh.
	Others []Release
	// Reasons say why no version is offered, if that does not depend on a version.
	Reasons []Reason
	// Refreshed is when this host last read valid metadata, and Expires until when that
	// metadata is valid; zero for never.
	Refreshed, Expires time.Time
	// Auto is what Trident may do by itself with the offer at this time.
	Auto Auto
	// AutoReasons say why Auto is less than what the policy says.
	AutoReasons []Reason
}

// A Release is one version in the channel.
type Release struct {
	Version string
	// Size is the size of the image, and TransferSize what the host would receive, in bytes.
	Size, TransferSize int64
	Published          time.Time
	Staged             bool // the image is in the store
	// Reasons say why the host does not take the version: every reason that holds.
	Reasons []Reason
}

// A Reason says why the host does not take a version, or why no version is offered.
type Reason struct {
	Kind Kind
	// Message is a sentence for people, without secrets.
	Message string
	// Until is when the reason ends; zero if that is unknown.
	Until time.Time
}

// Kind is the kind of a Reason.
type Kind string

// The kinds of reasons. The first five do not depend on a version.
const (
	NoFeed      Kind = "no-feed"          // the policy names no feed
	Unreachable Kind = "feed-unreachable" // the feed cannot be reached
	Stale       Kind = "feed-stale"       // the metadata has expired
	Untrusted   Kind = "feed-untrusted"   // the metadata is malformed, too large, rolled back, or not signed by a trusted key
	NoChannel   Kind = "no-channel"       // the feed does not have the channel

	Current      Kind = "current"       // the version runs, or is active
	TooOld       Kind = "too-old"       // older than the running version, or than the base
	IsBlocked    Kind = "blocked"       // the version failed on this host
	Architecture Kind = "architecture"  // the image is for another architecture
	OS           Kind = "os"            // the image is for another operating system
	Held         Kind = "held"          // the owner holds new versions back
	Pinned       Kind = "pinned"        // the owner has pinned another version
	InWindow     Kind = "window"        // the time is outside of the owner's window
	InWave       Kind = "wave"          // the release has not reached this host
	NeedsVersion Kind = "needs-version" // the host has to take another version first
	Superseded   Kind = "superseded"    // a newer version is offered

	// The kinds of reasons that only keep Trident from doing something by itself.

	NeedsPerson Kind = "host"   // this host cannot activate a version until a person has changed something
	HasFailed   Kind = "failed" // the last attempt failed for a reason that only a person can change
)
