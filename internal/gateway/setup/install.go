package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/systemd"
)

// Unit is the service of the gateway.
const Unit = "trident-gateway.service"

// Units is the part of systemd that runs the gateway at each boot. *systemd.Bus implements it.
type Units interface {
	Reload(ctx context.Context) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	Run(ctx context.Context, job systemd.Job, unit string) error
}

// Start has systemd start the gateway now and at each boot. It restarts a gateway that runs,
// which then has its new settings.
func Start(ctx context.Context, u Units) error {
	err := u.Reload(ctx)
	if err == nil {
		err = u.Enable(ctx, Unit)
	}
	if err == nil {
		err = u.Run(ctx, systemd.RestartJob, Unit)
	}
	if errkind.Of(err) == errkind.NotFound {
		err = errkind.WithHint(errkind.Errorf(errkind.Precondition, "the host has no unit %s", Unit), "install the package trident-gateway")
	}
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	return nil
}

// Remove stops the gateway and removes what Run, the gateway and its commands made on the host
// at root: settings, keys, tokens, passphrases and, unless keepAudit is set, the audit log. The
// user and the unit belong to the package. It returns what it removed; on a host without a
// gateway that is nothing.
func Remove(ctx context.Context, root string, u Units, keepAudit bool) (removed []string, err error) {
	for _, end := range []func() error{
		func() error { return u.Run(ctx, systemd.StopJob, Unit) },
		func() error { return u.Disable(ctx, Unit) },
	} {
		if err := end(); err != nil && errkind.Of(err) != errkind.NotFound {
			return nil, fmt.Errorf("stop the gateway: %w", err)
		}
	}
	paths := []string{config.DefaultFile, "/etc/trident/gateway", "/run/trident-gateway"}
	if !keepAudit {
		paths = append(paths, "/var/log/trident-gateway")
	}
	for _, path := range paths {
		path = filepath.Join(root, path)
		if _, e := os.Lstat(path); os.IsNotExist(e) {
			continue
		}
		if e := os.RemoveAll(path); e != nil {
			err = errors.Join(err, fmt.Errorf("remove the gateway: %w", e))
			continue
		}
		removed = append(removed, path)
	}
	return removed, err
}
