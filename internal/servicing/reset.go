package servicing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/runtime"
)

// ResetPlan is what Reset would do to this host.
type ResetPlan struct {
	Plan
	// Stays has what a configuration has brought to the host and a reset leaves there, each
	// as the key of the configuration and a word for people.
	Stays []string
	// HostName is the name of the host.
	HostName string
	// Confirmation is the token that Reset needs. It is that of this plan on this host: a host
	// that has changed, and another host, have another one.
	Confirmation string
}

// NothingToReset says why a plan has no steps.
const NothingToReset = "This host is not provisioned: there is nothing to reset."

// String returns the plan for people, in several lines.
func (p *ResetPlan) String() string {
	var b strings.Builder
	if p.Kind == None {
		b.WriteString(NothingToReset + "\n")
		return b.String()
	}
	b.WriteString(p.Plan.String())
	if len(p.Stays) > 0 {
		b.WriteString("What stays:\n")
	}
	for _, s := range p.Stays {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	return b.String()
}

// PlanReset returns what Reset would do to this host, and changes nothing. It fails with
// Precondition during a trial, and as the operation would before its first change.
func (s *Service) PlanReset(ctx context.Context) (*ResetPlan, error) {
	st, err := s.State(ctx)
	if err == nil {
		err = unready(st)
	}
	if err != nil {
		return nil, wrap("plan reset", err)
	}
	p, err := s.planReset(ctx, st)
	return p, wrap("plan reset", err)
}

// Reset begins to take the host out of service: it removes the extensions, the files and the
// network of its configuration, and records the host as not provisioned. confirmation is that
// of the present plan. On a host that was never provisioned the operation only logs that.
//
// Errors: of kind Invalid without a confirmation, Precondition if the confirmation is not that
// of the present plan, or during a trial, Busy.
func (s *Service) Reset(ctx context.Context, confirmation string) (operationID string, err error) {
	id, err := s.decide(ctx, func(st change.State) (change.Begin, error) {
		p, err := s.planReset(ctx, st)
		const hint = "Read the plan, and repeat its confirmation: trident host reset --plan"
		switch {
		case err != nil:
			return nil, err
		case confirmation == "":
			return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "the confirmation is missing"), hint)
		case confirmation != p.Confirmation:
			return nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "the confirmation %.32q is not that of the present plan: the host has changed, or it is another host", confirmation), hint)
		case st.Phase == hoststate.StagedInstall:
			return s.runtime.Nothing(nil, true, "an installation was staged, and the host was never provisioned"), nil
		case st.Runs == nil:
			return s.nothing(st, "the host was never provisioned: there is nothing to reset"), nil
		}
		return s.runtime.Reset(st.Runs), nil
	})
	return id, wrap("reset the host", err)
}

func (s *Service) planReset(ctx context.Context, st change.State) (*ResetPlan, error) {
	out := &ResetPlan{Plan: Plan{Kind: runtime.OpReset}}
	var err error
	if out.HostName, err = os.Hostname(); err != nil {
		return nil, err
	}
	switch {
	case st.Phase == hoststate.StagedInstall:
		out.Steps = []PlannedStep{{Name: "look", Effects: []Effect{{Kind: "discard-staged", Text: "forget the installation that is staged; its disks stay as they are"}}}}
	case st.Runs == nil:
		out.Kind = None
	default:
		if err := s.planRuntimeReset(ctx, st, out); err != nil {
			return nil, err
		}
	}
	out.Confirmation, err = s.confirmation(st, out)
	return out, err
}

func (s *Service) planRuntimeReset(ctx context.Context, st change.State, out *ResetPlan) error {
	chain, err := s.Chain(ctx)
	if err != nil {
		return err
	}
	if err := s.runtime.PlanReset(ctx, st.Runs, len(chain), &out.Plan); err != nil {
		return err
	}
	if _, staged := st.Phase.(hoststate.Staged); staged {
		begin := PlannedStep{Name: "begin", Effects: []Effect{{Kind: "discard-staged", Text: "forget the servicing that is staged"}}}
		out.Steps = append([]PlannedStep{begin}, out.Steps...)
	}
	out.Stays = staysAfterReset(st.Runs)
	if st.Runs.Spec().OS.Netplan != nil {
		out.Warnings = append(out.Warnings, "the host loses the network of its configuration: afterwards only its console may reach it")
	}
	return nil
}

// staysAfterReset returns what of a configuration a reset leaves on the host.
func staysAfterReset(c *hostconfig.Config) []string {
	spec := c.Spec()
	var out []string
	for _, part := range []struct {
		isSet bool
		text  string
	}{
		{spec.Image != nil, "image: the operating system of the running slot, and that of the other slot"},
		{len(spec.Storage.Disks) > 0, "storage: partitions, arrays, encrypted volumes and their data"},
		{len(spec.OS.Users) > 0, "os.users: the users and their keys"},
		{spec.OS.Hostname != "", "os.hostname: the name of the host"},
		{len(spec.OS.Modules) > 0, "os.modules: the settings of kernel modules"},
		{len(spec.OS.Services.Enable)+len(spec.OS.Services.Disable) > 0, "os.services: the units that are enabled or disabled"},
		{len(spec.OS.KernelCommandLine.ExtraCommandLine) > 0, "os.kernelCommandLine: the command line of the kernel"},
		{spec.OS.SELinux.Mode != "", "os.selinux: the mode of SELinux"},
		{hasScripts(spec.Scripts), "scripts: what the scripts have changed"},
	} {
		if part.isSet {
			out = append(out, part.text)
		}
	}
	return append(out, "Trident itself, its settings, and its record of earlier operations and configurations")
}

func hasScripts(s hostconfig.Scripts) bool {
	return len(s.PreServicing)+len(s.PostProvision)+len(s.PostConfigure) > 0
}

// confirmation returns the token of a plan: 16 digits of the hash of the plan, of the
// recorded status, and of the identity of this host.
func (s *Service) confirmation(st change.State, p *ResetPlan) (string, error) {
	status, err := st.Status.YAML()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(struct {
		Host, Name, Status string
		Steps              []PlannedStep
		Stays, Warnings    []string
	}{s.HostID(), p.HostName, string(status), p.Steps, p.Stays, p.Warnings})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}
