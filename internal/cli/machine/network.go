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

func newNetworkCommand(a *command.App) *cobra.Command {
	return view[*machinev1.ListNetworkDevicesResponse]{
		use: "network", short: "List the network devices, their addresses and their traffic",
		example: "  trident host network\n  trident host network --output wide\n  trident host network --watch",
		doing:   "list the network devices of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.ListNetworkDevicesResponse, error) {
			return c.System().ListNetworkDevices(ctx, &machinev1.ListNetworkDevicesRequest{})
		},
		write: writeDevices,
	}.command(a)
}

func writeDevices(w *terminal.Table, all, _ *machinev1.ListNetworkDevicesResponse, isWide bool) {
	names := map[uint32]string{}
	for _, d := range all.GetDevices() {
		names[d.GetIndex()] = d.GetName()
	}
	head := []string{"DEVICE", "STATE", "RECEIVED", "SENT", "ERRORS", "DROPPED", "ADDRESSES"}
	if isWide {
		head = append(head, "HARDWARE", "MTU", "KIND", "MASTER")
	}
	w.Head(head...)
	for _, d := range all.GetDevices() {
		s := d.GetStatistics()
		state := word(d.GetState(), "LINK_STATE_")
		if !d.GetIsEnabled() {
			state = "disabled"
		}
		row := []any{d.GetName(), state, size(s.GetBytesReceived()), size(s.GetBytesSent()), s.GetReceiveErrors() + s.GetSendErrors(), s.GetReceiveDropped() + s.GetSendDropped(), strings.Join(d.GetAddresses(), ", ")}
		if isWide {
			row = append(row, d.GetHardwareAddress(), d.GetMtu(), d.GetKind(), names[d.GetMasterIndex()])
		}
		w.Row(row...)
	}
}
