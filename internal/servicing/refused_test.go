package servicing

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// A refusal is a request that the state of the host, or its own fields, make impossible.
type refusal struct {
	name  string
	begin func(*Service) (string, error)
	kind  errkind.Kind
	named string // upstream's name
	says  string
}

func (w *osWorld) wantRefused(refusals []refusal) {
	w.t.Helper()
	was := w.status()
	for _, c := range refusals {
		id, err := c.begin(w.daemon.service)
		if id != "" || errkind.Of(err) != c.kind || errkind.Variant(err) != c.named || !strings.Contains(err.Error(), c.says) {
			w.t.Errorf("%s: operation %q, %s, %s: %v", c.name, id, errkind.Of(err), errkind.Variant(err), err)
		}
	}
	if st := w.status(); st.Phase != was.Phase || st.Spec != was.Spec {
		w.t.Errorf("the status is %+v, was %+v", st, was)
	}
}

// wantNothing wants a request to begin an operation that only logs says.
func (w *osWorld) wantNothing(says string, begin func(*Service) (string, error)) {
	w.t.Helper()
	was := w.status()
	id, err := begin(w.daemon.service)
	if err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
	op := w.settled("")
	events, err := w.daemon.store.Events(w.t.Context(), id, 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	logged := ""
	for _, e := range events {
		logged += e.Message + "\n"
	}
	if op.ID != id || op.Phase != operation.Done || !strings.Contains(logged, says) {
		w.t.Errorf("%s: %+v, logged %q", op.Phase, op.Failure, logged)
	}
	if st := w.status(); st.Phase != was.Phase || st.Spec != was.Spec {
		w.t.Errorf("the status is %+v, was %+v", st, was)
	}
}

func TestARequestThatTheStateOfTheHostExcludesIsRefused(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		ctx, first, second := t.Context(), w.parse(v1(a)), w.parse(v2(a))
		install := func(r InstallRequest) func(*Service) (string, error) {
			return func(s *Service) (string, error) { return s.Install(ctx, r) }
		}
		update := func(r UpdateRequest) func(*Service) (string, error) {
			return func(s *Service) (string, error) { return s.Update(ctx, r) }
		}
		back := func(r RollbackRequest) func(*Service) (string, error) {
			return func(s *Service) (string, error) { return s.Rollback(ctx, r) }
		}
		finalize := func(s *Service) (string, error) { return s.Finalize(ctx, false) }
		finalizeInstall := func(s *Service) (string, error) { return s.FinalizeInstall(ctx, false) }
		planRebuild := func(s *Service) (string, error) {
			_, err := s.PlanRebuild(ctx)
			return "", err
		}
		checkRoot := func(s *Service) (string, error) { return s.CheckRoot(ctx) }
		const invalid, precondition = errkind.Invalid, errkind.Precondition

		w.wantRefused([]refusal{
			{"install nothing", install(InstallRequest{Config: first}), invalid, "", "neither staging nor finalizing"},
			{"install beside no other system", install(InstallRequest{Config: first, Stage: true, Multiboot: true}), invalid, "MultibootWithoutAdoptedPartitions", "has to adopt"},
			{"install what is not staged", install(InstallRequest{Config: first, Finalize: true}), precondition, "UnexpectedServicingState", "not staged"},
			{"install without an image", install(InstallRequest{Config: w.parse("os: {additionalFiles: [{destination: /etc/x, content: x}]}\n"), Stage: true}), invalid, "MissingOsImage", "no image"},
			{"install without disks", install(InstallRequest{Config: w.parse("image: {url: 'file:///x.cosi', sha384: ignored}\n"), Stage: true}), invalid, "InvalidHostConfigurationDynamic", "no disks"},
			{"plan a rebuild", planRebuild, precondition, "HostNotProvisioned", "never provisioned"},
			{"finalize an installation", finalizeInstall, precondition, "UnexpectedServicingState", "no installation is staged"},
			{"finalize an update", finalize, precondition, "HostNotProvisioned", "never provisioned"},
			{"update", update(UpdateRequest{Config: second, Stage: true}), precondition, "HostNotProvisioned", "never provisioned"},
			{"update nothing", update(UpdateRequest{Config: second}), invalid, "", "neither staging nor finalizing"},
			{"roll back nothing", back(RollbackRequest{}), invalid, "", "neither staging nor finalizing"},
			{"check the root", checkRoot, precondition, "HostNotProvisioned", "never provisioned"},
		})

		w.must(installing(v1, true, false))
		w.wantRefused([]refusal{
			{"update while an installation is staged", update(UpdateRequest{Config: second, Stage: true}), precondition, "UnexpectedServicingState", "an installation is staged"},
			{"finalize an update while an installation is staged", finalize, precondition, "UnexpectedServicingState", "no update is staged"},
		})
		w.wantNothing("the installation is staged already", install(InstallRequest{Config: first, Stage: true}))
		w.wantNothing("no rollback is possible", back(RollbackRequest{Stage: true, Finalize: true}))
		w.must(func(*osWorld) (string, func(*Service) (string, error)) {
			return "install-finalize", install(InstallRequest{Config: first, Stage: true, Finalize: true})
		})

		w.wantRefused([]refusal{
			{"update to what is not staged", update(UpdateRequest{Config: second, Finalize: true}), precondition, "UnexpectedServicingState", "not staged"},
			{"finalize no rollback", back(RollbackRequest{Finalize: true}), precondition, "InvalidRollbackState", "no rollback is staged"},
			{"finalize an installation", finalizeInstall, precondition, "UnexpectedServicingState", "no installation is staged"},
			{"plan a rebuild without arrays", planRebuild, precondition, "ValidateRebuildRaid", "no arrays"},
			{"install again", install(InstallRequest{Config: first, Stage: true}), precondition, "CleanInstallOnProvisionedHost", "provisioned already"},
		})
		w.wantNothing("nothing is staged", finalize)
		w.must(updating(v2, true, true))
		w.must(func(*osWorld) (string, func(*Service) (string, error)) {
			return "ab-rollback-stage", back(RollbackRequest{Kind: hoststate.ABLink, Stage: true})
		})
		w.wantNothing("the rollback is staged already", back(RollbackRequest{Kind: hoststate.ABLink, Stage: true}))
		w.must(func(*osWorld) (string, func(*Service) (string, error)) {
			return "ab-rollback-finalize", back(RollbackRequest{Kind: hoststate.ABLink, Stage: true, Finalize: true})
		})
		if got := w.text("usr/share/version"); strings.TrimSpace(got) != "v1" {
			t.Errorf("%s runs", got)
		}
		w.rest()
	})
}
