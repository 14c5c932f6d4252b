package servicing

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

func files(destinations ...string) string {
	text := "os:\n  additionalFiles:\n"
	for _, d := range destinations {
		text += "  - {destination: " + d + ", content: x}\n"
	}
	return text
}

func TestNoFileOfAConfigurationOverwritesWhatTridentKeeps(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		if err := os.MkdirAll(filepath.Join(w.root, "srv"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../var/lib/trident", filepath.Join(w.root, "srv/link")); err != nil {
			t.Fatal(err)
		}
		before := w.state()
		for _, name := range []string{
			"/var/lib/trident/datastore.sqlite", "/var/lib/trident/datastore.sqlite-journal", "/var/lib/trident/datastore.sqlite.bak",
			"/var/../var/lib//trident/self/rescue.json", "/var/lib/trident/self", "/var/lib/trident/unsettled",
			"/var/lib/trident/servicing/x/y", "/var/lib/trident/extensions/x", "/run/trident/trident.sock", "/run/trident/lock",
			"/var/lib/extensions/trident.raw", "/etc/systemd/system/trident-rescue.service", "/etc/systemd/system/trident-trial.timer",
		} {
			_, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(files("/etc/motd", name)), Stage: true, Finalize: true})
			if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "os.additionalFiles[1]") || errkind.Hint(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
			_, err = w.daemon.service.plan(change.State{}, w.parse(files(name)))
			if errkind.Of(err) != errkind.Invalid {
				t.Errorf("plan with %s: %v", name, err)
			}
		}
		op := w.ask(files("/srv/link/datastore.sqlite"), true, true)
		if op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, `"/srv/link/datastore.sqlite" cannot be written: Trident itself`) {
			t.Errorf("through a link: %+v", op)
		}
		after := w.state()
		if before["etc/motd"] != after["etc/motd"] {
			t.Error("a configuration that was refused has changed /etc/motd")
		}
		// Upstream's configurations put files of their own there.
		if op := w.ask(files("/var/lib/trident/local-health-check-file.sh", "/run/tridents"), true, true); op.Phase != operation.Done {
			t.Errorf("files beside those of Trident: %+v", op)
		}
	})
}

func TestADatastoreElsewhereIsNoDestinationEither(t *testing.T) {
	c, report := hostconfig.Parse([]byte("trident: {datastorePath: /srv/t.sqlite}\n"+files("/srv/t.sqlite-journal")), rules.Check)
	if err := report.Err(); err != nil {
		t.Fatal(err)
	}
	if err := change.New(change.Host{}).CheckDestinations(c); errkind.Of(err) != errkind.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestAFileBelowAnotherFileIsRefusedBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		for _, names := range [][]string{{"/etc/q", "/etc/q/r"}, {"/etc/q/r/s", "/etc/./q"}} {
			_, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(files(names...)), Stage: true, Finalize: true})
			if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "a file is not a folder") {
				t.Errorf("%v: %v", names, err)
			}
		}
		if op := w.ask(files("/etc/q/r", "/etc/q/s", "/etc/qr"), true, true); op.Phase != operation.Done {
			t.Errorf("%+v", op)
		}
	})
}
