package provision

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/isopatch"
)

// agentPaths are the placeholders for the configuration of the agent: those of live images of
// upstream's, and of ours.
var agentPaths = []string{"/trident_cdrom/rcp-agent.yaml", agentPath, "/etc/rcp-agent/config.yaml"}

// agentConfig returns the configuration of the agent, with the keys of upstream's alone.
func (r *Run) agentConfig() []byte {
	var out bytes.Buffer
	text := func(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
	fmt.Fprintf(&out, "clientAddress: %q\nserverAddress: /run/trident/trident.sock\nrcpClientTls:\n", r.announced(r.socket))
	fmt.Fprintf(&out, "  certData: %s\n  keyData: %s\n  serverCert: %s\n", text(r.keys.machine), text(r.keys.secret), text(r.keys.authority))
	return out.Bytes()
}

// patches returns what to put into the placeholders that an image has: the configuration of
// the agent into at least one, and the Host Configuration if it fits.
func (r *Run) patches(found []isopatch.Placeholder, agent []byte) ([]isopatch.Patch, error) {
	var out []isopatch.Patch
	config := r.config.YAML()
	hasAgent := false
	for _, p := range found {
		switch {
		case slices.Contains(agentPaths, p.Path):
			out, hasAgent = append(out, isopatch.Patch{Path: p.Path, Content: agent}), true
		case p.Path == configPath && int64(len(config)) <= p.Size:
			out = append(out, isopatch.Patch{Path: p.Path, Content: config})
		case p.Path == configPath: // the agent gets it over the connection
			r.options.Notice(fmt.Sprintf("The Host Configuration has %d bytes, and its placeholder in the live image has %d: the image stays without it.", len(config), p.Size))
		}
	}
	if hasAgent {
		return out, nil
	}
	err := errkind.Errorf(errkind.NotFound, "it has no placeholder for the configuration of the agent (%s, or an earlier name)", agentPath)
	return nil, errkind.WithHint(err, "Use a live image that has one and was not patched before. See docs/provisioning.md.")
}

// Towards returns the address of this host from which packets to a host:port are sent.
func Towards(ctx context.Context, remote string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", remote)
	if err != nil {
		err = errkind.With(errkind.Precondition, fmt.Errorf("find the address of this host: %w", err))
		return "", errkind.WithHint(err, "Name it with --address.")
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

func absolute(path string) (string, error) {
	out, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open image: %w", err)
	}
	return out, nil
}
