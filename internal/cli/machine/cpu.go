package machine

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newCPUCommand(a *command.App) *cobra.Command {
	return view[*machinev1.GetCpusResponse]{
		use: "cpu", short: "Show the models and the frequencies of the CPUs",
		example: "  trident host cpu\n  trident host cpu --output wide",
		doing:   "read the CPUs of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.GetCpusResponse, error) {
			return c.System().GetCpus(ctx, &machinev1.GetCpusRequest{})
		},
		write: writeCPUs,
	}.command(a)
}

func writeCPUs(w *terminal.Table, all, _ *machinev1.GetCpusResponse, isWide bool) {
	for i, m := range all.GetModels() {
		count := 0
		for _, c := range all.GetCpus() {
			if int(c.GetModelIndex()) == i {
				count++
			}
		}
		w.Field("Model", "%s", cmp.Or(m.GetName(), m.GetVendor()+" "+m.GetModel()))
		w.Field("CPUs", "%d", count)
		if m.GetCacheBytes() > 0 {
			w.Field("Cache", "%s", size(m.GetCacheBytes()))
		}
		if isWide {
			w.Field("Microcode", "%s", cmp.Or(m.GetMicrocode(), "-"))
			w.Field("Flags", "%s", strings.Join(m.GetFlags(), " "))
			w.Field("Bugs", "%s", strings.Join(m.GetBugs(), " "))
		}
	}
	w.Head("CPU", "PACKAGE", "CORE", "NOW", "LIMITS", "GOVERNOR")
	for _, c := range all.GetCpus() {
		limits := "-"
		if c.GetMaxHertz() > 0 {
			limits = hertz(c.GetMinHertz()) + " to " + hertz(c.GetMaxHertz())
		}
		w.Row(c.GetNumber(), id(c.PackageId), id(c.CoreId), hertz(c.GetCurrentHertz()), limits, cmp.Or(c.GetGovernor(), "-"))
	}
}

func id(n *uint32) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func hertz(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f GHz", float64(n)/1e9)
}
