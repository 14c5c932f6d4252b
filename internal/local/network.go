package local

import (
	"context"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/osconfig"
)

// netplanTime bounds netplan apply, which waits for the network daemons.
const netplanTime = 2 * time.Minute

// StartNetwork brings up the network that a Host Configuration has for the
// management OS, or else the one for the host, on the running system below root.
// One without a network leaves everything as it is, and the result is false.
func StartNetwork(ctx context.Context, root string, config []byte, tools run.Runner) (started bool, err error) {
	_, report := hostconfig.Parse(config, nil)
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
	if err := osconfig.WriteNetwork(root, netplan); err != nil {
		return false, errkind.WithName(fmt.Errorf("write netplan file: %w", err), errkind.NameWriteNetplanConfig)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, netplanTime, errkind.Errorf(errkind.Timeout, "it takes longer than %s", netplanTime))
	defer cancel()
	if _, err := tools.Run(ctx, "netplan", "apply"); err != nil {
		return false, errkind.WithName(fmt.Errorf("apply netplan configuration: %w", err), errkind.NameStartNetwork)
	}
	return true, nil
}
