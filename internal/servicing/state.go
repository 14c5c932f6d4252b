package servicing

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
)

// state is what the host is, and what it has staged.
type state struct {
	status hoststate.Status
	phase  hoststate.Phase
	// runs is the configuration that the host has; nil if it was never provisioned.
	runs *hostconfig.Config
	// next is what is staged, or tried; nil if nothing is.
	next *hostconfig.Config
}

func (s *Service) state(ctx context.Context) (state, error) {
	status, err := s.Store.Status(ctx)
	if err != nil {
		return state{}, err
	}
	st := state{status: status, phase: status.Phase}
	runs := status.SpecOld
	switch status.Phase {
	case hoststate.Fresh{}:
		return st, nil
	case hoststate.Settled{}:
		runs = status.Spec
	default:
		if st.next, err = parsedOrEmpty(status.Spec); err != nil {
			return state{}, err
		}
	}
	if status.Phase == hoststate.StagedInstall || status.Phase == hoststate.TryingInstall {
		return st, nil
	}
	st.runs, err = parsedOrEmpty(runs)
	return st, err
}

// parsedOrEmpty is a recorded configuration. An empty one is that of a host that
// was taken into care as it was.
func parsedOrEmpty(text string) (*hostconfig.Config, error) {
	if text == "" {
		return hostconfig.Empty(), nil
	}
	c, err := hostconfig.ParseRecorded([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the recorded configuration: %w", err)
	}
	return c, nil
}

// unready is why the host cannot be serviced in this phase; nil if it can.
func (st state) unready() error {
	if _, trying := st.phase.(hoststate.Trying); !trying {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "the host is in the state %s: what it boots next, or has booted, is on trial", st.phase.State())
	return unexpected(errkind.WithHint(err, "Reboot it if it has not booted since, then: trident commit"))
}

// plan is what a configuration means for the host as it is.
type plan struct {
	asked  *hostconfig.Config // complete, as it is recorded when it is staged
	runs   *hostconfig.Config // what the host has; Empty for one that is taken into care
	change diff.Change
}

// plan completes a configuration from what the host has and compares the two.
func (st state) plan(c *hostconfig.Config) (plan, error) {
	asked, report := rules.Effective(st.runs, c)
	if err := report.Err(); err != nil {
		if invalid := hostconfig.Invalid(err); invalid != nil {
			err = errkind.WithName(err, invalid.Name())
		}
		return plan{}, err
	}
	p := plan{asked: asked, runs: st.runs}
	if spec := asked.Spec(); st.runs == nil && spec.Image == nil && len(spec.Storage.Disks) == 0 && len(spec.Storage.Filesystems) == 0 {
		// Somebody else installed it; we take it into care as it is.
		p.runs = hostconfig.Empty()
	}
	if p.runs != nil { // else the hash that is known would be recorded as ignored
		p.asked = like(p.asked, p.runs)
		asked = p.asked
	}
	var err error
	if p.change, err = diff.Compare(p.runs, withPaths(asked, p.runs)); err != nil {
		return plan{}, errkind.WithName(err, errkind.NameMissingOsImage)
	}
	return p, checkDestinations(p.asked)
}

// reasons tells what a change is made for, as sentences.
func reasons(c diff.Change) []string {
	var out []string
	for _, r := range c.Reasons {
		text := r.Text
		if r.Path != "" {
			text = r.Path + " " + text
		}
		out = append(out, text)
	}
	return out
}

// The folders where an extension is that has no path.
const (
	sysextDir  = "/var/lib/extensions"
	confextDir = "/var/lib/confexts"
)

// withPaths is c with the paths that were found out, and recorded, when what the
// host has was put in place. Without them an extension that stays would look
// like one that moves.
func withPaths(c, runs *hostconfig.Config) *hostconfig.Config {
	if runs == nil {
		return c
	}
	return c.Amend(func(spec *hostconfig.Spec) {
		fill := func(new, old []hostconfig.Extension, dir string) {
			for i := range new {
				n := &new[i]
				j := slices.IndexFunc(old, func(o hostconfig.Extension) bool {
					return o.SHA384 == n.SHA384 && path.Dir(path.Clean(o.Path)) == dir
				})
				if n.Path == "" && j >= 0 {
					n.Path = old[j].Path
				}
			}
		}
		fill(spec.OS.Sysexts, runs.Spec().OS.Sysexts, sysextDir)
		fill(spec.OS.Confexts, runs.Spec().OS.Confexts, confextDir)
	})
}
