package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	// netplanFile is what Trident owns in netplan's folder.
	netplanFile = "etc/netplan/99-trident.yaml"
	// netplanTime bounds netplan apply, which waits for the network daemons.
	netplanTime = 2 * time.Minute
)

// StartNetwork brings up the network that a Host Configuration has for the
// management OS, or else the one for the host, on the running system below root.
// One without a network leaves everything as it is, and the result is false.
func StartNetwork(ctx context.Context, root string, config []byte, tools run.Runner) (started bool, err error) {
	_, report := hostconfig.Parse(config)
	if invalid := hostconfig.Invalid(report.Err()); invalid != nil && invalid.Name() != hostconfig.NameStatic {
		return false, report.Err()
	}
	// A fault in the layout of a disk is no reason to stay without a network.
	parsed, err := hostconfig.ParseRecorded(config)
	if err != nil {
		return false, err
	}
	netplan := parsed.Spec().ManagementOS.Netplan
	if netplan == nil {
		netplan = parsed.Spec().OS.Netplan
	}
	if netplan == nil {
		return false, nil
	}
	text, err := yaml.Marshal(map[string]any{"network": map[string]any(netplan)})
	if err != nil {
		return false, fmt.Errorf("write netplan file: %w", err)
	}
	if err := writeIn(root, netplanFile, text, 0o600); err != nil {
		return false, errkind.WithName(fmt.Errorf("write netplan file: %w", err), "WriteNetplanConfig")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, netplanTime, errkind.Errorf(errkind.Timeout, "it takes longer than %s", netplanTime))
	defer cancel()
	if _, err := tools.Run(ctx, "netplan", "apply"); err != nil {
		return false, errkind.WithName(fmt.Errorf("apply netplan configuration: %w", err), "StartNetwork")
	}
	return true, nil
}

// writeIn writes a file below root whose folder no symlink leads out of.
func writeIn(root, name string, text []byte, perm fs.FileMode) (err error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	dir := filepath.Dir(name)
	if err := r.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d, err := r.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	// Through the open folder, which can no longer be swapped for a link.
	return atomicfile.Write(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(name)), text, perm)
}
