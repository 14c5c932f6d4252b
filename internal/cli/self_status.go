package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

type selfStatusOptions struct{ app *app }

func newSelfStatusCommand(a *app, run func(context.Context, *selfStatusOptions) error) *cobra.Command {
	o := &selfStatusOptions{app: a}
	return &cobra.Command{
		Use:   "status",
		Short: "Show which Trident runs, where it comes from, and what else is there",
		Example: `  trident self status
  trident self status --output json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
}

func selfStatus(ctx context.Context, o *selfStatusOptions) error {
	return o.app.ask(ctx, "ask for the status of Trident", func(c *client.Client) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		return o.app.show(s, func(w io.Writer) { writeStatus(w, s) })
	})
}

func writeStatus(w io.Writer, s *client.Status) {
	fmt.Fprintf(w, "Running\t%s, from %s\n", line(s.GetRunningVersion()), origin(s))
	fmt.Fprintf(w, "Base\t%s\n", line(cmp.Or(s.GetBaseVersion(), "none")))
	fmt.Fprintf(w, "Active\t%s\n", activeText(s))
	fmt.Fprintf(w, "Rollback to\t%s\n", line(cmp.Or(s.GetRollbackTarget(), "nothing")))
	enforced := "not demanded by systemd"
	if s.GetPolicyEnforced() {
		enforced = "demanded by systemd"
	}
	fmt.Fprintf(w, "Signatures\t%s\n", enforced)
	if op := s.GetOperation(); op != nil {
		fmt.Fprintf(w, "Operation\t%s %s: %s\n", line(op.GetId()), phaseOf(op), line(op.GetSummary()))
		if h := op.GetHalt(); h != nil {
			fmt.Fprintf(w, "Halted\tsince %s: %s\n", when(h.GetSince()), line(h.GetCause().GetMessage()))
			fmt.Fprintf(w, "Hint\t%s\n", line(haltHint(h)))
		}
	}
	if last := s.GetLast(); last != nil {
		fmt.Fprintf(w, "Last\t%s\n", outcomeText(last))
	}
	if len(s.GetImages()) > 0 {
		fmt.Fprintln(w, "\nIMAGE\tSIZE\tSTAGED\tROOT HASH\tUSE")
	}
	for _, i := range s.GetImages() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.16s…\t%s\n", line(i.GetVersion()), size(i.GetSize()), when(i.GetStagedTime()), line(i.GetRootHash()), use(i.GetActive(), i.GetPrevious()))
	}
	if len(s.GetBlocked()) > 0 {
		fmt.Fprintln(w, "\nBLOCKED\tSINCE\tWHY\tEVIDENCE")
	}
	for _, b := range s.GetBlocked() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", line(b.GetVersion()), when(b.GetTime()), line(b.GetReason()), line(b.GetEvidence()))
	}
	if len(s.GetTrusted()) > 0 {
		fmt.Fprintln(w, "\nTRUSTED\tUNTIL\tFINGERPRINT\tFILE")
	}
	for _, c := range s.GetTrusted() {
		fmt.Fprintf(w, "%s\t%s\t%.16s…\t%s\n", line(c.GetSubject()), when(c.GetNotAfter()), line(c.GetFingerprint()), line(c.GetPath()))
	}
	if len(s.GetFaults()) > 0 {
		fmt.Fprintln(w, "\nFAULT")
	}
	for _, f := range s.GetFaults() {
		fmt.Fprintln(w, line(f))
	}
}

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
	facts := []string{line(s.GetActiveVersion())}
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
