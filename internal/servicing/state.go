package servicing

import (
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing/change"
)

// unready returns an error of kind Precondition while a system is on trial, else nil.
func unready(st change.State) error {
	if _, trying := st.Phase.(hoststate.Trying); !trying {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "the host is in the state %s: the system that it boots next, or has booted, is on trial", st.Phase.State())
	return unexpected(errkind.WithHint(err, "Reboot it if it has not booted since, then: trident commit"))
}

// plan is a requested configuration, compared with that of the host.
type plan struct {
	asked  *hostconfig.Config // completed, as it is recorded when it is staged
	runs   *hostconfig.Config // of the host; Empty if Trident accepts the host as it is, nil to install it
	change diff.Change
}

// plan completes c from the configuration of the host and compares the two.
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
		// Another installer made this host; Trident accepts it as it is.
		p.runs = hostconfig.Empty()
	}
	if p.runs != nil { // record the known hash, not "ignored"
		p.asked = withImageHash(p.asked, p.runs)
		asked = p.asked
	}
	var err error
	if p.change, err = diff.Compare(p.runs, change.WithPaths(asked, p.runs)); err != nil {
		return plan{}, errkind.WithName(err, errkind.NameMissingOsImage)
	}
	return p, s.CheckDestinations(p.asked)
}

// reasons returns the reasons of a change, each as a sentence.
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
