// Package feed has the format of an update feed: a folder on a file server that
// systemd-sysupdate and Trident both read.
//
//	stable/x86-64/SHA256SUMS                         for systemd-sysupdate (sysupdate.d(5))
//	stable/x86-64/SHA256SUMS.gpg                     its signature
//	stable/x86-64/trident_2.0.0_x86-64.raw           an image of Trident
//	stable/x86-64/trident_1.0.0_2.0.0_x86-64.patch   makes that image from the image of 1.0.0
//	tuf/1.root.json, tuf/timestamp.json, …           metadata of The Update Framework
//
// A channel (stable) is a folder, and a delegated role of the metadata. The path of an image in
// the feed is the name of its target, and the custom metadata of the target has the [Release].
// The feed says which version is current, until when, and for whom. Trust in an image never
// comes from the feed, but from the signature in the image.
package feed

import (
	"encoding/json"
	"time"
)

// Metadata is the folder of the metadata of The Update Framework, below the URL of the feed.
const Metadata = "tuf"

// CustomKey is the key of a [Release] in the custom metadata of a target.
const CustomKey = "trident"

// MaxChannel is the most bytes of the metadata of a channel that hosts read.
const MaxChannel = 2 << 20

// A Release is what the feed says of one image. Readers ignore fields that they do not know.
type Release struct {
	// Version is the version of Trident in the image, by Semantic Versioning 2.0.0.
	Version string `json:"version"`
	// Architecture is the architecture in systemd's words: x86-64, arm64.
	Architecture string `json:"architecture"`
	// RootHash is the root hash of the image's verity tree, 64 hexadecimal digits.
	RootHash string `json:"rootHash"`
	// OS has the fields of the image's extension-release file that say on which hosts
	// systemd merges it: ID, VERSION_ID, SYSEXT_LEVEL.
	OS OS `json:"os"`
	// Published is when the image was added to the channel.
	Published time.Time `json:"published"`
	// After is the version that a host must run at least before it may take this one; ""
	// for every version.
	After string `json:"after,omitempty"`
	// Wave delays the release on a part of the hosts; nil for none.
	Wave *Wave `json:"wave,omitempty"`
	// Patches make the image from the image of another version.
	Patches []Patch `json:"patches,omitempty"`
}

// OS are fields of an extension-release file (os-release(5), systemd-sysext(8)).
type OS struct {
	ID          string `json:"id,omitempty"`
	VersionID   string `json:"versionId,omitempty"`
	SysextLevel string `json:"sysextLevel,omitempty"`
}

// A Wave delays a release on a part of the hosts. The fraction of hosts that may take the
// release is First at Begin, and grows evenly to all hosts at End.
type Wave struct {
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	// First is in hosts of 10,000.
	First int `json:"first"`
}

// A Patch is a file of the feed that makes an image from the image of version From.
type Patch struct {
	From string `json:"from"`
	// Path is below the URL of the feed.
	Path string `json:"path"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// SHA256 has 64 hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// Custom returns the custom metadata of a target with r.
func (r Release) Custom() (json.RawMessage, error) {
	return json.Marshal(map[string]Release{CustomKey: r})
}
