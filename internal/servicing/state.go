package servicing

import (
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing/change"
)

// unready is why the host cannot be serviced in this phase; nil if it can.
func unready(st change.State) error {
	if _, trying := st.Phase.(hoststate.Trying); !trying {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "the host is in the state %s: what it boots next, or has booted, is on trial", st.Phase.State())
	return unexpected(errkind.WithHint(err, "Reboot it if it has not booted since, then: trident commit"))
}

// plan is what a configuration means for the host as it is.
type plan struct {
	asked  *hostconfig.Config // complete, as it is recorded when it is staged
	runs   *hostconfig.Config // what the host has; Empty for one that is taken into care
	change diff.Change
}

// plan completes a configuration from what the host has and compares the two.
func (s *Service) plan(st change.State, c *hostconfig.Config) (plan, error) {
	asked, report := rules.Effective(st.Runs, c)
	if err := report.Err(); err != nil {
		if invalid := hostconfig.Invalid(err); invalid != nil {
			err = errkind.WithName(err, invalid.Name())
		}
		return plan{}, err
	}
	p := plan{asked: asked, runs: st.Runs}
	if spec := asked.Spec(); st.Runs == nil && spec.Image == nil && len(spec.Storage.Disks) == 0 && len(spec.Storage.Filesystems) == 0 {
		// Somebody else installed it; we take it into care as it is.
		p.runs = hostconfig.Empty()
	}
	if p.runs != nil { // else the hash that is known would be recorded as ignored
		p.asked = withImageHash(p.asked, p.runs)
		asked = p.asked
	}
	var err error
	if p.change, err = diff.Compare(p.runs, change.WithPaths(asked, p.runs)); err != nil {
		return plan{}, errkind.WithName(err, errkind.NameMissingOsImage)
	}
	return p, s.CheckDestinations(p.asked)
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
