package selfservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
)

var quick = Trial{Soak: 2 * time.Second, Deadline: 60 * time.Second, AllowReadOnlyUsr: true}

// on runs a test in a world that is switched on.
func on(t *testing.T, shop *workshop, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shop)
		w.powerOn()
		w.startDaemon()
		synctest.Wait()
		f(t, w)
		w.shutDown()
	})
}

// offer puts a file where a path source finds it.
func (w *world) offer(path string) fetch.Source {
	w.t.Helper()
	copyFile(w.t, path, filepath.Join(w.disk.root, "offered.raw"))
	return fetch.Source{Path: "/offered.raw"}
}

func (w *world) service() *Service {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	return w.daemon.service
}

// end waits for an operation that was begun.
func (w *world) end(id string, err error) *operation.Operation {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	op := w.settle(id, "")
	if op == nil || op.ID != id {
		w.t.Fatalf("operation %s became %+v", id, op)
	}
	return op
}

func (w *world) upgrade(version string, b behaviour) *operation.Operation {
	w.t.Helper()
	trial := quick
	trial.AllowDowngrade = true
	return w.end(w.service().Upgrade(context.Background(), w.offer(w.shop.image(w.t, version, b)), trial))
}

// upgraded upgrades to a good version.
func (w *world) upgraded(version string) {
	w.t.Helper()
	if op := w.upgrade(version, healthy); op.Phase != operation.Done {
		w.t.Fatalf("%s: %+v", op.Phase, op.Failure)
	}
}

func (w *world) status() Status {
	w.t.Helper()
	st, err := w.service().Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// now describes what is active and what is in the store.
func (w *world) now() string {
	st := w.status()
	out := st.Running + " of " + st.Base + ", back to " + st.RollbackTarget + ":"
	for _, i := range st.Images {
		out += " " + i.Version
		if i.Active {
			out += "*"
		}
		if i.Previous {
			out += "<"
		}
	}
	return out
}

func (w *world) expect(want string) {
	w.t.Helper()
	if got := w.now(); got != want {
		w.t.Errorf("now %q, want %q", got, want)
	}
}

// What is offered and must not be taken: refused before anything has changed,
// with one reason.
func TestARefusedImageLeavesTheHostUnchanged(t *testing.T) {
	shop := newWorkshop(t)
	stranger := newStranger(t)
	flipped := func(at func(size int) int) func(*testing.T) string {
		return func(t *testing.T) string {
			data, err := os.ReadFile(shop.image(t, "2.0.0", healthy))
			if err != nil {
				t.Fatal(err)
			}
			data[at(len(data))] ^= 1
			path := filepath.Join(t.TempDir(), "flipped.raw")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	release := func(old, new string) func(*testing.T) string {
		return func(t *testing.T) string {
			return shop.variant(t, "2.0.0", healthy, new, func(tree string) {
				path := filepath.Join(tree, extension.OwnRelease)
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path, strings.ReplaceAll(string(text), old, new), 0o644)
			})
		}
	}
	file := func(name string) func(*testing.T) string {
		return func(t *testing.T) string {
			return shop.variant(t, "2.0.0", healthy, strings.ReplaceAll(name, "/", "_"), func(tree string) { write(t, filepath.Join(tree, name), "x", 0o644) })
		}
	}
	version := func(v string) func(*testing.T) string {
		return func(t *testing.T) string { return shop.image(t, v, healthy) }
	}
	for name, c := range map[string]struct {
		image func(*testing.T) string
		kind  errkind.Kind
		says  string
	}{
		"by another key":       {func(t *testing.T) string { return stranger.image(t, "2.0.0", healthy) }, errkind.Untrusted, "verify: "},
		"a byte of the data":   {flipped(func(int) int { return 40<<10 + 5000 }), errkind.Corrupt, "verify: "},
		"a byte of the table":  {flipped(func(int) int { return 512 + 60 }), errkind.Corrupt, "verify: "},
		"a byte of its backup": {flipped(func(n int) int { return n - 400 }), errkind.Corrupt, "verify: "},
		"not an image":         {func(t *testing.T) string { return filepath.Join(shop.dir, "2.0.0-healthy", extension.OwnDaemon) }, errkind.Corrupt, "verify: "},
		"another architecture": {release("x86-64", "arm64"), errkind.Incompatible, "arm64"},
		"partitions of another architecture": {func(t *testing.T) string {
			return shop.build(t, filepath.Join(shop.dir, "2.0.0-healthy"), ddi.ARM64)
		}, errkind.Incompatible, `partitions of the image are for the architecture "arm64"`},
		"another system":      {release("_any", "otheros"), errkind.Incompatible, "otheros"},
		"another extension":   {release("SYSEXT_ID=trident", "SYSEXT_ID=other"), errkind.Incompatible, `"other"`},
		"no version":          {release("SYSEXT_VERSION_ID=2.0.0", "SYSEXT_VERSION_ID=new"), errkind.Invalid, `"new"`},
		"a foreign file":      {file("usr/bin/sudo"), errkind.Forbidden, "usr/bin/sudo"},
		"a key for systemd":   {file("usr/lib/verity.d/x.crt"), errkind.Forbidden, "usr/lib/verity.d"},
		"a key for ourselves": {file("usr/lib/trident/trust.d/x.crt"), errkind.Forbidden, "usr/lib/trident/trust.d"},
		"a base":              {file("usr/lib/trident/base.json"), errkind.Forbidden, "base.json"},
		"older than the base": {version("0.9.0"), errkind.TooOld, "not newer than the base"},
		"as old as the base":  {version("1.0.0"), errkind.Exists, "the version of the base already"},
		"a dishonest daemon": {func(t *testing.T) string {
			return shop.variant(t, "2.0.0", healthy, "dishonest", func(tree string) {
				write(t, filepath.Join(tree, extension.OwnDaemon), daemonText("2.0.1", healthy), 0o755)
			})
		}, errkind.Unhealthy, "reports version 2.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			image := c.image
			shop.image(t, "2.0.0", healthy)
			on(t, shop, func(t *testing.T, w *world) {
				op := w.end(w.service().Upgrade(context.Background(), w.offer(image(t)), quick))
				if op.Phase != operation.Undone || op.Failure.Kind != c.kind || !strings.Contains(op.Failure.Message, c.says) {
					t.Errorf("%s: %+v", op.Phase, op.Failure)
				}
				w.expect("1.0.0 of 1.0.0, back to :")
				if len(w.status().Blocked) > 0 || slices.Contains(w.Trace, "swing link") {
					t.Errorf("blocked %v, touched %v", w.status().Blocked, w.Trace)
				}
				w.checkLeftovers("1.0.0", op)
			})
		})
	}
}

func TestAVersionThatDoesNotRunWhereItIsMergedIsUndoneBeforeTheRestart(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.noexec = true
		op := w.end(w.service().Upgrade(context.Background(), w.offer(shop.image(t, "2.0.0", healthy)), quick))
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Unhealthy ||
			!strings.Contains(op.Failure.Message, "activate: the candidate cannot start on this host") {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		w.expect("1.0.0 of 1.0.0, back to :")
		if slices.Contains(w.Trace, "restart") {
			t.Errorf("restarted: %v", w.Trace)
		}
		w.checkLeftovers("1.0.0", op)
	})
}

func TestAVersionIsStagedAndActivatedLater(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		if op := w.end(w.service().Stage(ctx, w.offer(shop.image(t, "2.0.0", healthy)), false)); op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		w.expect("1.0.0 of 1.0.0, back to : 2.0.0")
		if _, err := w.service().Activate(ctx, "3.0.0", quick); errkind.Of(err) != errkind.NotFound {
			t.Errorf("activate what is not there: %v", err)
		}
		if op := w.end(w.service().Activate(ctx, "", quick)); op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		w.expect("2.0.0 of 1.0.0, back to base: 2.0.0*")
	})
}

func TestAnUpgradeToACompressedImageIsKept(t *testing.T) {
	if !ddi.CanCompress() {
		t.Skip("mkfs.erofs is not installed")
	}
	shop := newStranger(t)
	shop.compress = true
	const big = 1 << 20
	path := shop.variant(t, "2.0.0", healthy, "compressed", func(tree string) {
		// Behind the part that the daemon of a world reads.
		write(t, filepath.Join(tree, extension.OwnDaemon), daemonText("2.0.0", healthy)+strings.Repeat("\n# compressible", big/14), 0o755)
	})
	if info, err := os.Stat(path); err != nil || info.Size() > big/2 {
		t.Fatalf("not compressed: %v, %v", info, err)
	}
	on(t, shop, func(t *testing.T, w *world) {
		if op := w.end(w.service().Upgrade(context.Background(), w.offer(path), quick)); op.Phase != operation.Done {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		w.expect("2.0.0 of 1.0.0, back to base: 2.0.0*")
	})
}

func TestAnUpgradeReadsTheImageOnceInAProcess(t *testing.T) {
	shop := newWorkshop(t)
	const big = 8 << 20
	path := shop.variant(t, "2.0.0", healthy, "big", func(tree string) {
		write(t, filepath.Join(tree, "usr/share/doc/trident/big"), strings.Repeat("x", big), 0o644)
	})
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		passes := func(what string, want int64) {
			t.Helper()
			if n := w.read.Swap(0); n < want*big || n > want*big+big/2 {
				t.Errorf("%s: %d bytes read of an image of %d, want %d passes", what, n, big, want)
			}
		}
		if op := w.end(w.service().Stage(ctx, w.offer(path), false)); op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		passes("verify and probe", 1)
		stored := w.service().images.Path("2.0.0")
		if err := w.service().images.CheckActivatable(ctx, "2.0.0"); err != nil {
			t.Fatal(err)
		}
		passes("again, in the same process", 0)
		if err := os.Chtimes(stored, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := w.service().images.CheckActivatable(ctx, "2.0.0"); err != nil {
			t.Fatal(err)
		}
		passes("after somebody has opened the file", 1)
		if op := w.end(w.service().Activate(ctx, "", quick)); op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		passes("verify, probe and activate in one process; prove in the next, in the same boot", 0)
		if err := w.service().images.CheckActivatable(ctx, "2.0.0"); err != nil {
			t.Fatal(err)
		}
		passes("in the next process", 1)
	})
}

func TestAnImageThatWasDamagedInTheStoreIsNotActivated(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		w.end(w.service().Stage(ctx, w.offer(shop.image(t, "2.0.0", healthy)), false))
		path := filepath.Join(w.disk.root, rescue.Dir, "2.0.0.raw")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[40<<10+5000] ^= 1
		if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		op := w.end(w.service().Activate(ctx, "2.0.0", quick))
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Corrupt {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		w.expect("1.0.0 of 1.0.0, back to : 2.0.0") // it was there before, so it stays
	})
}

// A file system that was repaired can have a folder where a file was.
func TestAFolderInThePlaceOfAnImageOrItsRecordIsPutAside(t *testing.T) {
	shop := newWorkshop(t)
	for _, name := range []string{"2.0.0.raw", "2.0.0.json", "20260101-000000-AAAAAA.part"} {
		on(t, shop, func(t *testing.T, w *world) {
			ctx := context.Background()
			w.end(w.service().Stage(ctx, w.offer(shop.image(t, "2.0.0", healthy)), false))
			path := filepath.Join(w.disk.root, rescue.Dir, name)
			if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Join(path, "lost"), 0o755)); err != nil {
				t.Fatal(err)
			}
			w.upgraded("2.0.0")
			w.expect("2.0.0 of 1.0.0, back to base: 2.0.0*")
			if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
				t.Errorf("%s is a folder still", name)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "."+name+".damaged", "lost")); err != nil {
				t.Errorf("what was in the folder is gone: %v", err)
			}
		})
	}
}

func TestRollbackLeadsToTheVersionBeforeAndThenToTheBase(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		if _, err := w.service().Rollback(ctx, quick); errkind.Of(err) != errkind.Precondition {
			t.Errorf("rollback of nothing: %v", err)
		}
		w.upgraded("2.0.0")
		w.expect("2.0.0 of 1.0.0, back to base: 2.0.0*")
		w.upgraded("3.0.0")
		w.expect("3.0.0 of 1.0.0, back to 2.0.0: 2.0.0< 3.0.0*")
		for _, want := range []string{"2.0.0 of 1.0.0, back to base: 2.0.0* 3.0.0", "1.0.0 of 1.0.0, back to : 3.0.0"} {
			if op := w.end(w.service().Rollback(ctx, quick)); op.Phase != operation.Done {
				t.Fatalf("%+v", op)
			}
			w.expect(want)
		}
		entries, err := w.service().History(ctx, 2)
		if err != nil || len(entries) != 2 || entries[0].Kind != "self-rollback" || entries[0].From != "2.0.0" || entries[0].To != "1.0.0" || entries[0].End.IsZero() {
			t.Errorf("%+v, %v", entries, err)
		}
	})
}

func TestTheStoreKeepsTheActiveThePreviousAndTheNewestStagedImage(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		for _, v := range []string{"2.0.0", "2.1.0", "2.2.0"} {
			w.upgraded(v)
		}
		for _, v := range []string{"4.0.0", "5.0.0"} {
			w.end(w.service().Stage(context.Background(), w.offer(shop.image(t, v, healthy)), false))
		}
		w.expect("2.2.0 of 1.0.0, back to 2.1.0: 2.1.0< 2.2.0* 5.0.0")
		w.upgraded("2.3.0")
		w.expect("2.3.0 of 1.0.0, back to 2.2.0: 2.2.0< 2.3.0* 5.0.0")
		for v, kind := range map[string]errkind.Kind{"2.3.0": errkind.Precondition, "2.2.0": errkind.Precondition, "9.0.0": errkind.NotFound, "": errkind.Invalid, "../x": errkind.NotFound} {
			if err := w.service().Remove(context.Background(), v); errkind.Of(err) != kind || err == nil {
				t.Errorf("remove %q: %v", v, err)
			}
		}
		if err := w.service().Remove(context.Background(), "5.0.0"); err != nil {
			t.Error(err)
		}
		w.expect("2.3.0 of 1.0.0, back to 2.2.0: 2.2.0< 2.3.0*")
	})
}

func TestAVersionThatFailedIsRefusedUntilItIsUnblocked(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		w.upgrade("2.0.0", lies)
		if op := w.upgrade("2.0.0", healthy); op.Failure == nil || op.Failure.Kind != errkind.Blocked || !strings.Contains(op.Failure.Hint, "unblock 2.0.0") {
			t.Errorf("%+v", op.Failure)
		}
		if err := w.service().Unblock(ctx, "2.0.0"); err != nil {
			t.Fatal(err)
		}
		if err := w.service().Unblock(ctx, "2.0.0"); errkind.Of(err) != errkind.NotFound {
			t.Errorf("unblock again: %v", err)
		}
		w.upgraded("2.0.0")
	})
}

func TestAnOlderVersionNeedsAllowDowngrade(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.upgraded("3.0.0")
		op := w.end(w.service().Upgrade(context.Background(), w.offer(shop.image(t, "2.0.0", healthy)), quick))
		if op.Failure == nil || op.Failure.Kind != errkind.TooOld || !strings.Contains(op.Failure.Hint, "--allow-downgrade") {
			t.Errorf("%+v", op.Failure)
		}
		if op := w.upgrade("3.0.0", healthy); op.Failure == nil || op.Failure.Kind != errkind.Exists {
			t.Errorf("the same again: %+v", op.Failure)
		}
		w.upgraded("2.0.0")
		w.expect("2.0.0 of 1.0.0, back to 3.0.0: 2.0.0* 3.0.0<")
	})
}

func TestASecondUpgradeIsToldWhichOneRuns(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		src := w.offer(shop.image(t, "2.0.0", healthy))
		id, err := w.service().Upgrade(ctx, src, quick)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.service().Upgrade(ctx, src, quick); errkind.Of(err) != errkind.Busy || !strings.Contains(err.Error(), id) {
			t.Errorf("second upgrade: %v", err)
		}
		if err := w.service().Remove(ctx, "2.0.0"); errkind.Of(err) != errkind.Busy {
			t.Errorf("remove meanwhile: %v", err)
		}
		w.end(id, nil)
	})
}

func TestAnUploadIsStagedAndALostUploadIsUndone(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		data, err := os.ReadFile(shop.image(t, "2.0.0", healthy))
		if err != nil {
			t.Fatal(err)
		}
		chunks := func(r io.Reader, end error) func(context.Context) ([]byte, error) {
			return func(context.Context) ([]byte, error) {
				buf := make([]byte, 10_000)
				n, err := r.Read(buf)
				if err != nil {
					err = end
				}
				return buf[:n], err
			}
		}
		lost := fetch.Source{UploadSize: int64(len(data)), Upload: chunks(bytes.NewReader(data[:50_000]), errkind.Errorf(errkind.Unavailable, "the client went away"))}
		op := w.end(w.service().Stage(context.Background(), lost, false))
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Unavailable {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		w.checkLeftovers("1.0.0", op)
		whole := fetch.Source{UploadSize: int64(len(data)), Upload: chunks(bytes.NewReader(data), io.EOF)}
		if op := w.end(w.service().Stage(context.Background(), whole, false)); op.Phase != operation.Done {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		w.expect("1.0.0 of 1.0.0, back to : 2.0.0")
	})
}

func TestARequestThatCanNeverWorkBeginsNothing(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		path := fetch.Source{Path: "/x"}
		chunks := func(context.Context) ([]byte, error) { return nil, io.EOF }
		for name, c := range map[string]struct {
			src   fetch.Source
			trial Trial
		}{
			"no source":             {},
			"two sources":           {src: fetch.Source{Path: "/x", URL: "http://127.0.0.1/x"}},
			"a relative path":       {src: fetch.Source{Path: "x"}},
			"no scheme":             {src: fetch.Source{URL: "127.0.0.1/x"}},
			"another scheme":        {src: fetch.Source{URL: "ftp://127.0.0.1/x"}},
			"an empty upload":       {src: fetch.Source{Upload: chunks}},
			"a huge upload":         {src: fetch.Source{Upload: chunks, UploadSize: maxImage + 1}},
			"a soak past its end":   {src: path, trial: Trial{Soak: 2 * time.Minute, Deadline: time.Minute}},
			"a negative soak":       {src: path, trial: Trial{Soak: -1}},
			"a deadline of days":    {src: path, trial: Trial{Deadline: 48 * time.Hour}},
			"a deadline of nothing": {src: path, trial: Trial{Soak: 1, Deadline: 2}},
		} {
			if id, err := w.service().Upgrade(context.Background(), c.src, c.trial); errkind.Of(err) != errkind.Invalid {
				t.Errorf("%s: %q, %v", name, id, err)
			}
		}
		if ops, _ := w.disk.journal.List(context.Background(), 10, false); len(ops) > 0 {
			t.Errorf("begun: %+v", ops)
		}
	})
}

func TestASourceIsShownWithoutItsSecrets(t *testing.T) {
	for url, want := range map[string]string{
		"https://user:secret@example.org/trident.raw?token=secret#secret": "https://example.org/trident.raw",
		"http://[::1]:80/x": "http://[::1]:80/x",
		"://secret":         "a URL",
	} {
		if got := (fetch.Source{URL: url}).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A power cut in the middle of a write leaves its temporary file, or folder.
func TestFilesOfInterruptedWritesAreDeletedAfterATrial(t *testing.T) {
	shop := newWorkshop(t)
	for want, b := range map[operation.Phase]behaviour{operation.Done: healthy, operation.Undone: exits} {
		t.Run(string(want), func(t *testing.T) {
			on(t, shop, func(t *testing.T, w *world) {
				var left []string
				for _, path := range []string{
					rescue.Dir + "/rescue.json", rescue.Dir + "/previous", rescue.Dir + "/rescue/trident-rescue", rescue.Link, bootUnitPath, bootWantsPath,
				} {
					dir, name := filepath.Split(filepath.Join(w.disk.root, path))
					file := filepath.Join(dir, "."+name+".123")
					left = append(left, file)
					if err := os.MkdirAll(file, 0o700); err != nil {
						t.Fatal(err)
					}
				}
				if op := w.upgrade("2.0.0", b); op.Phase != want {
					t.Fatalf("%s: %+v", op.Phase, op.Failure)
				}
				for _, file := range left {
					if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s is left (%v)", file, err)
					}
				}
			})
		})
	}
}

func TestADeviceOfDMVerityIsKnownByItsRootHashOrByItsFile(t *testing.T) {
	const hash = "679d981184214acba17f765b058373007e852dd8d4693e5f98ca123b55b0193f"
	for name, c := range map[string]struct {
		device, loop, backing string
		want                  bool
	}{
		"by its root hash":           {device: hash + "-verity", want: true},
		"by its file":                {device: "loop13p1-verity", loop: "loop13", backing: "/var/lib/trident/self/2.0.0.raw", want: true},
		"of another root hash":       {device: strings.Repeat("0", 64) + "-verity"},
		"of another file":            {device: "loop13p1-verity", loop: "loop13", backing: "/var/lib/trident/self/1.9.0.raw"},
		"of a file that went":        {device: "loop13p1-verity", loop: "loop13", backing: "/var/lib/trident/self/2.0.0.raw (deleted)"},
		"without verity":             {device: "loop13p1", loop: "loop13", backing: "/var/lib/trident/self/2.0.0.raw"},
		"of no loop device":          {device: "p-verity"},
		"of a loop device that went": {device: "loop13p1-verity"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "sys/block/dm-0/dm/name"), c.device+"\n", 0o644)
			if c.loop != "" {
				write(t, filepath.Join(root, "sys/block", c.loop, "loop/backing_file"), c.backing+"\n", 0o644)
			}
			s := &Service{Config: Config{Root: root}, images: &images.Store{Root: root}}
			if got := s.verityActive(Image{Version: "2.0.0", RootHash: hash}); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// silence is an image whose bytes never come.
func silence(asked chan<- struct{}) fetch.Source {
	return fetch.Source{UploadSize: 10, Upload: func(ctx context.Context) ([]byte, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

func TestARollbackEndsAFetch(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		ctx := context.Background()
		asked := make(chan struct{}, 8)
		id, err := w.service().Upgrade(ctx, silence(asked), quick)
		if err != nil {
			t.Fatal(err)
		}
		<-asked
		// With nothing to return to, the fetch goes on.
		if _, err := w.service().Rollback(ctx, quick); errkind.Of(err) != errkind.Precondition {
			t.Errorf("rollback of nothing: %v", err)
		}
		if active, ok := w.daemon.service.Runner.Active(); !ok || active != id {
			t.Fatalf("the upgrade has ended: %v", active)
		}
		if _, err := w.daemon.service.Runner.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		w.end(id, nil)
		w.upgraded("2.0.0")
		for range 2 {
			begin := w.service().Upgrade
			if id, err = begin(ctx, silence(asked), quick); err != nil {
				t.Fatal(err)
			}
			<-asked
			back, err := w.service().Rollback(ctx, quick)
			if err != nil {
				t.Fatal(err)
			}
			if op, err := w.daemon.service.Runner.Get(ctx, id); err != nil || op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
				t.Errorf("the upgrade: %+v, %v", op, err)
			}
			if op := w.end(back, nil); op.Phase != operation.Done {
				t.Fatalf("the rollback: %+v", op)
			}
			w.expect("1.0.0 of 1.0.0, back to : 2.0.0")
			w.end(w.service().Activate(ctx, "2.0.0", quick))
		}
	})
}

func TestAFetchEndsWhenTheCallersTimeIsOver(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		src := silence(make(chan struct{}, 8))
		src.Timeout = time.Second
		op := w.end(w.service().Upgrade(context.Background(), src, quick))
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Timeout || !strings.Contains(op.Failure.Message, "not finished within 1s") {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		if _, err := w.service().Upgrade(context.Background(), fetch.Source{URL: "http://x/y", Timeout: -1}, quick); errkind.Of(err) != errkind.Invalid {
			t.Errorf("a negative time: %v", err)
		}
	})
}

func TestTheNewestEvidenceIsKeptThoughTheClockWasSetBack(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		failed := w.upgrade("2.0.0", lies)
		dir := filepath.Join(w.disk.root, rescue.Dir, evidenceDir)
		if _, err := os.Stat(filepath.Join(dir, failed.ID)); err != nil {
			t.Fatal(err)
		}
		for i := range evidenceKept { // of operations that the journal has forgotten, from before
			if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("20990101-00000%d-ABCDEF", i)), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		w.upgraded("2.1.0")
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != evidenceKept {
			t.Errorf("%d folders, %v", len(left), err)
		}
		if _, err := os.Stat(filepath.Join(dir, failed.ID)); err != nil {
			t.Errorf("the newest evidence: %v", err)
		}
	})
}
