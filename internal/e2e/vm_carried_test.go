//go:build vm

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/proto/client"
)

// withTrident returns a change of the tree of an image: it installs Trident of that version.
func (g *guest) withTrident(version string) func(tree string) error {
	return func(tree string) error {
		errs := []error{os.WriteFile(filepath.Join(tree, rescue.Base), []byte(`{"version":"`+version+`"}`+"\n"), 0o644)}
		for program, at := range map[string]string{"tridentd": "usr/bin/tridentd", "trident": "usr/bin/trident", "trident-rescue": "usr/lib/trident/trident-rescue"} {
			from, err := g.f.maker.Daemon(g.t.Context(), "./cmd/"+program, version)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(from)
			errs = append(errs, err, os.WriteFile(filepath.Join(tree, at), data, 0o755))
		}
		return errors.Join(errs...)
	}
}

// checkTrident checks which version answers, and whether it comes from an extension.
func (g *guest) checkTrident(version string, merged bool) {
	g.t.Helper()
	st, err := g.api.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if st.RunningVersion != version || st.Merged != merged {
		g.t.Errorf("%v, want version %s, merged: %v", st, version, merged)
	}
	out, errs, code := g.trident("version")
	if code != 0 || !strings.Contains(out, version) {
		g.t.Errorf("trident version: %d, %s%s; want %s", code, out, errs, version)
	}
	if got := g.sh("tridentd --version"); !strings.Contains(got, version) {
		g.t.Errorf("/usr has tridentd %s, want %s", got, version)
	}
}

// checkExtensions checks the files of a vendor's extensions.
func (g *guest) checkExtensions(tool, settings string) {
	g.t.Helper()
	for command, want := range map[string]string{"tool": tool, "cat /etc/settings.conf": settings} {
		if got := g.sh(command + " 2>/dev/null || true"); got != want {
			g.t.Errorf("%s says %q, want %q", command, got, want)
		}
	}
}

func TestTheNewestTridentAndTheExtensionsCarryOverToTheNewSlot(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	first, second := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"})
	third := buildSystem(t, osimage.Spec{Version: "6.0.0", Mutate: g.withTrident("3.0.0")})
	own, err := g.f.maker.Image(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	lap("installed machine, images and extension")
	if _, err := g.api.Upgrade(t.Context(), client.Source{Path: g.vendor(own, nil).path}, patientTrial(), nil); err != nil {
		t.Fatal(err)
	}
	g.checkTrident(good, true)
	lap("Trident upgraded")

	update := func(runs, next osimage.Image, volume string, list string) {
		t.Helper()
		images := g.serveImages(runs, next)
		config := strings.Replace(images[1].config(""), "os:\n", "os:\n"+list, 1)
		if said := g.runAcrossReboots(g.BootAgain, "update", g.file(config)); said.code != 0 {
			t.Fatalf("update: %+v", said)
		}
		g.awaitSettled()
		g.checkOS(images[1], volume)
	}
	// In A each is nowhere yet: the update brings them to B.
	one, settings := g.tool("one"), g.settings()
	update(first, second, "volume-b", "  sysexts:\n"+one.entry()+"  confexts:\n"+settings.entry())
	lap("updated")
	g.checkTrident(good, true) // the image has 1.0.0
	g.checkExtensions("one", brightness)

	two := g.tool("two")
	update(second, third, "volume-a", "  sysexts:\n"+two.entry())
	lap("updated to an image with a newer Trident")
	g.checkTrident("3.0.0", false)
	g.checkExtensions("two", "")

	g.serveImages(second)
	if back := g.runAcrossReboots(g.BootAgain, "rollback", "--ab"); back.code != 0 {
		t.Fatalf("rollback: %+v", back)
	}
	g.awaitSettled()
	lap("rolled back")
	g.checkOS(hostedImage{Image: second}, "volume-b")
	g.checkTrident(good, true)
	g.checkExtensions("one", brightness)
}
