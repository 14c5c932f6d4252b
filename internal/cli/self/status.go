package self

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

type statusOptions struct{ app *command.App }

func newStatusCommand(a *command.App, run func(context.Context, *statusOptions) error) *cobra.Command {
	o := &statusOptions{app: a}
	return &cobra.Command{
		Use:   "status",
		Short: "Show the running version of Trident, its origin, and the other versions",
		Example: `  trident self status
  trident self status --output json`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
}

func status(ctx context.Context, o *statusOptions) error {
	return command.Print(ctx, o.app, "ask for the status of Trident", func(c *client.Client) (*client.Status, error) { return c.Status(ctx) }, writeStatus)
}

func writeStatus(w *terminal.Table, s *client.Status) {
	w.Field("Running", "%s, from %s", s.GetRunningVersion(), origin(s))
	w.Field("Base", "%s", cmp.Or(s.GetBaseVersion(), "none"))
	w.Field("Active", "%s", activeText(s))
	w.Field("Rollback to", "%s", cmp.Or(s.GetRollbackTarget(), "nothing"))
	enforced := "not demanded by systemd"
	if s.GetPolicyEnforced() {
		enforced = "demanded by systemd"
	}
	w.Field("Signatures", "%s", enforced)
	if p := s.GetPolicy(); p != nil {
		w.Field("Updates", "%s", policyText(p))
	}
	if op := s.GetOperation(); op != nil {
		w.Field("Operation", "%s %s: %s", op.GetId(), terminal.PhaseOf(op).Text, op.GetSummary())
		terminal.WriteHalt(w, op)
	}
	if last := s.GetLast(); last != nil {
		w.FieldOf("Last", outcomeOf(last))
	}
	if len(s.GetImages()) > 0 {
		w.Head("IMAGE", "SIZE", "STAGED", "ROOT HASH", "USE")
	}
	for _, i := range s.GetImages() {
		w.Row(i.GetVersion(), bytesize.Format(i.GetSize()), terminal.FormatTime(i.GetStagedTime()), short(i.GetRootHash()), use(i.GetActive(), i.GetPrevious()))
	}
	if len(s.GetBlocked()) > 0 {
		w.Head("BLOCKED", "SINCE", "WHY", "EVIDENCE")
	}
	for _, b := range s.GetBlocked() {
		w.Row(b.GetVersion(), terminal.FormatTime(b.GetTime()), b.GetReason(), b.GetEvidence())
	}
	if len(s.GetTrusted()) > 0 {
		w.Head("TRUSTED", "UNTIL", "FINGERPRINT", "FILE")
	}
	for _, c := range s.GetTrusted() {
		w.Row(c.GetSubject(), terminal.FormatTime(c.GetNotAfter()), short(c.GetFingerprint()), c.GetPath())
	}
	if len(s.GetFaults()) > 0 {
		w.Head("FAULT")
	}
	for _, f := range s.GetFaults() {
		w.Line("%s", f)
	}
}

// short returns the beginning of a digest.
func short(digest string) string { return fmt.Sprintf("%.16s…", digest) }

func origin(s *client.Status) string {
	switch s.GetOrigin().String() {
	case "ORIGIN_BASE":
		return "the base"
	case "ORIGIN_EXTENSION":
		return "the extension"
	}
	return "an unknown place"
}

func activeText(s *client.Status) string {
	if s.GetActiveVersion() == "" {
		return "none"
	}
	facts := []string{terminal.Line(s.GetActiveVersion())}
	switch {
	case s.GetMerged() && s.GetVerity():
		facts = append(facts, "merged", "read through dm-verity")
	case s.GetMerged():
		facts = append(facts, "merged", "not read through dm-verity")
	default:
		facts = append(facts, "not merged")
	}
	return strings.Join(facts, ", ")
}

func use(active, previous bool) string {
	switch {
	case active:
		return "active"
	case previous:
		return "previous"
	}
	return "staged"
}
