package client

import machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"

// Units returns the calls that list, show, start, stop and restart units of the host.
func (c *Client) Units() machinev1.UnitServiceClient {
	return machinev1.NewUnitServiceClient(c.Conn())
}

// Logs returns the calls that read the journal, the log of the kernel and the events. A stream
// ends with its connection: call again with the last cursor or sequence number.
func (c *Client) Logs() machinev1.LogServiceClient { return machinev1.NewLogServiceClient(c.Conn()) }

// Files returns the calls that list, read and copy files.
func (c *Client) Files() machinev1.FileServiceClient {
	return machinev1.NewFileServiceClient(c.Conn())
}

// Capture returns the call that records packets.
func (c *Client) Capture() machinev1.CaptureServiceClient {
	return machinev1.NewCaptureServiceClient(c.Conn())
}

// Power returns the calls that reboot the host and switch it off.
func (c *Client) Power() machinev1.PowerServiceClient {
	return machinev1.NewPowerServiceClient(c.Conn())
}
