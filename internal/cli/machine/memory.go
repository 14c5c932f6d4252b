package machine

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newMemoryCommand(a *command.App) *cobra.Command {
	return view[*machinev1.GetMemoryResponse]{
		use: "memory", short: "Show the use of the memory and of swap",
		long: `Memory shows what /proc/meminfo has. "Available" is what programs can get without swap.
With --output json or yaml all fields are shown, in bytes.`,
		example: "  trident host memory\n  trident host memory --output json",
		doing:   "read the memory of the host",
		ask:     askMemory,
		write: func(w *terminal.Table, m, _ *machinev1.GetMemoryResponse, isWide bool) {
			w.Head("MEMORY", "TOTAL", "USED", "FREE", "AVAILABLE", "CACHED")
			cached := m.GetBuffers() + m.GetCached() + m.GetSReclaimable()
			w.Row("RAM", size(m.GetMemTotal()), size(usedMemory(m)), size(m.GetMemFree()), size(m.GetMemAvailable()), size(cached))
			if m.GetSwapTotal() > 0 {
				w.Row("swap", size(m.GetSwapTotal()), size(less(m.GetSwapTotal(), m.GetSwapFree())), size(m.GetSwapFree()), "-", size(m.GetSwapCached()))
			}
			if !isWide {
				return
			}
			w.Line("")
			w.Field("Dirty", "%s", size(m.GetDirty()))
			w.Field("Shared", "%s", size(m.GetShmem()))
			w.Field("Slab", "%s", size(m.GetSlab()))
			w.Field("Page tables", "%s", size(m.GetPageTables()))
			w.Field("Committed", "%s of %s", size(m.GetCommittedAs()), size(m.GetCommitLimit()))
			w.Field("Huge pages", "%d of %d free, %s each", m.GetHugePagesFree(), m.GetHugePagesTotal(), size(m.GetHugePageSize()))
		},
	}.command(a)
}

func askMemory(ctx context.Context, c *client.Client) (*machinev1.GetMemoryResponse, error) {
	return c.System().GetMemory(ctx, &machinev1.GetMemoryRequest{})
}

// usedMemory is the memory that programs cannot get. Kernels before 3.14 have no "available".
func usedMemory(m *machinev1.GetMemoryResponse) uint64 {
	if m.MemAvailable == nil {
		return less(m.GetMemTotal(), m.GetMemFree())
	}
	return less(m.GetMemTotal(), m.GetMemAvailable())
}

// less returns a - b, 0 if b is more.
func less(a, b uint64) uint64 { return a - min(a, b) }
