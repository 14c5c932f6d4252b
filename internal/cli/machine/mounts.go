package machine

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newMountsCommand(a *command.App) *cobra.Command {
	return view[*machinev1.ListMountsResponse]{
		use: "mounts", short: "List the mounts and the space in their file systems",
		long: `Mounts lists the mounted file systems. Those without a size of their own, such as proc,
are only listed with --output wide, json and yaml. "no answer" marks a file system
whose server is away.`,
		example: "  trident host mounts\n  trident host mounts --output wide",
		doing:   "list the mounts of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.ListMountsResponse, error) {
			return c.System().ListMounts(ctx, &machinev1.ListMountsRequest{})
		},
		write: writeMounts,
	}.command(a)
}

func writeMounts(w *terminal.Table, all, _ *machinev1.ListMountsResponse, isWide bool) {
	head := []string{"MOUNTED AT", "TYPE", "SIZE", "USED", "AVAILABLE", "USE", "SOURCE"}
	if isWide {
		head = append(head, "OPTIONS")
	}
	w.Head(head...)
	for _, m := range all.GetMounts() {
		if m.Size == nil && !m.GetIsUnresponsive() && !isWide {
			continue
		}
		total, used, available, use := "-", "-", "-", any("-")
		if m.Size != nil {
			taken := less(m.GetSize(), m.GetFree())
			// As df does: of what users other than root can have.
			total, used, available, use = size(m.GetSize()), size(taken), size(m.GetAvailable()), share(float64(taken), float64(taken)+float64(m.GetAvailable()))
		}
		if m.GetIsUnresponsive() {
			use = terminal.WarningCell("no answer")
		}
		row := []any{m.GetTarget(), m.GetType(), total, used, available, use, m.GetSource()}
		if isWide {
			row = append(row, strings.Join(m.GetOptions(), ","))
		}
		w.Row(row...)
	}
}
