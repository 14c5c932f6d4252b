package servicing

import (
	"fmt"
	"log/slog"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/selfservice"
)

// record is what an operation on the host knows. Fields are only ever added, and
// none is a map: another version of Trident may have to carry on with it.
type record struct {
	// Asked is the configuration that the host shall have, as it is recorded when
	// it is staged; Old is the one that it has. Both are YAML.
	Asked string `json:"asked"`
	Old   string `json:"old"`
	// Fresh: the host was never provisioned before.
	Fresh bool `json:"fresh"`
	// Back: it is a rollback.
	Back bool `json:"back"`
	// CallerReboots: see UpdateRequest.
	CallerReboots bool `json:"caller_reboots"`
	// Reasons is why there is something, or nothing, to do; each is a sentence.
	Reasons []string `json:"reasons"`
	// Unstage: what is staged is not wanted any more.
	Unstage bool `json:"unstage"`

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

// teller tells watchers of an operation something.
type teller interface {
	Logf(level slog.Level, format string, args ...any)
}

type (
	opRun  = operation.Run[record]
	opStep = step[record]
)

// work is what a record means, worked out anew by each step that needs it: the
// two configurations, and what leads from one to the other.
type work struct {
	old, asked *hostconfig.Config
	change     diff.Change
}

func (r *record) work() (w work, err error) {
	if w.old, err = hostconfig.ParseRecorded([]byte(r.Old)); err != nil {
		return w, fmt.Errorf("read record: %w", err)
	}
	if w.asked, err = hostconfig.ParseRecorded([]byte(r.Asked)); err != nil {
		return w, fmt.Errorf("read record: %w", err)
	}
	w.change, err = diff.Compare(w.old, withPaths(w.asked, w.old))
	return w, err
}

// changed are the places that the change writes or removes, the network's first.
func (w work) changed() []string {
	return append(w.network(), w.files()...)
}

// network are the places of the network, if it changes.
func (w work) network() []string {
	if !w.change.Netplan {
		return nil
	}
	return []string{osconfig.Netplan, osconfig.CloudInit}
}

// files are the places of the additional files that change.
func (w work) files() []string {
	var out []string
	for _, f := range w.change.Files.Write {
		out = append(out, absolute(f.Destination))
	}
	for _, f := range w.change.Files.Remove {
		out = append(out, absolute(f.Destination))
	}
	return out
}

func absolute(name string) string { return path.Clean("/" + name) }

// hooks are the scripts of a list that a servicing runs.
func hooks(all []hostconfig.Script, on hostconfig.ServicingType) []hostconfig.Script {
	var out []hostconfig.Script
	for _, h := range all {
		if hostconfig.RunsOn(h.RunOn, on) {
			out = append(out, h)
		}
	}
	return out
}

// wanted are the extensions of a configuration.
func wanted(c *hostconfig.Config) []extension.Source {
	var out []extension.Source
	for _, e := range c.Spec().OS.Sysexts {
		out = append(out, extension.Source{Class: extension.Sysext, URL: string(e.URL), SHA384: string(e.SHA384), Path: e.Path})
	}
	for _, e := range c.Spec().OS.Confexts {
		out = append(out, extension.Source{Class: extension.Confext, URL: string(e.URL), SHA384: string(e.SHA384), Path: e.Path})
	}
	return out
}

// recorded are the same by value, without Trident's own.
func recorded(c *hostconfig.Config) []extension.Extension {
	var out []extension.Extension
	for _, s := range wanted(c) {
		if e := (extension.Extension{Class: s.Class, Path: s.Path, SHA384: s.SHA384}); s.Path != ownPath {
			out = append(out, e)
		}
	}
	return out
}

// ownPath is where Trident's own image is found, whatever a configuration says.
const ownPath = sysextDir + "/" + extension.Own + ".raw"

// settledSpec is the configuration with the paths that its extensions got.
func (r *record) settledSpec(asked *hostconfig.Config) *hostconfig.Config {
	places := r.Extensions.New
	if r.Own != "" {
		places = append(slices.Clone(places), extension.Extension{Class: extension.Sysext, Path: ownPath, SHA384: r.Own})
	}
	return withPlaces(asked, places)
}

// withPlaces is c with the paths of the extensions that are there.
func withPlaces(c *hostconfig.Config, there extension.Generation) *hostconfig.Config {
	return c.Amend(func(spec *hostconfig.Spec) {
		fill := func(list []hostconfig.Extension, class extension.Class) {
			for i := range list {
				for _, e := range there {
					if e.Class == class && e.SHA384 == string(list[i].SHA384) {
						list[i].Path = e.Path
					}
				}
			}
		}
		fill(spec.OS.Sysexts, extension.Sysext)
		fill(spec.OS.Confexts, extension.Confext)
	})
}
