package cli

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/provision/provisiontest"
)

// The exit codes are those of upstream's netlaunch.
func TestProvisionTellsFaultsFromFailuresOfTrident(t *testing.T) {
	t.Parallel()
	config, plain := provisiontest.Write(t, "host.yaml", provisiontest.HostConfiguration), provisiontest.Write(t, "plain.iso", "x")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{config, "--iso", plain, "--image", provisiontest.OSImage(t), "--address", "127.0.0.1"}, exitSetup, "it has no placeholder for the configuration of the agent"},
		{[]string{config, "--iso", provisiontest.LiveImage(t), "--image", plain, "--address", "127.0.0.1"}, exitSetup, "open image"},
		{[]string{config}, exitFailed, `"iso" not set`},
		{[]string{config, "--iso", plain, "--qemu-siez", "1G"}, exitFailed, "--qemu-size"},
	} {
		a, _, stderr := commandtest.New()
		if code := execute(t.Context(), a, append([]string{"provision"}, c.args...)); code != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%v: exit code %d:\n%s", c.args, code, stderr)
		}
	}
	for kind, err := range map[string]error{
		"refused": errkind.Errorf(errkind.Corrupt, "x"), "busy": errkind.Errorf(errkind.Busy, "x"), "rolled back": errkind.Errorf(errkind.Unhealthy, "x"),
	} {
		if code := exitCode(command.AsUpstream(err)); code != exitFailed {
			t.Errorf("Trident %s: exit code %d", kind, code)
		}
		if code := exitCode(command.AsSetup(err)); code != exitSetup {
			t.Errorf("%s before: exit code %d", kind, code)
		}
	}
	if command.AsSetup(nil) != nil || exitCode(command.AsSetup(command.ErrInterrupted)) != exitInterrupted {
		t.Error("success or an interrupt is a fault")
	}
}
