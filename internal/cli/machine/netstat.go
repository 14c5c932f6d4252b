package machine

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type netstatOptions struct {
	watchOptions
	app            *command.App
	tcp, udp, unix bool
	listening      bool
	processes      bool
}

func newNetstatCommand(a *command.App, run func(context.Context, *netstatOptions) error) *cobra.Command {
	o := &netstatOptions{app: a}
	cmd := &cobra.Command{
		Use:   "netstat",
		Short: "List the sockets of the host, by default those of TCP and UDP",
		Example: `  trident host netstat
  trident host netstat --listening --processes
  trident host netstat --tcp --watch
  trident host netstat --unix --output json`,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd, a); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().BoolVarP(&o.tcp, "tcp", "t", false, "only sockets of the protocols that are given: TCP")
	cmd.Flags().BoolVarP(&o.udp, "udp", "u", false, "… UDP")
	cmd.Flags().BoolVarP(&o.unix, "unix", "x", false, "… unix")
	cmd.Flags().BoolVarP(&o.listening, "listening", "l", false, "only sockets that wait for connections or datagrams")
	cmd.Flags().BoolVarP(&o.processes, "processes", "p", false, "find the process of each socket, which takes longer")
	return cmd
}

func (o *netstatOptions) request() *machinev1.ListSocketsRequest {
	req := &machinev1.ListSocketsRequest{WithProcesses: o.processes}
	if !o.tcp && !o.udp && !o.unix {
		o.tcp, o.udp = true, true
	}
	for _, p := range []struct {
		wanted   bool
		protocol machinev1.SocketProtocol
	}{
		{o.tcp, machinev1.SocketProtocol_SOCKET_PROTOCOL_TCP}, {o.udp, machinev1.SocketProtocol_SOCKET_PROTOCOL_UDP},
		{o.unix, machinev1.SocketProtocol_SOCKET_PROTOCOL_UNIX},
	} {
		if p.wanted {
			req.Protocols = append(req.Protocols, p.protocol)
		}
	}
	if o.listening {
		req.States = []machinev1.SocketState{machinev1.SocketState_SOCKET_STATE_LISTEN}
		if o.udp { // UDP has no such state
			req.States = append(req.States, machinev1.SocketState_SOCKET_STATE_CLOSED)
		}
	}
	return req
}

func netstat(ctx context.Context, o *netstatOptions) error {
	return view[*machinev1.ListSocketsResponse]{
		doing: "list the sockets of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.ListSocketsResponse, error) {
			all, err := c.Sockets(ctx, o.request())
			return &machinev1.ListSocketsResponse{Sockets: all}, err
		},
		write: func(w *terminal.Table, all, _ *machinev1.ListSocketsResponse, _ bool) { o.write(w, all) },
	}.run(ctx, o.app, &o.watchOptions)
}

func (o *netstatOptions) write(w *terminal.Table, all *machinev1.ListSocketsResponse) {
	head := []string{"PROTOCOL", "STATE", "RECEIVE", "SEND", "LOCAL", "REMOTE"}
	if o.processes {
		head = append(head, "PROCESS")
	}
	w.Head(head...)
	for _, s := range all.GetSockets() {
		protocol := word(s.GetProtocol(), "SOCKET_PROTOCOL_")
		if s.GetIsIpv6() {
			protocol += "6"
		}
		row := []any{protocol, word(s.GetState(), "SOCKET_STATE_"), s.GetReceiveQueue(), s.GetSendQueue(), endpoint(s, s.GetLocalAddress(), s.GetLocalPort()), endpoint(s, s.GetRemoteAddress(), s.GetRemotePort())}
		if o.processes {
			process := "-"
			if s.GetPid() != 0 {
				process = fmt.Sprintf("%d %s", s.GetPid(), s.GetCommand())
			}
			row = append(row, process)
		}
		w.Row(row...)
	}
}

// endpoint returns an address with its port; "*" is any.
func endpoint(s *machinev1.Socket, address string, port uint32) string {
	if s.GetProtocol() == machinev1.SocketProtocol_SOCKET_PROTOCOL_UNIX {
		return address
	}
	text := "*"
	if port != 0 {
		text = strconv.FormatUint(uint64(port), 10)
	}
	return net.JoinHostPort(address, text)
}
