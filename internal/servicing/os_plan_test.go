package servicing

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
)

// touchesOf are the touches of a kind of effects: patterns of path.Match.
var touchesOf = map[string][]string{
	"run-script": {"run * script"}, "replace-table": {"write partition entries"}, "make-filesystem": {"make vfat on *", "make ext4 on *"},
	"write-partition": {"write partition"}, "write-fstab": {"write fstab"}, "write-file": {"write file"}, "hand-over": {"hand over"},
	"boot-once": {"set LoaderEntryOneShot"}, "reboot": {"reboot"}, "arm-guard": {"link guard"}, "set-up-module": {"write /etc/modules-load.d/*"},
}

func count(trace []string, patterns ...string) int {
	n := 0
	for _, touch := range trace {
		if slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, touch); return ok && err == nil }) {
			n++
		}
	}
	return n
}

// A plan says what the steps do then, and nothing else; and making it changes nothing.
func TestAPlanIsWhatTheStepsDo(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	for _, mode := range []hostconfig.UEFIFallback{hostconfig.FallbackConservative, hostconfig.FallbackOptimistic, hostconfig.FallbackDisabled} {
		for _, update := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, ", update: ", update), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					text := func(i osImage) func(*album) string {
						return func(*album) string {
							return strings.Replace(hostOf(i, ""), "os:\n", "os:\n  uefiFallback: "+string(mode)+"\n", 1)
						}
					}
					w := newOSWorld(t, a)
					w.powerOn()
					do, c := installing(text(a.v1), true, true), w.parse(text(a.v1)(a))
					ask := w.daemon.service.PlanInstall
					if update {
						w.must(do)
						do, c = updating(text(a.v2), true, true), w.parse(text(a.v2)(a))
						ask = w.daemon.service.Plan
					}
					before, tree := w.state(), w.files()
					plan, err := ask(t.Context(), c)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(tree, w.files()); diff != "" || w.state() != before {
						t.Errorf("making a plan has changed the machine: %s", diff)
					}
					if plan.Storage == nil || len(plan.Warnings) > 0 {
						t.Errorf("%+v", plan)
					}
					w.Trace = nil
					w.must(do)

					promised := map[string]int{}
					renewed := map[string]bool{}
					for _, s := range plan.Steps {
						for _, e := range s.Effects {
							promised[e.Kind]++
							renewed[s.Name] = renewed[s.Name] || e.Kind == "renew-fallback"
							if !strings.Contains(plan.String(), e.Text) {
								t.Errorf("%q is not in the text", e.Text)
							}
						}
					}
					for kind, touches := range touchesOf {
						did := count(w.Trace, touches...)
						if promised[kind] != did {
							t.Errorf("%s is promised %d times, and was done %d times", kind, promised[kind], did)
						}
					}
					reboot := slices.Index(w.Trace, "reboot")
					for step, part := range map[string][]string{"try": w.Trace[:reboot], "settle": w.Trace[reboot:]} {
						if did := count(part, "write EFI/BOOT/*") > 0; did != renewed[step] {
							t.Errorf("step %s: the fallback boot files are promised: %v, and were written: %v", step, renewed[step], did)
						}
					}
					w.rest()
				})
			})
		}
	}
}

// files lists the files of what runs, but for those of the datastore.
func (w *osWorld) files() []string {
	var out []string
	err := filepath.WalkDir(w.root, func(file string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(w.root, file)
		if err != nil || strings.HasPrefix(rel, datastore) {
			return err
		}
		if rel != "run/trident" && rel != "run" { // a folder that a daemon has anyway
			out = append(out, rel)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// What an update at run time does not do with os.uefiFallback it does not promise.
func TestAPlanAtRunTimePromisesNoBootFiles(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		text := strings.Replace(strings.Replace(v1(w.album), "os:\n", "os:\n  uefiFallback: optimistic\n", 1), "of v1", "of more", 1)
		plan, err := w.daemon.service.Plan(t.Context(), w.parse(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range plan.Steps {
			for _, e := range s.Effects {
				got = append(got, s.Name+": "+e.Kind+" "+e.Object)
			}
		}
		want := []string{"pre-servicing: run-script pre", "files: write-file /etc/of.conf", "post-configure: run-script post", "settle: record-uefi-fallback "}
		if diff := cmp.Diff(want, got); diff != "" || plan.Kind != RuntimeUpdate || plan.Storage != nil {
			t.Errorf("%s: -want +got:\n%s", plan.Kind, diff)
		}
		w.Trace = nil
		w.must(func(w *osWorld) (string, func(*Service) (string, error)) {
			_, start := updating(func(*album) string { return text }, true, true)(w)
			return "runtime-update", start
		})
		if n := count(w.Trace, "write EFI/*/*", "rename to EFI/*/*", "set Loader*"); n > 0 {
			t.Errorf("boot files are changed: %v", w.Trace)
		}
	})
}

func TestStreamDiskLogsItsSteps(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	w, op := streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha}, func(*osWorld) {})
	said := w.says(op.ID)
	for _, want := range []string{"wipe the partition table of /dev/vdb", "write partition 2 of the image to its place on /dev/vdb", "write the partition table of the image to /dev/vdb", "reboot the host"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
}
