package runtime

import (
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing/change"
)

// record is what an operation on the host knows. Fields are only ever added, and
// none is a map: another version of Trident may have to carry on with it.
type record struct {
	// Asked is the configuration that the host shall have, as it is recorded when
	// it is staged; Old is the one that it has. Both are YAML.
	Asked hostconfig.Recorded `json:"asked"`
	Old   hostconfig.Recorded `json:"old"`
	// Fresh: the host was never provisioned before.
	Fresh bool `json:"fresh"`
	// Back: it is a rollback.
	Back bool `json:"back"`
	// CallerReboots: see UpdateRequest.
	CallerReboots bool `json:"caller_reboots"`
	// Reasons is why there is something, or nothing, to do; each is a sentence.
	Reasons []string `json:"reasons"`
	// Unstage: what is staged is not wanted any more.
	Unstage bool `json:"change.Unstage"`

	// Extensions is what changes among them, and Own the hash of Trident's own
	// image, if there is one. They count once Resolved is set.
	Extensions extension.Change `json:"extensions"`
	Own        string           `json:"own"`
	Resolved   bool             `json:"resolved"`
	Checked    bool             `json:"checked"`
	// Upgrade: Trident's own image is another one than what runs; Self is that
	// upgrade's record.
	Upgrade bool               `json:"upgrade"`
	Self    selfservice.Record `json:"self"`

	// Kept is what was at the places that change. It counts once "keep" is done.
	Kept []osconfig.Kept `json:"kept"`
	// What follows is set before what it tells of is begun.
	FilesBegun   bool `json:"files_begun"`
	NetworkBegun bool `json:"network_begun"`
	ApplyBegun   bool `json:"apply_begun"` // of the network
	// EtcOpened: confexts were unmerged, and have to be merged again.
	EtcOpened bool `json:"etc_opened"`
}

type (
	opRun  = operation.Run[record]
	opStep = change.Step[record, planned]
)

// comparison is what a record means: the two configurations, and the change from one to
// the other.
type comparison struct {
	old, asked *hostconfig.Config
	change     diff.Change
}

func (r *record) compare() (w comparison, err error) {
	if w.old, err = r.Old.Config(); err != nil {
		return w, fmt.Errorf("read record: %w", err)
	}
	if w.asked, err = r.Asked.Config(); err != nil {
		return w, fmt.Errorf("read record: %w", err)
	}
	w.change, err = diff.Compare(w.old, change.WithPaths(w.asked, w.old))
	return w, err
}

// changed are the places that the change writes or removes, the network's first.
func (w comparison) changed() []string {
	return append(w.network(), w.files()...)
}

// network are the places of the network, if it changes.
func (w comparison) network() []string {
	if !w.change.Netplan {
		return nil
	}
	return []string{osconfig.Netplan, osconfig.CloudInit}
}

// files are the places of the additional files that change.
func (w comparison) files() []string {
	var out []string
	for _, f := range w.change.Files.Write {
		out = append(out, change.Absolute(f.Destination))
	}
	for _, f := range w.change.Files.Remove {
		out = append(out, change.Absolute(f.Destination))
	}
	return out
}

// settledSpec is the configuration with the paths that its extensions got.
func (r *record) settledSpec(asked *hostconfig.Config) *hostconfig.Config {
	places := r.Extensions.New
	if r.Own != "" {
		places = append(slices.Clone(places), extension.Extension{Class: extension.Sysext, Path: change.OwnPath, SHA384: r.Own})
	}
	return change.WithPlaces(asked, places)
}
