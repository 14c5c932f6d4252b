package connect

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// installUnit is the unit that installs the host by itself, of the package with the same name.
const installUnit = "trident-install.service"

// startInstallation has systemd enable and start the installation, as upstream's agent does
// without an address. It does not wait for its end. An installation that runs already goes on.
func startInstallation(ctx context.Context, units systemd.Units, logger *slog.Logger) error {
	if err := units.Enable(ctx, installUnit); err != nil {
		return errkind.WithHint(fmt.Errorf("enable %s: %w", installUnit, err),
			"Name a listener (clientAddress), or install the package that has the unit.")
	}
	unit, err := units.Unit(ctx, installUnit)
	if err != nil {
		return fmt.Errorf("start %s: %w", installUnit, err)
	}
	if unit.Active == "active" || unit.Active == "activating" {
		logger.Info("the installation runs already", "unit", installUnit)
		return nil
	}
	go func() { // systemd answers when the unit has ended, and that ends with a reboot
		if err := units.Restart(ctx, installUnit); err != nil && ctx.Err() == nil {
			logger.Error("the installation has failed", "unit", installUnit, "error", err)
		}
	}()
	logger.Info("no listener is configured: the installation starts", "unit", installUnit)
	return nil
}
