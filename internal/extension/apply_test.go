package extension

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// calls counts the calls of a method for a unit, "" for all.
func (w *world) calls(method, unit string) (n int) {
	for _, c := range w.systemd.Calls() {
		if c.Method == method && (unit == "" || c.Unit == unit) {
			n++
		}
	}
	return n
}

func TestExtensionsComeChangeAndGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	one, two, etc, conf := w.stage(s.one, ""), w.stage(s.two, ""), w.stage(s.etc, "/etc/extensions/tool.raw"), w.stage(s.conf, "")

	first := w.apply(nil, one, etc, conf)
	w.wantState(map[string]string{
		"var/lib/extensions/app.raw":    "link ../trident/extensions/" + s.one.sha[:8],
		"etc/extensions/tool.raw":       "link ../../var/lib/trident/extensions/" + s.etc.sha[:8],
		"var/lib/confexts/settings.raw": "link ../trident/extensions/" + s.conf.sha[:8],
		"sysext":                        "app tool", "confext": "settings",
	})
	for _, class := range []Class{Sysext, Confext} {
		if unit := class.facts().unit; !w.systemd.Enabled(unit) || w.calls("ReloadOrRestart", unit) != 1 {
			t.Errorf("%s: enabled %v, merged %d times", unit, w.systemd.Enabled(unit), w.calls("ReloadOrRestart", unit))
		}
	}

	second := w.apply(first, two, conf)
	w.wantState(map[string]string{
		"var/lib/extensions/app.raw":    "link ../trident/extensions/" + s.two.sha[:8],
		"var/lib/confexts/settings.raw": "link ../trident/extensions/" + s.conf.sha[:8],
		"sysext":                        "app", "confext": "settings",
	})
	if n := w.calls("ReloadOrRestart", Confext.facts().unit); n != 1 {
		t.Errorf("the confexts did not change, and were merged %d times", n)
	}

	// Back without a download: all that the first generation had is there.
	var back []Image
	for _, e := range first {
		i, err := w.store.Load(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, i)
	}
	third := w.apply(second, back...)
	if !slices.Equal(third, first) || w.state()["sysext"] != "app tool" {
		t.Errorf("back: %+v, %v", third, w.state())
	}
	w.apply(third)
	w.wantState(map[string]string{"sysext": "", "confext": ""})
	if w.calls("Reload", "") != 0 {
		t.Error("systemd 257 reloads by itself")
	}
}

func TestAnImageMayHaveItsVersionInItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	at := "/var/lib/extensions/app_1.2.raw"
	w.apply(nil, w.stage(s.one, at))
	w.wantState(map[string]string{"var/lib/extensions/app_1.2.raw": "link ../trident/extensions/" + s.one.sha[:8], "sysext": "app_1.2", "confext": ""})

	w = newWorld(t)
	w.systemd.Release = 254
	before := w.state()
	change := w.plan(nil, w.stage(s.one, at))
	err := w.store.Check(t.Context(), change)
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "systemd 254 of this host does not merge "+at) || !strings.Contains(errkind.Hint(err), "app.raw") {
		t.Errorf("%v (%s, hint %q)", err, errkind.Of(err), errkind.Hint(err))
	}
	if err := w.store.Apply(t.Context(), change); err == nil || !maps.Equal(before, w.state()) {
		t.Errorf("applied: %v, %v", err, w.state())
	}
}

func TestFilesOfOthersAreNeverChanged(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, c := range []struct {
		title string
		put   func(*world)
		want  []string
	}{
		{"a file of another", func(w *world) { w.write("var/lib/extensions/app.raw", string(s.one.data)) }, []string{"/var/lib/extensions/app.raw is a regular file"}},
		{"a link of another", func(w *world) { w.link("/srv/app.raw", "var/lib/extensions/app.raw") }, []string{"/var/lib/extensions/app.raw is a file that Trident did not write"}},
		{"a link to an image elsewhere", func(w *world) {
			w.link("../../../srv/"+s.one.sha+".raw", "var/lib/extensions/app.raw")
		}, []string{"/var/lib/extensions/app.raw is a file that Trident did not write"}},
		{"a folder of another", func(w *world) { w.write("var/lib/extensions/app/usr/x", "") }, []string{"another sysext has the name app, at /var/lib/extensions/app;", "only one of it and /var/lib/extensions/app.raw"}},
		{"one that would hide ours", func(w *world) { w.write("etc/extensions/app.raw", string(s.two.data)) }, []string{"another sysext has the name app, at /etc/extensions/app.raw"}},
		{"one that ours would hide", func(w *world) {
			w.write("var/lib/extensions/tool.raw", string(s.etc.data))
		}, []string{"another sysext has the name tool, at /var/lib/extensions/tool.raw", "only one of it and /etc/extensions/tool.raw"}},
		{"a mask", func(w *world) {
			if err := hosttest.MkdirAll(filepath.Join(w.root, "etc/extensions/app")); err != nil {
				w.t.Fatal(err)
			}
		}, []string{"another sysext has the name app, at /etc/extensions/app"}},
		{"a folder of versions", func(w *world) { w.write("run/extensions/app.raw.v/app_1.raw", string(s.one.data)) }, []string{"another sysext has the name app, at /run/extensions/app.raw.v"}},
	} {
		w := newWorld(t)
		c.put(w)
		before := w.state()
		change := w.plan(nil, w.stage(s.two, ""), w.stage(s.etc, "/etc/extensions/tool.raw"))
		w.powerOn(0, false)
		err := w.store.Apply(t.Context(), change)
		if errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == "" || w.touches > 0 || !maps.Equal(before, w.state()) {
			t.Errorf("%s: %v (%s), touches %v", c.title, err, errkind.Of(err), w.trace)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v lacks %q", c.title, err, want)
			}
		}
	}
}

func TestAnImageOfUpstreamIsKeptAndRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	now := Generation{w.place(s.one, "/var/lib/extensions/app.raw"), w.place(s.etc, "/etc/extensions/tool.raw")}
	if err := w.merge(Sysext); err != nil {
		t.Fatal(err)
	}
	before := w.state()
	change := w.plan(now, w.stage(s.two, ""))
	if err := w.store.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	w.wantState(map[string]string{"var/lib/extensions/app.raw": "link ../trident/extensions/" + s.two.sha[:8], "sysext": "app", "confext": ""})
	w.wantStored(s.one.sha[:8], s.two.sha[:8], s.etc.sha[:8])
	if err := w.store.Undo(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	w.wantState(before)
	if info, err := os.Stat(filepath.Join(w.root, "etc/extensions/tool.raw")); err != nil || info.Mode() != 0o644 {
		t.Errorf("given back as %v, %v", info.Mode(), err)
	}
}

func TestAFileThatWasChangedSinceUpstreamPlacedItIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	placed := w.place(s.one, "/var/lib/extensions/app.raw")
	w.write("var/lib/extensions/app.raw", string(s.two.data))
	before := w.state()
	err := w.store.Apply(t.Context(), w.plan(Generation{placed}))
	wantError(t, err, errkind.Corrupt, "remove /var/lib/extensions/app.raw: SHA-384 is "+s.two.sha)
	w.wantState(before)
}

// One broken extension keeps systemd from merging any.
func TestABrokenExtensionOfAnotherVendorIsNamedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, c := range []struct {
		title, file string
		class       offer
		data        []byte
		want        string // "" does no harm
	}{
		{"an empty sysext", "run/extensions/vendor.raw", s.one, nil, "extension vendor (/run/extensions/vendor.raw) keeps systemd-sysext from merging any: it is empty"},
		{"an empty confext", "run/confexts/vendor.raw", s.conf, nil, "extension vendor (/run/confexts/vendor.raw) keeps systemd-confext from merging any: it is empty"},
		{"a misnamed confext", "var/lib/confexts/vendor.confext.raw", s.conf, s.conf2.data, `has no extension-release.vendor, but one for "more"`},
		{"a confext of the system's", "usr/lib/confexts/vendor.raw", s.conf, []byte("text"), "no partition table and no file system"},
		{"trident itself", "var/lib/extensions/trident.raw", s.one, nil, "extension trident (/var/lib/extensions/trident.raw)"},
		{"a broken sysext is none of the confexts' business", "run/extensions/vendor.raw", s.conf, nil, ""},
		{"one that is hidden", "var/lib/extensions/hidden.raw", s.one, nil, ""},
	} {
		w := newWorld(t)
		w.write(c.file, string(c.data))
		w.write("etc/extensions/hidden/x", "")
		before := w.state()
		change := w.plan(nil, w.stage(c.class, ""))
		w.powerOn(0, false)
		err := w.store.Apply(t.Context(), change)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.title, err)
			}
			continue
		}
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), c.want) || w.touches > 0 || !maps.Equal(before, w.state()) {
			t.Errorf("%s: %v, touches %v", c.title, err, w.trace)
		}
	}
}

func TestASignatureOfAnotherVendorIsJudgedAsThisSystemdDoes(t *testing.T) {
	t.Parallel()
	cert, key := newCert(t, "vendor")
	signed := gptOf(t, part{rootAMD64, erofsOf(t, releaseNamed("vendor"))}, part{rootSigAMD64, signatureOf(t, cert, key)})
	app := imageFor(t, Sysext, "app", "")
	for release, ok := range map[int]bool{258: false, 259: true} {
		w := newWorld(t)
		w.systemd.Release = release
		w.write("var/lib/extensions/vendor.raw", string(signed))
		err := w.store.Check(t.Context(), w.plan(nil, w.stage(app, "")))
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "not signed by a certificate in verity.d") {
			t.Errorf("systemd %d: %v", release, err)
		}
	}
}

func TestAnOldSystemdGetsAReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.systemd.Release = 252
	s := newShop(t)
	w.apply(nil, w.stage(s.one, ""))
	if n := w.calls("Reload", ""); n != 1 {
		t.Errorf("reloaded %d times", n)
	}
	err := w.store.Apply(t.Context(), w.plan(nil, w.stage(s.conf, "")))
	wantError(t, err, errkind.Precondition, "this host, with systemd 252, cannot merge a confext: there is no systemd-confext.service")
}

func TestAHostWithoutTheServiceCannotMerge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.systemd = &systemdtest.Fake{}
	w.store.Systemd = w.systemd
	err := w.store.Apply(t.Context(), w.plan(nil, w.stage(newShop(t).one, "")))
	wantError(t, err, errkind.Precondition, "there is no systemd-sysext.service")
}

func TestAFailedMergeNamesTheReasonAndIsUndone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, c := range []struct {
		title string
		spoil func(*world)
		kind  errkind.Kind
		want  []string
	}{
		{"with a line in the journal", func(w *world) { w.failing = Sysext }, errkind.Unhealthy,
			[]string{"merge sysexts: reload or restart systemd-sysext.service: job result is failed", "; systemd said of app: Nov 21 host: app.raw: No medium found"}},
		{"silently", func(w *world) { w.quiet = true }, errkind.Unhealthy, []string{"systemd has refreshed and has not merged app (it has merged: )"}},
		{"while another breaks", func(w *world) {
			w.whenMerging = func() { w.write("run/extensions/late.raw", "") }
		}, errkind.Unhealthy, []string{"job result is failed", "extension late (/run/extensions/late.raw) keeps systemd-sysext from merging any: it is empty"}},
		{"as another image", func(w *world) {
			w.afterMerging = func() { w.write(Sysext.releaseFile("app"), "ID=_any\n") }
		}, errkind.Unhealthy, []string{"merged another image as app"}},
	} {
		t.Run(c.title, func(t *testing.T) {
			w := newWorld(t)
			w.store.Tools = run.Func(func(_ context.Context, _ string, args ...string) ([]byte, error) {
				if slices.Contains(args, "--sync") {
					return nil, nil
				}
				return []byte("Nov 21 host: Starting\nNov 21 host: app.raw: No medium found\nNov 21 host: it failed\n"), nil
			})
			change := w.plan(nil, w.stage(s.one, ""))
			c.spoil(w)
			err := w.store.Apply(t.Context(), change)
			wantError(t, err, c.kind, c.want...)
			w.failing, w.quiet, w.whenMerging, w.afterMerging = "", false, nil, nil
			_ = os.Remove(filepath.Join(w.root, "run/extensions/late.raw"))
			if err := w.store.Undo(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			w.wantState(map[string]string{"sysext": "", "confext": ""})
		})
	}
}

func TestAnExtensionThatStaysMergedIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := w.apply(nil, w.stage(newShop(t).one, ""))
	w.quiet = true
	err := w.store.Apply(t.Context(), w.plan(now))
	wantError(t, err, errkind.Unhealthy, "app is still merged")
}

func TestAMergeThatHangsEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	change := w.plan(nil, w.stage(newShop(t).one, ""))
	ctx, cancel := context.WithCancel(t.Context())
	w.whenMerging = cancel
	hook := w.systemd.Hook
	w.systemd.Hook = func(ctx context.Context, c systemdtest.Call) error {
		if err := hook(ctx, c); err != nil || c.Method != "ReloadOrRestart" {
			return err
		}
		<-ctx.Done()
		return errkind.With(errkind.Cancelled, ctx.Err())
	}
	wantError(t, w.store.Apply(ctx, change), errkind.Cancelled, "merge sysexts: ")
}

// A part of the way back that cannot be gone does not keep the rest from it.
func TestUndoRestoresWhatItCan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	change := w.plan(w.apply(nil, w.stage(s.one, ""), w.stage(s.etc, ""), w.stage(s.conf, "")), w.stage(s.two, ""))
	if err := w.store.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.root, storeDir, s.one.sha+".raw"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.store.Undo(t.Context(), change)
	wantError(t, err, errkind.Corrupt, "place /var/lib/extensions/app.raw: SHA-384 is ")
	if got := w.state(); got["confext"] != "settings" || !strings.Contains(got["sysext"], "tool") {
		t.Errorf("the rest is not back: %v", got)
	}
}

func TestAChangeFromAJournalIsNotAppliedUnverified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	change := w.plan(nil, w.stage(s.one, ""))
	if err := w.store.Apply(t.Context(), journaled(t, change)); err == nil || !strings.Contains(err.Error(), "were not verified") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(w.root, storeDir, s.one.sha+".raw"), s.two.data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.store.Verify(t.Context(), journaled(t, change))
	wantError(t, err, errkind.Corrupt, "load sysext app: SHA-384 is ")
}

// The link of Trident's own extension is self-servicing's alone.
func TestTridentsOwnLinkIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	own := imageFor(t, Sysext, Own, "")
	w.write("var/lib/trident/self/2.0.0.raw", string(own.data))
	w.link("../trident/self/2.0.0.raw", "var/lib/extensions/trident.raw")
	now := w.apply(nil, w.stage(s.one, ""))
	if got := w.state()["sysext"]; got != "app trident" {
		t.Errorf("merged %q", got)
	}
	w.apply(now)
	if err := w.store.Prune(); err != nil {
		t.Fatal(err)
	}
	w.wantState(map[string]string{"var/lib/extensions/trident.raw": "link ../trident/self/2.0.0.raw", "sysext": Own, "confext": ""})
}

// A folder that only an initrd looks into is filled, and nothing is expected of
// the running system.
func TestAnImageForTheInitrdIsPlacedOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(nil, w.stage(newShop(t).one, "/.extra/sysext/app.raw"))
	if _, err := os.Stat(filepath.Join(w.root, ".extra/sysext/app.raw")); err != nil {
		t.Error(err)
	}
}

func TestAChangeOfNothingDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.stage(newShop(t).one, "")
	now := w.apply(nil, i)
	w.powerOn(0, false)
	calls := len(w.systemd.Calls())
	c := w.plan(now, i)
	if err := errors.Join(w.store.Apply(t.Context(), c), w.store.Undo(t.Context(), c)); err != nil || w.touches > 0 || len(w.systemd.Calls()) > calls {
		t.Errorf("%v, touches %v", err, w.trace)
	}
}

// What keeps a change from being applied may keep systemd from merging at all:
// the way back must not stumble over it too.
func TestUndoOfNothingAsksSystemdForNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	now := w.apply(nil, w.stage(s.one, ""), w.stage(s.conf, ""))
	w.write("var/lib/extensions/vendor.raw", "")
	change := w.plan(now, w.stage(s.two, ""), w.stage(s.etc, ""))
	wantError(t, w.store.Apply(t.Context(), change), errkind.Precondition, "extension vendor")
	before := w.calls("ReloadOrRestart", "")
	if err := w.store.Undo(t.Context(), journaled(t, change)); err != nil || w.calls("ReloadOrRestart", "") > before {
		t.Errorf("undo: %v, %d merges", err, w.calls("ReloadOrRestart", "")-before)
	}
}

// A system that was updated may ignore what it merged before.
func TestUndoDoesNotAwaitAnExtensionThatNoLongerFitsTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := fstest.MapFS{Sysext.releaseFile("old"): {Data: []byte("ID=debian\nVERSION_ID=13\nSYSEXT_ID=old\n"), Mode: 0o644}}
	s := newShop(t)
	now := w.apply(nil, w.stage(offered(Sysext, erofsOf(t, files)), ""), w.stage(s.one, ""))
	w.write("usr/lib/os-release", "ID=debian\nVERSION_ID=14\n")
	change := w.plan(now, w.stage(s.two, ""))
	if err := w.store.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Undo(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if got := w.state(); got["var/lib/extensions/old.raw"] == "" || got["sysext"] != "app" {
		t.Errorf("got %v", got)
	}
}
