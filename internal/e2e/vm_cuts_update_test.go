//go:build vm

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// allScripts is the configuration of an image with a script of each kind, so that every
// step has an effect.
func (i hostedImage) allScripts() string {
	return strings.Replace(i.config(""), "scripts:\n", `scripts:
  preServicing: [{name: before, runOn: [clean-install, ab-update], content: "true"}]
  postProvision: [{name: provision, runOn: [clean-install, ab-update], content: "test -e $TARGET_ROOT/usr"}]
`, 1)
}

// failsLate is a configuration whose last script fails.
func (i hostedImage) failsLate() string {
	return strings.Replace(i.allScripts(), "> /etc/marked", "> /etc/marked; echo gives up; exit 7", 1)
}

// soonUnhealthy is a configuration whose health check ends after 5 s.
func (i hostedImage) soonUnhealthy() string {
	return strings.Replace(i.allScripts(), "timeoutSeconds: 120", "timeoutSeconds: 5", 1)
}

// twoSlots is the host of an update: the old image in slot A, the new one in slot B.
type twoSlots struct{ old, new osimage.Image }

// truth returns what is wrong with the status of the system whose root has this UUID.
func (s twoSlots) truth(st recorded, root string) string {
	here, volume := s.old, "volume-a"
	if root == s.new.RootUUID {
		here, volume = s.new, "volume-b"
	}
	switch st.State {
	case "provisioned":
		if st.Volume != volume || st.Spec.Image.SHA384 != here.SHA384 {
			return "the host is said to run something else"
		}
	case "ab-update-staged":
		if st.Volume != volume || st.SpecOld.Image.SHA384 != here.SHA384 || st.Spec.Image.SHA384 != s.new.SHA384 {
			return "what is staged is not what was asked for"
		}
	case "ab-update-finalized", "ab-update-health-check-failed":
		if st.Volume != "volume-a" || st.SpecOld.Image.SHA384 != s.old.SHA384 || st.Spec.Image.SHA384 != s.new.SHA384 {
			return "what is tried is not what was asked for, or the default is another"
		}
	default:
		return "there is no such state"
	}
	return ""
}

// sweepUpdate is an update of a machine in slot A whose operations wait for a call at each
// boot, until resume. The server has the images in more, too.
func (g *guest) sweepUpdate(old, img osimage.Image, config func(hostedImage) string, more ...osimage.Image) *sweep {
	g.t.Helper()
	// A verified root refuses the change: the operation then goes on at each boot.
	g.sh("systemctl disable -q " + goesOn + " || true; sync")
	served := append([]osimage.Image{old, img}, more...)
	images := g.serveImages(served...)
	return &sweep{
		guest: g, images: served, truth: twoSlots{old, img}.truth,
		begin: func(ctx context.Context, fn func(*client.Event)) error {
			_, err := g.api.Host().Update(ctx, &client.Config{Text: config(images[1])}, client.How{}, fn)
			return err
		},
	}
}

// checkEnd checks the phase of an ended operation, and which system runs.
func (s *sweep) checkEnd(op *client.Operation, phase operationsv1.Phase) {
	s.t.Helper()
	if op.Phase != phase {
		s.t.Fatalf("the operation has ended %v", op)
	}
	if phase == operationsv1.Phase_PHASE_DONE {
		s.checkOS(hostedImage{Image: s.images[1]}, "volume-b")
		return
	}
	s.checkOS(hostedImage{Image: s.images[0]}, "volume-a")
	out, errs, code := s.trident("get", "last-error")
	if code != 0 || strings.TrimSpace(out) == "null" {
		s.t.Errorf("get last-error: %d, %s%s", code, out, errs)
	}
}

// updateUndisturbed updates to an image without power cuts.
func (g *guest) updateUndisturbed(old, img osimage.Image) {
	g.t.Helper()
	images := g.serveImages(old, img)
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].config(""))); said.code != 0 {
		g.t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	g.checkOS(images[1], "volume-b")
}

// One update loses its power in one step after the other, and succeeds. Two halves, each
// shorter than eight minutes with TRIDENT_EVERY_CUT=1.
func TestAnUpdateResumesAfterPowerCutsWhileTheSlotIsWritten(t *testing.T) {
	t.Parallel()
	updateGoesOn(t, doing(whileWritten...))
}

func TestAnUpdateResumesAfterPowerCutsBeforeItsReboot(t *testing.T) {
	t.Parallel()
	updateGoesOn(t, doing(untilReboot...))
}

func updateGoesOn(t *testing.T, cuts []cut) {
	lap := stopwatch(t)
	g := installedGuest(t)
	old, next := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"})
	lap("installed machine and image")
	s := g.sweepUpdate(old, next, hostedImage.allScripts)
	s.cutEach(cutsOfLanding(t, cuts))
	lap("all cuts")
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	s.checkEnd(op, operationsv1.Phase_PHASE_DONE)
}

// Trident rolls back from a new system that loses its power before Trident has kept it.
func TestAnUpdateIsKeptOrUndoneAfterPowerCutsInItsTrial(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	old, next := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"})
	lap("installed machine and image")
	for _, c := range cutsOfLanding(t, doing(inTrial...)) {
		s := g.sweepUpdate(old, next, hostedImage.allScripts)
		s.cutEach([]cut{c})
		op := s.resume()
		lap(fmt.Sprintf("settled: %v", op.Phase))
		if op.Phase == operationsv1.Phase_PHASE_DONE && c.step == "settle" {
			s.checkEnd(op, operationsv1.Phase_PHASE_DONE)
			if back := g.runAcrossReboots(g.BootAgain, "rollback"); back.code != 0 {
				t.Fatalf("rollback: %+v", back)
			}
			g.awaitSettled()
			continue
		}
		s.checkEnd(op, operationsv1.Phase_PHASE_UNDONE)
	}
	g.updateUndisturbed(old, next)
	lap("the next update")
}

func TestAFailedUpdateIsUndoneDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	old, next := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"})
	lap("installed machine and image")
	s := g.sweepUpdate(old, next, hostedImage.failsLate)
	s.cutEach(cutsOfLanding(t, undoing("post-configure", "configure", "post-provision", "write", "pre-servicing", "image", "begin")))
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	s.checkEnd(op, operationsv1.Phase_PHASE_UNDONE)
	if !strings.Contains(op.Failure.GetMessage(), "exit status 7") {
		t.Errorf("why the update was undone: %v", op.Failure)
	}
	g.updateUndisturbed(old, next)
	lap("the next update")
}

func TestAFailedTrialIsUndoneDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	old, bad := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "4.0.0", Fault: osimage.Unhealthy})
	lap("installed machine and image")
	good := buildSystem(t, osimage.Spec{Version: "2.0.0"})
	s := g.sweepUpdate(old, bad, hostedImage.soonUnhealthy, good)
	s.cutEach(cutsOfLanding(t, undoing("reboot", "try", "finalize", "stage", "boot files", "seal", "partition", "begin")))
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	s.checkEnd(op, operationsv1.Phase_PHASE_UNDONE)
	g.updateUndisturbed(old, good)
	lap("the next update")
}
