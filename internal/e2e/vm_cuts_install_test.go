//go:build vm

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// truthOfInstall returns a check of the status of a live system and of the installed system.
func truthOfInstall(img osimage.Image) func(recorded, string) string {
	return func(st recorded, root string) string {
		live := root != img.RootUUID
		switch st.State {
		case "not-provisioned":
			if st.Volume != "" || st.Spec.Image.SHA384 != "" {
				return "nothing was installed, and there is something"
			}
		case "clean-install-staged", "clean-install-finalized":
			if st.Volume != "" || st.Spec.Image.SHA384 != img.SHA384 {
				return "what is installed is not what was asked for"
			}
			if !live && st.State == "clean-install-staged" {
				return "it has booted, and is said to be staged only"
			}
		case "provisioned":
			if live || st.Volume != "volume-a" || st.Spec.Image.SHA384 != img.SHA384 {
				return "this system is not what was installed"
			}
		default:
			return "there is no such state"
		}
		return ""
	}
}

// sweepInstall is an installation by a live system whose disk, unlike that of a real live
// system, keeps its files without power, so that the test can read its datastore. The
// installed system boots once the operation has come beyond the step try.
func (g *guest) sweepInstall(img osimage.Image, config func(hostedImage) string) *sweep {
	g.t.Helper()
	g.sh("touch /override-trident-safety-check; systemctl enable -q tridentd.socket; systemctl disable -q tridentd-resume.path; sync")
	s := &sweep{guest: g, images: []osimage.Image{img}, truth: truthOfInstall(img)}
	hosted := g.serveImages(img)[0]
	s.begin = func(ctx context.Context, fn func(*client.Event)) error {
		_, err := g.api.Host().Install(ctx, &client.Config{Text: config(hosted)}, client.How{}, fn)
		return err
	}
	inside := false
	s.boot = func(ctx context.Context) error {
		if !inside {
			if err := s.BootLive(ctx); err != nil {
				return err
			}
			s.readAtRest()
			inside = s.stoppedAt.phase == operation.Doing && s.position(s.stoppedAt) > s.position(cut{operation.Doing, "try"})
			if !inside {
				return nil
			}
			if err := s.PowerCut(); err != nil {
				return err
			}
		}
		return s.BootInstalled(ctx)
	}
	return s
}

// installUndisturbed installs an image without power cuts.
func (g *guest) installUndisturbed(img osimage.Image) {
	g.t.Helper()
	hosted := g.serveImages(img)[0]
	if said := g.runAcrossReboots(g.BootInstalled, "install", g.file(hosted.config(""))); said.code != 0 {
		g.t.Fatalf("install: %+v", said)
	}
	g.awaitSettled()
	g.checkOS(hosted, "volume-a")
}

// One installation loses its power in one step after the other, and succeeds. Two halves,
// as for updates.
func TestAnInstallationResumesAfterPowerCutsWhileTheSlotIsWritten(t *testing.T) {
	t.Parallel()
	installGoesOn(t, doing(whileWritten...))
}

func TestAnInstallationResumesAfterPowerCutsUntilItIsKept(t *testing.T) {
	t.Parallel()
	installGoesOn(t, doing(append(slices.Clone(untilReboot), "booted", "unlock", "health", "settle")...))
}

func installGoesOn(t *testing.T, cuts []cut) {
	lap := stopwatch(t)
	g := liveGuest(t)
	img := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	lap("live system and image")
	s := g.sweepInstall(img, hostedImage.allScripts)
	s.cutEach(cutsOfLanding(t, cuts))
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	if op.Phase != operationsv1.Phase_PHASE_DONE {
		t.Fatalf("the installation has ended %v", op)
	}
	g.checkOS(hostedImage{Image: img}, "volume-a")
}

func TestAFailedInstallationIsUndoneDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	img := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	lap("live system and image")
	s := g.sweepInstall(img, hostedImage.failsLate)
	s.cutEach(cutsOfLanding(t, undoing("post-configure", "configure", "post-provision", "write", "pre-servicing", "image", "begin")))
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	g.checkNotInstalled(op, "exit status 7")
	g.installUndisturbed(img)
	lap("the next installation")
}

// checkNotInstalled checks that an operation has failed, and that the host says so.
func (g *guest) checkNotInstalled(op *client.Operation, why string) {
	g.t.Helper()
	if op.Phase != operationsv1.Phase_PHASE_UNDONE || !strings.Contains(op.Failure.GetMessage(), why) {
		g.t.Fatalf("the installation has ended %v", op)
	}
	if st := g.status(); !strings.Contains(st, "servicingState: not-provisioned") || !strings.Contains(st, why) {
		g.t.Errorf("the status is\n%s", st)
	}
}

func TestAnUnhealthyInstallationIsUndoneDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	bad := buildSystem(t, osimage.Spec{Version: "4.0.0", Fault: osimage.Unhealthy})
	lap("live system and image")
	s := g.sweepInstall(bad, hostedImage.soonUnhealthy)
	s.boot = nil // all of it is in what was installed
	s.cutEach(cutsOfLanding(t, undoing("health", "reboot", "try", "finalize", "boot files", "seal", "image", "begin")))
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	g.checkNotInstalled(op, "Failed health check(s) during")

	if err := s.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := g.BootLive(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.sh("rm -rf /var/lib/trident/*") // a real one remembers nothing
	g.installUndisturbed(buildSystem(t, osimage.Spec{Version: "1.0.0"}))
	lap("the next installation")
}
