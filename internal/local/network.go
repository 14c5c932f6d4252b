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

// StartNetwork configures the network of the running system below root: that of the
// management OS in a Host Configuration or, without one, that of the host. If the
// configuration has neither, it changes nothing and returns false.
func StartNetwork(ctx context.Context, root string, config []byte, tools run.Runner) (started bool, err error) {
	_, report := hostconfig.Parse(config, nil)
	if invalid := hostconfig.Invalid(report.Err()); invalid != nil && invalid.Name() != hostconfig.NameStatic {
		return false, report.Err()
	}
	// A fault elsewhere in the configuration, as in the disk layout, does not prevent a
	// network.
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
