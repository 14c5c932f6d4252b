package selfservice

import (
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

func TestANewerBaseRetiresTheExtension(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.upgraded("2.0.0")
		write(t, filepath.Join(w.disk.root, "base", extension.OwnDaemon), daemonText("3.0.0", healthy), 0o755)
		write(t, filepath.Join(w.disk.root, "base", rescue.Base), `{"version":"3.0.0"}`, 0o644)
		if err := w.merge(); err != nil {
			t.Fatal(err)
		}
		w.restart()
		synctest.Wait()
		ops, err := w.disk.journal.List(context.Background(), 1, false)
		if err != nil || ops[0].Kind != "self-retire" {
			t.Fatalf("%+v, %v", ops, err)
		}
		if op := w.settle(ops[0].ID, ""); op.Phase != operation.Done {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		w.expect("3.0.0 of 3.0.0, back to : 2.0.0")
	})
}

func TestABaseThatFailedDoesNotRetireTheExtensionAgain(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.upgraded("2.0.0")
		write(t, filepath.Join(w.disk.root, "base", extension.OwnDaemon), daemonText("3.0.0", exits), 0o755)
		write(t, filepath.Join(w.disk.root, "base", rescue.Base), `{"version":"3.0.0"}`, 0o644)
		if err := w.merge(); err != nil {
			t.Fatal(err)
		}
		w.restart()
		synctest.Wait()
		ops, err := w.disk.journal.List(context.Background(), 1, false)
		if err != nil || ops[0].Kind != "self-retire" {
			t.Fatalf("%+v, %v", ops, err)
		}
		if op := w.settle(ops[0].ID, ""); op.Phase != operation.Undone || op.Failure.Kind != errkind.Unhealthy {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		w.restart()
		synctest.Wait()
		if last, _ := w.disk.journal.List(context.Background(), 1, false); last[0].ID != ops[0].ID {
			t.Errorf("tried again: %+v", last[0])
		}
		w.expect("2.0.0 of 3.0.0, back to base: 2.0.0*")
		if b := w.status().Blocked; len(b) > 0 {
			t.Errorf("the base is blocked: %+v", b)
		}
	})
}

// In each boot there is one try, and three for one version in all.
func TestABaseThatFailsIsTriedOnceInABootAndThreeTimes(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.upgraded("2.0.0")
		boot := func() {
			p := w.daemon
			w.Mu.Lock()
			w.cutPower()
			w.Mu.Unlock()
			w.reap(p)
			w.goroutines.Wait()
			w.powerOn()
			w.startDaemon()
			synctest.Wait()
		}
		base := func(version string, b behaviour) {
			write(t, filepath.Join(w.disk.root, "base", extension.OwnDaemon), daemonText(version, b), 0o755)
			write(t, filepath.Join(w.disk.root, "base", rescue.Base), `{"version":"`+version+`"}`, 0o644)
		}
		tries := func() (n int) {
			for range 2 { // a daemon that is started again in the same boot does not try again
				w.settle("", "")
				w.restart()
				synctest.Wait()
			}
			ops, err := w.disk.journal.List(context.Background(), 20, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range ops {
				if op.Kind == "self-retire" {
					n++
				}
			}
			return n
		}
		base("3.0.0", exits)
		for _, want := range []int{1, 2, 3, 3, 3} {
			boot()
			if got := tries(); got != want {
				t.Errorf("%d tries, want %d", got, want)
			}
		}
		w.expect("2.0.0 of 3.0.0, back to base: 2.0.0*")
		base("3.0.1", healthy)
		boot()
		if got := tries(); got != 4 {
			t.Errorf("another base: %d tries, want 4", got)
		}
		w.expect("3.0.1 of 3.0.1, back to : 2.0.0")
	})
}

func TestAHostWithoutABaseFallsBackToTheExtensionBefore(t *testing.T) {
	shop := newWorkshop(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shop)
		if err := os.RemoveAll(filepath.Join(w.disk.root, "base/usr")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(w.disk.root, "etc/trident/trust.d/shop.crt"), string(pemOf(shop)), 0o644)
		write(t, filepath.Join(w.disk.root, "base/usr/keep"), "", 0o644)
		w.stageBy("1.5.0")
		w.powerOn()
		w.startDaemon()
		synctest.Wait()
		if _, err := w.service().Rollback(context.Background(), quick); errkind.Of(err) != errkind.Precondition {
			t.Errorf("rollback of the only version: %v", err)
		}
		w.upgraded("2.0.0")
		w.expect("2.0.0 of , back to 1.5.0: 1.5.0< 2.0.0*")
		if op := w.upgrade("3.0.0", exits); op.Phase != operation.Undone {
			t.Errorf("%s", op.Phase)
		}
		w.expect("2.0.0 of , back to 1.5.0: 1.5.0< 2.0.0*")
		w.end(w.service().Rollback(context.Background(), quick))
		w.expect("1.5.0 of , back to : 1.5.0* 2.0.0")
		w.shutDown()
	})
}

func pemOf(shop *workshop) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shop.cert.Raw})
}

func (w *world) fetchedNothing() {
	w.t.Helper()
	if slices.Contains(w.Trace, "fetch") {
		w.t.Errorf("touched %v", w.Trace)
	}
}

func TestTheHostIsCheckedBeforeTheFetch(t *testing.T) {
	shop := newWorkshop(t)
	t.Run("a writable /usr", func(t *testing.T) {
		on(t, shop, func(t *testing.T, w *world) {
			trial := quick
			trial.AllowReadOnlyUsr = false
			src := w.offer(shop.image(t, "2.0.0", healthy))
			src.SHA256 = strings.Repeat("a", 64)
			op := w.end(w.service().Upgrade(context.Background(), src, trial))
			if op.Failure == nil || op.Failure.Kind != errkind.Precondition || !strings.Contains(op.Failure.Hint, "--allow-read-only-usr") {
				t.Errorf("%+v", op.Failure)
			}
			if err := w.service().CanActivate(trial); errkind.Of(err) != errkind.Precondition {
				t.Errorf("without the consent: %v", err)
			}
			if err := w.service().CanActivate(quick); err != nil {
				t.Errorf("with the consent: %v", err)
			}
			if last, err := w.service().History(context.Background(), 1); err != nil || len(last) != 1 || last[0].SHA256 != src.SHA256 {
				t.Errorf("the history has %+v, %v", last, err)
			}
			w.expect("1.0.0 of 1.0.0, back to :")
			w.fetchedNothing()
		})
	})
	t.Run("another vendor's broken extension", func(t *testing.T) {
		on(t, shop, func(t *testing.T, w *world) {
			write(t, filepath.Join(w.disk.root, "var/lib/extensions/vendor.raw"), "", 0o644)
			op := w.end(w.service().Upgrade(context.Background(), w.offer(shop.image(t, "2.0.0", healthy)), quick))
			if op.Failure == nil || op.Failure.Kind != errkind.Precondition || !strings.Contains(op.Failure.Message, "vendor") {
				t.Errorf("%+v", op.Failure)
			}
			w.expect("1.0.0 of 1.0.0, back to :")
			w.fetchedNothing()
		})
	})
	for name, path := range map[string]string{
		"another vendor's certificate":   "var/lib/extensions/vendor/usr/lib/trident/trust.d/evil.crt",
		"another vendor's base":          "run/extensions/vendor/usr/lib/trident/base.json",
		"a confext that trusts a vendor": "var/lib/confexts/vendor/etc/trident/trust.d/evil.crt",
		"one that hides ours":            "etc/extensions/trident/usr/lib/x",
	} {
		folder := "/" + strings.Join(strings.Split(path, "/")[:3], "/")
		t.Run(name, func(t *testing.T) {
			on(t, shop, func(t *testing.T, w *world) {
				write(t, filepath.Join(w.disk.root, path), "x", 0o644)
				op := w.end(w.service().Upgrade(context.Background(), w.offer(shop.image(t, "2.0.0", healthy)), quick))
				if op.Failure == nil || op.Failure.Kind != errkind.Precondition || !strings.Contains(op.Failure.Message, folder) {
					t.Errorf("%+v", op.Failure)
				}
				w.expect("1.0.0 of 1.0.0, back to :")
				w.fetchedNothing()
			})
		})
	}
}
