package machine

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newDisksCommand(a *command.App) *cobra.Command {
	return view[*machinev1.ListDisksResponse]{
		use: "disks", short: "List the block devices, where they are mounted, and their use",
		long: `Disks lists the block devices and their partitions, with the bytes that were read and
written since the device appeared. Loop and memory devices without content are only
listed with --output wide, json and yaml.`,
		example: "  trident host disks\n  trident host disks --output wide\n  trident host disks --watch",
		doing:   "list the disks of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.ListDisksResponse, error) {
			return c.System().ListDisks(ctx, &machinev1.ListDisksRequest{})
		},
		write: writeDisks,
	}.command(a)
}

func writeDisks(w *terminal.Table, all, _ *machinev1.ListDisksResponse, isWide bool) {
	head := []string{"DISK", "KIND", "SIZE", "READ", "WRITTEN", "MOUNTED AT"}
	if isWide {
		head = append(head, "BUSY", "READS", "WRITES", "MODEL", "SERIAL", "MEMBERS")
	}
	w.Head(head...)
	for _, d := range all.GetDisks() {
		if d.GetSize() == 0 && !isWide {
			continue
		}
		name, s := d.GetName(), d.GetStatistics()
		if d.GetParent() != "" {
			name = "  " + name
		}
		if d.GetMapperName() != "" {
			name += " (" + d.GetMapperName() + ")"
		}
		row := []any{name, word(d.GetKind(), "BLOCK_KIND_"), size(d.GetSize()), size(s.GetBytesRead()), size(s.GetBytesWritten()), strings.Join(d.GetMountPoints(), ", ")}
		if isWide {
			row = append(row, span(s.GetBusyTime().AsDuration().Round(time.Millisecond)), s.GetReads(), s.GetWrites(), d.GetModel(), d.GetSerial(), strings.Join(d.GetMembers(), ", "))
		}
		w.Row(row...)
	}
}
