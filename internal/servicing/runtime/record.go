package runtime

import (
	"context"
	"encoding/json"
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

// record is the state of an operation in the journal. It is shared between versions: add
// fields, never rename, remove or retype one. No field is a map.
type record struct {
	// Asked is the requested configuration, as it is recorded when it is staged;
	// Old is the one that the host has. Both are YAML.
	Asked   hostconfig.Recorded `json:"asked"`
	Old     hostconfig.Recorded `json:"old"`
	Purpose purpose             `json:"-"` // see MarshalJSON
	// CallerReboots: see UpdateRequest.
	CallerReboots bool `json:"caller_reboots"`
	// Reasons are why there is something, or nothing, to do; each is a sentence.
	Reasons []string `json:"reasons"`

	// Extensions is the change of extensions; Own is the hash of Trident's own image,
	// or "". Both are valid once Resolved is true.
	Extensions extension.Change `json:"extensions"`
	Own        string           `json:"own"`
	Resolved   bool             `json:"resolved"`
	Checked    bool             `json:"checked"`
	// Upgrade: Trident's own image is not the running version; Self is the record of
	// the upgrade.
	Upgrade bool               `json:"upgrade"`
	Self    selfservice.Record `json:"self"`

	// Kept is the previous state of the files that change, valid once "keep" is done.
	Kept []osconfig.Kept `json:"kept"`
	// Each of these is journaled as true before its change begins.
	FilesBegun   bool `json:"files_begun"`
	NetworkBegun bool `json:"network_begun"`
	ApplyBegun   bool `json:"apply_begun"` // of the network
	// EtcOpened: confexts were unmerged, and have to be merged again.
	EtcOpened bool `json:"etc_opened"`
}

// A purpose is what an operation is for.
type purpose int

const (
	updates  purpose = iota // or only logs why there is nothing to do
	adopts                  // updates a host that was never provisioned before
	goesBack                // rolls the host back
	unstages                // discards what is staged
)

// plainRecord is record without its methods.
type plainRecord record

// journaled is record in the journal, where other releases read the purpose in three fields.
type journaled struct {
	*plainRecord
	Fresh   bool `json:"fresh"`
	Back    bool `json:"back"`
	Unstage bool `json:"unstage"`
}

// MarshalJSON writes the purpose as the fields that other releases read.
func (r record) MarshalJSON() ([]byte, error) {
	return json.Marshal(journaled{(*plainRecord)(&r), r.Purpose == adopts, r.Purpose == goesBack, r.Purpose == unstages})
}

// UnmarshalJSON reads what MarshalJSON, or an earlier release, wrote.
func (r *record) UnmarshalJSON(text []byte) error {
	in := journaled{plainRecord: (*plainRecord)(r)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	switch r.Purpose = updates; {
	case in.Fresh:
		r.Purpose = adopts
	case in.Back:
		r.Purpose = goesBack
	case in.Unstage:
		r.Purpose = unstages
	}
	return nil
}

type (
	opRun  = operation.Run[record]
	opStep = change.Step[record, planned]
)

// comparison has the two configurations of a record, and the change from one to the other.
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

// compared returns a Do or an Undo that calls do with the configurations of the record.
func compared(do func(context.Context, *opRun, comparison) error) func(context.Context, *opRun) error {
	return func(ctx context.Context, r *opRun) error {
		w, err := r.State.compare()
		if err != nil {
			return err
		}
		return do(ctx, r, w)
	}
}

// changed returns the paths that the change writes or removes, the network's first.
func (w comparison) changed() []string {
	return append(w.network(), w.files()...)
}

// network returns the paths of the network's files, if the network changes.
func (w comparison) network() []string {
	if !w.change.Netplan {
		return nil
	}
	return []string{osconfig.Netplan, osconfig.CloudInit}
}

// files returns the paths of the additional files that change.
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

// settledSpec returns asked with the paths that its extensions got.
func (r *record) settledSpec(asked *hostconfig.Config) *hostconfig.Config {
	places := r.Extensions.New
	if r.Own != "" {
		places = append(slices.Clone(places), extension.Extension{Class: extension.Sysext, Path: change.OwnPath, SHA384: r.Own})
	}
	return change.WithPlaces(asked, places)
}
