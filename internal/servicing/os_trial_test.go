package servicing

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// replaceESP gives the ESP other files, while the machine has it mounted nowhere.
func (w *osWorld) replaceESP(files fstest.MapFS) {
	w.t.Helper()
	p, _ := findLabel(w.inventory(), "esp")
	dir := tempDir(w.t)
	for name, f := range files {
		write(w.t, filepath.Join(dir, name), string(f.Data))
	}
	w.pack(mounted{device: p.Path, at: dir})
}

// begun begins a servicing, and waits until it has ended or waits for a reboot.
func (w *osWorld) begun(do doing) operation.Operation {
	w.t.Helper()
	_, start := do(w)
	id, err := start(w.daemon.service)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.waiting(id)
}

// record changes the recorded status, as another program does.
func (w *osWorld) record(change func(*hoststate.Status)) {
	w.t.Helper()
	st := w.status()
	change(&st)
	if err := w.daemon.store.Record(w.t.Context(), st); err != nil {
		w.t.Fatal(err)
	}
}

func stagingRollback(*osWorld) (string, func(*Service) (string, error)) {
	return "ab-rollback-stage", func(s *Service) (string, error) {
		return s.Rollback(context.Background(), RollbackRequest{Kind: hoststate.ABLink, Stage: true})
	}
}

// A staged update whose boot files are gone is not finalized, and the host stays as it was.
func TestAnUpdateWithoutItsBootFilesIsNotFinalized(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(v2, true, false))
		w.replaceESP(nil)
		before := w.state()
		op := w.begun(updating(v2, false, true))
		if f := op.Failure; op.Phase != operation.Undone || op.Reached != "finalize" || f.Kind != errkind.Precondition || f.Name != "FindStagedFile" || f.Hint != "Stage it again." ||
			!strings.Contains(f.Message, "the EFI system partition has no boot files of volume-b") {
			t.Errorf("%s at %q: %+v", op.Phase, op.Reached, f)
		}
		if st := w.status(); st.Phase != (hoststate.Settled{}) || st.LastError == nil || w.state() != before {
			t.Errorf("the status is %+v; touches: %v", st, w.Trace)
		}
	})
}

// An installation has failed if the firmware boots the live system once more; a rollback by
// command if the system boots that it was to leave.
func TestAHostThatBootsTheWrongSystemSaysSo(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	t.Run("installation", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newOSWorld(t, a)
			w.powerOn()
			op := w.begun(installing(v1, true, true))
			if op.Waiting != operation.Reboot {
				t.Fatalf("%s: %+v", op.Phase, op.Failure)
			}
			w.rest()
			w.replaceESP(nil)
			w.powerOn()
			op = w.waiting(op.ID)
			if f := op.Failure; w.slot != 0 || op.Phase != operation.Undone || f.Kind != errkind.Unhealthy || f.Name != "CleanInstallRebootCheck" ||
				!strings.Contains(f.Message, "Clean install failed as host booted from 'unknown' instead of the expected device '/dev/disk/by-partuuid/") {
				t.Errorf("%v runs: %s: %+v", w.slot, op.Phase, f)
			}
			if st := w.status(); st.Phase != (hoststate.Fresh{}) || st.Spec != "" || st.LastError == nil || st.LastError.RootDevice != "unknown" {
				t.Errorf("the status is %+v, %+v", st, st.LastError)
			}
			w.rest()
		})
	})
	t.Run("rollback", func(t *testing.T) {
		t.Parallel()
		onMachine(t, func(t *testing.T, w *osWorld) {
			w.must(updating(v2, true, true))
			spec := w.status().Spec
			op := w.begun(rollingBack)
			w.rest()
			if err := w.vars.Delete(efivar.Name{Name: efivar.EntryOneShot, Vendor: efivar.Loader}); err != nil {
				t.Fatal(err)
			}
			w.powerOn()
			op = w.waiting(op.ID)
			if f := op.Failure; w.slot != slot.B || op.Phase != operation.Undone || f.Name != "ManualRollbackRebootCheck" ||
				!strings.Contains(f.Message, "Manual rollback failed as host booted from '/dev/vdb3' instead of the expected device") {
				t.Errorf("%v runs: %s: %+v", w.slot, op.Phase, f)
			}
			if st := w.status(); st.Phase != (hoststate.Settled{}) || st.Spec != spec || st.ABActiveVolume != hoststate.VolumeB {
				t.Errorf("the status is %+v", st)
			}
		})
	})
}

// What another program has finalized is committed in the system that boots.
func TestWhatAnotherProgramFinalizedIsCommitted(t *testing.T) {
	t.Parallel()
	commit := func(*osWorld) (string, func(*Service) (string, error)) {
		return "commit", func(s *Service) (string, error) { return s.Commit(context.Background(), false) }
	}
	for title, c := range map[string]struct {
		before doing
		status func(*hoststate.Status)
		kind   Kind
		volume hoststate.Volume
	}{
		"installation": {status: func(st *hoststate.Status) {
			st.Phase, st.SpecOld, st.ABActiveVolume = hoststate.TryingInstall, "", ""
		}, kind: CleanInstall, volume: hoststate.VolumeA},
		"rollback": {before: updating(v2, true, true), status: func(st *hoststate.Status) {
			st.Phase, st.SpecOld, st.ABActiveVolume = hoststate.TryingABRollback, st.Spec, hoststate.VolumeA
		}, kind: ABRollback, volume: hoststate.VolumeB},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			onMachine(t, func(t *testing.T, w *osWorld) {
				if c.before != nil {
					w.must(c.before)
				}
				w.record(c.status)
				w.rest()
				w.powerOn()
				ctx, s := t.Context(), w.daemon.service
				update := UpdateRequest{Config: w.parse(v2(w.album)), Stage: true, Finalize: true}
				_, updated := s.Update(ctx, update)
				_, back := s.Rollback(ctx, RollbackRequest{Stage: true, Finalize: true})
				_, finalized := s.Finalize(ctx, false)
				for _, err := range []error{updated, back, finalized} {
					if errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != "UnexpectedServicingState" || !strings.Contains(err.Error(), "is on trial") || !strings.Contains(errkind.Hint(err), "trident commit") {
						t.Errorf("beside a trial: %s: %v", errkind.Variant(err), err)
					}
				}
				op := w.begun(commit)
				out, ok := s.Outcome(op)
				if st := w.status(); op.Phase != operation.Done || !ok || out.Kind != c.kind || st.Phase != (hoststate.Settled{}) || st.ABActiveVolume != c.volume {
					t.Errorf("%s: %+v: %+v: the status is %+v", op.Phase, op.Failure, out, st)
				}
			})
		})
	}
}

// A rollback by command is staged and finalized apart, and counted by upstream's metric.
func TestARollbackIsCountedByUpstreamsMetric(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.logs = true
		w.powerOn()
		w.must(installing(v1, true, true))
		w.must(updating(v2, true, true))
		lacks(t, "the metrics of the update", w.text(metricsLog), `"metric_name":"ab_update_success"`)
		op := w.begun(stagingRollback)
		if out, ok := w.daemon.service.Outcome(op); !ok || out.Kind != ABRollback || op.Phase != operation.Done || w.status().Phase != hoststate.StagedABRollback {
			t.Errorf("%s: %+v: %+v", op.Phase, op.Failure, out)
		}
		if text := w.text(metricsLog); strings.Contains(text, "manual_rollback_success") {
			t.Errorf("what is only staged is counted:\n%s", text)
		}
		w.must(func(w *osWorld) (string, func(*Service) (string, error)) {
			return "ab-rollback-finalize", func(s *Service) (string, error) {
				return s.Rollback(context.Background(), RollbackRequest{Finalize: true})
			}
		})
		lacks(t, "the metrics of the rollback", w.text(metricsLog), `"metric_name":"manual_rollback_success"`)
		w.rest()
	})
}

// A check of the root says from where the host runs if that is not in its status.
func TestACheckOfAnUnknownRootNamesIt(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.record(func(st *hoststate.Status) {
			for _, id := range []string{"root-a", "root-b"} {
				st.PartitionPaths[id] = "/dev/disk/by-partuuid/gone-" + id
			}
		})
		op := w.begun(func(*osWorld) (string, func(*Service) (string, error)) {
			return "check-root", func(s *Service) (string, error) { return s.CheckRoot(context.Background()) }
		})
		if f := op.Failure; op.Phase != operation.Undone || f.Name != "RootDevicePathAbActiveVolumeMismatch" ||
			!strings.Contains(f.Message, "the host runs from a device that is not in the host status, but its status says volume-a") {
			t.Errorf("%s: %+v", op.Phase, f)
		}
		if out, ok := w.daemon.service.Outcome(op); !ok || out.Kind != None {
			t.Errorf("its outcome is %+v, %v", out, ok)
		}
	})
}

// A configuration that does not fit what the host has is refused before anything begins.
func TestAConfigurationThatDoesNotFitTheHostBeginsNothing(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		ctx := t.Context()
		recorded := func(text string) *hostconfig.Config {
			t.Helper()
			c, err := hostconfig.ParseRecorded([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		image := fmt.Sprintf("image: {url: 'file:///srv/v2.cosi', sha384: %s}\n", a.v2.sha)
		without := recorded(image)
		w.wantRefused([]refusal{{"install without disks", func(s *Service) (string, error) {
			return s.Install(ctx, InstallRequest{Config: without, Stage: true})
		}, errkind.Invalid, errkind.NameInvalidHostConfigurationDynamic, "the configuration has no disks"}})
		w.must(installing(v1, true, true))
		files := w.parse(file("one"))
		s := w.daemon.service
		update := func(c *hostconfig.Config) func(*Service) (string, error) {
			return func(s *Service) (string, error) { return s.Update(ctx, UpdateRequest{Config: c, Stage: true}) }
		}
		w.wantRefused([]refusal{
			{"update without an image", update(files), errkind.Invalid, "MissingOsImage", "the host runs an image, and the new configuration has none"},
			{"plan without an image", func(s *Service) (string, error) {
				_, err := s.Plan(ctx, files)
				return "", err
			}, errkind.Invalid, "MissingOsImage", "plan update: compare Host Configurations"},
			{"kind without an image", func(s *Service) (string, error) {
				_, err := s.RequiredKind(ctx, files)
				return "", err
			}, errkind.Invalid, "MissingOsImage", "compare with the host: "},
			{"update to an image that is not there", func(s *Service) (string, error) {
				op := w.begun(updating(func(a *album) string {
					return strings.Replace(strings.Replace(v2(a), "v2.cosi", "v9.cosi", 1), a.v2.sha, "ignored", 1)
				}, true, true))
				return "", op.Failure.Err()
			}, errkind.NotFound, "LoadCosi", "v9.cosi"},
		})
		if plan, err := s.Plan(ctx, without); err != nil || plan.Kind != ABUpdate || len(plan.Effective.Spec().Storage.Disks) != 1 {
			t.Errorf("a configuration without storage has that of the host: %+v, %v", plan, err)
		}
		w.rest()
	})
}

// No server can delay a rollback: an update that only fetches yields to it.
func TestAnUpdateThatOnlyFetchesYieldsToARollback(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	var updated *osWorld
	live := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.must(updating(v2, true, true))
		w.rest()
		updated = w.copied(t, live)
	})
	url, asked := silentServer(t)
	w := updated
	w.t = t
	w.powerOn()
	text := strings.Replace(hostOf(a.sick, ""), "file:///srv/", url+"/", 1)
	id, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(text), Stage: true, Finalize: true})
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	if _, err := w.daemon.service.Rollback(t.Context(), RollbackRequest{Kind: hoststate.RuntimeLink, Stage: true}); errkind.Of(err) != errkind.Busy {
		t.Errorf("a rollback that the host cannot do: %v", err)
	}
	op := w.begun(stagingRollback)
	if op.Phase != operation.Done || w.status().Phase != hoststate.StagedABRollback {
		t.Errorf("%s: %+v: the status is %+v", op.Phase, op.Failure, w.status())
	}
	if op := w.waiting(id); op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
		t.Errorf("the update: %s: %+v", op.Phase, op.Failure)
	}
	w.rest()
}
