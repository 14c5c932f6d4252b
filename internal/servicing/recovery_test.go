package servicing

import (
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

func TestTheRecoveryKeyOfAnInstallationIsInMemoryOnly(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	w := newOSWorld(t, a)
	w.powerOn()
	defer w.stopDaemon()
	get := func(id string) (string, string, errkind.Kind) {
		op, key, err := w.daemon.service.RecoveryKey(t.Context(), id)
		if err == nil {
			return op, string(key), ""
		}
		return op, string(key), errkind.Of(err)
	}
	if _, _, kind := get(""); kind != errkind.NotFound {
		t.Errorf("before an installation: %s", kind)
	}
	id, err := w.daemon.service.Install(t.Context(), InstallRequest{Config: w.parse(v1(a)), Stage: true, Finalize: true})
	if err != nil {
		t.Fatal(err)
	}
	if op := w.waiting(id); op.Waiting != operation.Reboot {
		t.Fatalf("%s: %+v", op.Phase, op.Failure)
	}
	if _, _, kind := get(id); kind != errkind.NotFound {
		t.Errorf("an installation without encrypted volumes: %s", kind)
	}
	write(t, filepath.Join(w.root, "run/trident/recovery", id), "cbdefghi")
	for _, asked := range []string{"", id} {
		if op, key, kind := get(asked); op != id || key != "cbdefghi" || kind != "" {
			t.Errorf("%q: %s, %q, %s", asked, op, key, kind)
		}
	}
	for _, wrong := range []string{"../recovery/" + id, "nothing"} {
		if _, key, kind := get(wrong); key != "" || kind != errkind.NotFound {
			t.Errorf("%q: %q, %s", wrong, key, kind)
		}
	}
}
