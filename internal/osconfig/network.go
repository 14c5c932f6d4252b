package osconfig

import (
	"fmt"
	"io"
	"path/filepath"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// The files of the network. CloudInit stops cloud-init from setting up the network
// as well at the next boot.
const (
	Netplan   = "/etc/netplan/99-trident.yaml"
	CloudInit = "/etc/cloud/cloud.cfg.d/99-use-trident-networking.cfg"
)

const cloudInitText = "# Trident sets up the network (os.netplan of the Host Configuration).\nnetwork:\n  config: disabled\n"

// WriteNetwork writes the network of a Host Configuration as a file of netplan, and
// CloudInit where the OS has cloud-init. It removes both files if n is nil. The change
// has no effect until netplan applies it or the host reboots.
func WriteNetwork(root string, n hostconfig.Netplan) error {
	if n == nil {
		if err := Remove(root, CloudInit); err != nil {
			return err
		}
		return Remove(root, Netplan)
	}
	data, err := NetplanText(n)
	if err != nil {
		return err
	}
	if HasCloudInit(root) {
		if err := Write(root, CloudInit, 0o644, writerOf(cloudInitText)); err != nil {
			return err
		}
	}
	// The document may have the passwords of wireless networks.
	return Write(root, Netplan, 0o600, writerOf(string(data)))
}

// NetplanText returns the content of a netplan file for the network n.
func NetplanText(n hostconfig.Netplan) ([]byte, error) {
	data, err := yaml.Dump(map[string]any{"network": map[string]any(n)}, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("write netplan: %w", err)
	}
	return data, nil
}

// HasCloudInit reports whether the OS has cloud-init.
func HasCloudInit(root string) bool {
	info, err := inroot.FS(root).Stat(filepath.Dir(CloudInit)[1:])
	return err == nil && info.IsDir()
}

// writerOf returns a function for Write that writes s.
func writerOf(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}
