package systemd_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// busWith returns the address of a message bus with a file for the service of logind, "" for
// none.
func busWith(t *testing.T, service string) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if service != "" {
		write("org.freedesktop.login1.service", service)
	}
	settings := write("bus.conf", fmt.Sprintf(`<busconfig><type>session</type><listen>unix:path=%s/bus</listen><servicedir>%[1]s</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>`, dir))
	cmd := exec.CommandContext(t.Context(), program, "--config-file", settings, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

func TestALogindThatDoesNotStartIsUnavailable(t *testing.T) {
	const head = "[D-BUS Service]\nName=org.freedesktop.login1\n"
	for what, service := range map[string]string{
		"there is none":          "",
		"it fails":               head + "Exec=/bin/false\n",
		"its program is missing": head + "Exec=/nonexistent\n",
	} {
		l := systemd.Logind{Address: busWith(t, service)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := l.Inhibitors(ctx)
		for _, err := range []error{err, l.Reboot(ctx, false), l.PowerOff(ctx, true)} {
			if errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "systemd-logind does not start") || !strings.Contains(errkind.Hint(err), "systemctl status systemd-logind") {
				t.Errorf("%s: %v (%s)", what, err, errkind.Hint(err))
			}
		}
	}
}
