package client

import (
	"context"
	"errors"
	"io"

	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// System returns the calls that read the running system of the host. They change nothing; the
// client repeats those without a stream after a lost connection. Require the capability
// "machine-system" for a daemon that may lack them.
func (c *Client) System() machinev1.SystemServiceClient {
	return machinev1.NewSystemServiceClient(c.Conn())
}

// Processes returns the processes of the host, or those of pids that exist.
func (c *Client) Processes(ctx context.Context, pids ...int32) ([]*machinev1.Process, error) {
	stream, err := c.System().ListProcesses(ctx, &machinev1.ListProcessesRequest{Pids: pids})
	if err != nil {
		return nil, err
	}
	return pagesOf(stream.Recv, (*machinev1.ListProcessesResponse).GetProcesses)
}

// Sockets returns the sockets of the host that req selects.
func (c *Client) Sockets(ctx context.Context, req *machinev1.ListSocketsRequest) ([]*machinev1.Socket, error) {
	stream, err := c.System().ListSockets(ctx, req)
	if err != nil {
		return nil, err
	}
	return pagesOf(stream.Recv, (*machinev1.ListSocketsResponse).GetSockets)
}

// pagesOf returns the entries of all messages of a stream.
func pagesOf[R, E any](recv func() (R, error), entries func(R) []E) ([]E, error) {
	var all []E
	for {
		page, err := recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, entries(page)...)
	}
}
