package extension

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

func wantError(t *testing.T, err error, kind errkind.Kind, words ...string) {
	t.Helper()
	if err == nil || errkind.Of(err) != kind {
		t.Fatalf("got %v (%s), want %s", err, errkind.Of(err), kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q lacks %q", err, word)
		}
	}
}

func (w *world) wantStored(want ...string) {
	w.t.Helper()
	got := w.stored()
	for _, name := range want {
		if !got[name] {
			w.t.Errorf("the store lacks %s: %v", name, got)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		w.t.Errorf("too much in the store: %v", got)
	}
}

func TestAnImageIsFetchedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := imageFor(t, Sysext, "app", "SYSEXT_VERSION_ID=1\n")
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.ServeContent(rw, r, "app.raw", time.Unix(1, 0), bytes.NewReader(app.data))
	}))
	defer server.Close()
	src := Source{Class: Sysext, URL: server.URL + "/app.raw?token=secret", SHA384: strings.ToUpper(app.sha)}
	total := int64(0)
	i, err := w.store.Stage(t.Context(), src, nil, func(_, n int64) { total = n }, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Extension{Class: Sysext, Path: "/var/lib/extensions/app.raw", SHA384: app.sha}
	if i.Extension() != want || i.Release().Version != "1" || i.Facts().FileSystem != "erofs" || i.IsOwn() || total != int64(len(app.data)) {
		t.Errorf("staged %+v, %d bytes", i, total)
	}
	file := filepath.Join(w.root, i.Stored())
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if len(w.state()) != 2 {
		t.Errorf("staging changed the host: %v", w.state())
	}
	before := asked.Load()
	if _, err := w.store.Stage(t.Context(), src, nil, nil, nil); err != nil || asked.Load() != before {
		t.Errorf("fetched again (%d, %d): %v", before, asked.Load(), err)
	}
	if loaded, err := w.store.Load(t.Context(), i.Extension()); err != nil || loaded.Extension() != want {
		t.Errorf("loaded %+v, %v", loaded, err)
	}

	damaged := bytes.Clone(app.data)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = w.store.Load(t.Context(), i.Extension())
	wantError(t, err, errkind.Corrupt, "load sysext app: SHA-384 is ")
	if _, err := w.store.Stage(t.Context(), src, nil, nil, nil); err != nil || asked.Load() == before {
		t.Errorf("a damaged image was kept: %v", err)
	}
	w.wantStored(app.sha[:8])
}

func TestARefusedImageLeavesNoFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := imageFor(t, Sysext, "app", "")
	unfit := imageFor(t, Sysext, "app", "ARCHITECTURE=sparc\n")
	page := offered(Sysext, []byte("<html>"))
	other := strings.Repeat("0", 96)
	for _, c := range []struct {
		title string
		edit  func(*Source)
		of    offer
		kind  errkind.Kind
		want  string
	}{
		{"another hash", func(s *Source) { s.SHA384 = other }, app, errkind.Corrupt, "SHA-384 is " + app.sha + ", not " + other},
		{"made for another host", nil, unfit, errkind.Incompatible, `for the architecture "sparc"`},
		{"no image", nil, page, errkind.Invalid, "it is an HTML or XML page, not an extension image"},
		{"another name", func(s *Source) { s.Path = "/etc/extensions/b.raw" }, app, errkind.Invalid, "has to be called app.raw"},
		{"another class", func(s *Source) { s.Class = Confext }, app, errkind.Corrupt, "is a sysext, not a confext"},
		{"no hash", func(s *Source) { s.SHA384 = "ignored" }, app, errkind.Invalid, "96 hexadecimal digits"},
		{"a hash with a path", func(s *Source) { s.SHA384 = "../" + other }, app, errkind.Invalid, "96 hexadecimal digits"},
		{"no class", func(s *Source) { s.Class = "portable" }, app, errkind.Invalid, "not a class of extensions"},
		{"a foreign folder", func(s *Source) { s.Path = "/etc/app.raw" }, app, errkind.Invalid, "not in one of the folders"},
		{"no such file", func(s *Source) { s.URL += "-not" }, app, errkind.NotFound, "no such file"},
		{"another host's file", func(s *Source) { s.URL = "file://elsewhere/x" }, app, errkind.Invalid, "absolute path of this host"},
		{"no artifact", func(s *Source) { s.URL = "oci://example.com" }, app, errkind.Invalid, "oci://registry/repository:tag"},
		{"no URL", func(s *Source) { s.URL = "%zz" }, app, errkind.Invalid, "URL"},
	} {
		src := w.source(c.of)
		if c.edit != nil {
			c.edit(&src)
		}
		_, err := w.store.Stage(t.Context(), src, nil, nil, nil)
		if err == nil || errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "stage "+string(src.Class)) {
			t.Errorf("%s: %v (%s), want %q (%s)", c.title, err, errkind.Of(err), c.want, c.kind)
		}
		if left := w.stored(); len(left) > 1 || len(left) == 1 && c.kind != errkind.NotFound {
			t.Errorf("%s: left in the store: %v", c.title, left)
		}
		if err := w.store.Prune(); err != nil || len(w.stored()) > 0 {
			t.Errorf("%s: prune: %v, %v", c.title, w.stored(), err)
		}
	}
}

func TestSecretsOfAURLAreNotInErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := Source{Class: Sysext, URL: "http://user:secret@127.0.0.1:1/x.raw?sig=secret", SHA384: "secret"}
	_, err := w.store.Stage(t.Context(), src, nil, nil, nil)
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "http://127.0.0.1:1/x.raw") {
		t.Errorf("got %v", err)
	}
}

func TestAnInterruptedStageContinues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := imageFor(t, Sysext, "app", "")
	src := w.source(app)
	for n := 1; ; n++ {
		for _, after := range []bool{false, true} {
			w.powerOn(n, after)
			_, err := w.store.Stage(t.Context(), src, nil, nil, nil)
			if err == nil {
				w.wantStored(app.sha[:8])
				if n == 1 {
					t.Error("nothing was cut")
				}
				return
			}
			if !errors.Is(err, errPowerCut) {
				t.Fatalf("cut at %d: %v", n, err)
			}
		}
	}
}

func TestAStageEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.store.Stage(ctx, w.source(imageFor(t, Sysext, "app", "")), nil, nil, nil)
	wantError(t, err, errkind.Cancelled)
}

func TestAnImageOfUpstreamIsNotFetched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := imageFor(t, Sysext, "app", "")
	placed := w.place(app, "/etc/extensions/app.raw")
	src := Source{Class: Sysext, URL: "file:///nowhere", SHA384: app.sha}
	i, err := w.store.Stage(t.Context(), src, Generation{placed}, nil, nil)
	if err != nil || i.Extension().Path != "/var/lib/extensions/app.raw" {
		t.Fatalf("%+v, %v", i.Extension(), err)
	}
	w.wantStored(app.sha[:8])

	w.write("etc/extensions/app.raw", "changed")
	if err := w.store.Prune(); err != nil {
		t.Fatal(err)
	}
	_, err = w.store.Stage(t.Context(), src, Generation{placed}, nil, nil)
	wantError(t, err, errkind.NotFound)
	_, err = w.store.Load(t.Context(), placed)
	wantError(t, err, errkind.Corrupt)
	placed.Path, placed.Regular = "/var/lib/extensions/app.raw", false
	_, err = w.store.Load(t.Context(), placed)
	wantError(t, err, errkind.NotFound)
}

func TestALinkInTheStoreIsNotFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := imageFor(t, Sysext, "app", "")
	w.write("srv/app.raw", string(app.data))
	w.link("../../../../srv/app.raw", storeDir+"/"+app.sha+".raw")
	if i, err := w.store.Load(t.Context(), Extension{Class: Sysext, Path: "/var/lib/extensions/app.raw", SHA384: app.sha}); err == nil {
		t.Errorf("loaded %+v", i)
	}
}

func TestFoldersOfTheHostStayInItsRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	outside := t.TempDir()
	w.link(outside, "var/lib/extensions") // absolute: it means a folder below the root
	i := w.stage(imageFor(t, Sysext, "app", ""), "")
	c := w.plan(nil, i)
	err := w.store.Apply(t.Context(), c)
	wantError(t, err, errkind.Precondition, "the path has a dangling link")
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("written outside: %v, %v", entries, err)
	}
	if err := hosttest.MkdirAll(filepath.Join(w.root, outside)); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(w.root, outside, "app.raw")); err != nil || offered(Sysext, data).sha != i.Extension().SHA384 {
		t.Errorf("the link: %v", err)
	}
}

func TestPruneKeepsWhatIsNeededAndWhatCanBeFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	now := w.apply(nil, w.stage(s.one, ""), w.stage(s.conf, ""))
	next := w.stage(s.two, "")
	w.stage(s.etc, "")
	for _, name := range []string{s.conf2.sha + ".part", s.conf2.sha + ".part.json", "notes"} {
		w.write(storeDir+"/"+name, "x")
	}
	if err := w.store.Prune(Generation{next.Extension()}); err != nil {
		t.Fatal(err)
	}
	w.wantStored(s.one.sha[:8], s.two.sha[:8], s.conf.sha[:8], "notes")
	if err := w.store.Prune(now); err != nil {
		t.Fatal(err)
	}
	w.wantStored(s.one.sha[:8], s.conf.sha[:8], "notes")
}

func TestARecordedGenerationIsFoundOnTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShop(t)
	w.apply(nil, w.stage(s.one, ""), w.stage(s.conf, ""))
	placed := w.place(s.etc, "/etc/extensions/tool.raw")
	gone := Extension{Class: Confext, Path: "/var/lib/confexts/more.raw", SHA384: s.conf2.sha}
	other := Extension{Class: Sysext, Path: "/var/lib/extensions/app.raw", SHA384: s.two.sha}
	recorded := []Extension{
		{Class: Sysext, SHA384: strings.ToUpper(s.one.sha)}, // upstream's has no path before it is finalized
		{Class: Confext, Path: "/var/lib/confexts/settings.raw", SHA384: s.conf.sha},
		{Class: Sysext, Path: placed.Path, SHA384: placed.SHA384},
		gone, other,
	}
	got, err := w.store.Find(recorded)
	if err != nil || len(got) != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	want := Generation{
		{Class: Sysext, Path: "/var/lib/extensions/app.raw", SHA384: s.one.sha},
		{Class: Confext, Path: "/var/lib/confexts/settings.raw", SHA384: s.conf.sha},
		placed,
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if none, err := (&Store{Root: t.TempDir()}).Find(recorded); err != nil || len(none) != 0 {
		t.Errorf("on an empty host: %v, %v", none, err)
	}
}

func TestAPlanTakesEachExtensionOnce(t *testing.T) {
	t.Parallel()
	image := func(class Class, at, id string) Image {
		return Image{Extension{Class: class, Path: at, SHA384: at}, inspection{release: Release{Class: class, Name: nameOf(at), SysextID: id}}}
	}
	a := image(Sysext, "/var/lib/extensions/a.raw", "a")
	for _, c := range []struct {
		title  string
		wanted []Image
		want   string
	}{
		{"one of each class", []Image{a, image(Confext, "/var/lib/confexts/a.raw", "a")}, ""},
		{"the same place", []Image{a, image(Sysext, "/var/lib/extensions/a.raw", "b")}, "two sysexts would be at /var/lib/extensions/a.raw"},
		{"the same name", []Image{a, image(Sysext, "/etc/extensions/a.raw", "b")}, "two sysexts would be called a: /etc/extensions/a.raw and"},
		{"the same ID", []Image{a, image(Sysext, "/etc/extensions/b.raw", "a")}, `both have SYSEXT_ID "a"`},
		{"the same ID of confexts", []Image{image(Confext, "/var/lib/confexts/b.raw", "x"), image(Confext, "/var/lib/confexts/c.raw", "x")}, `both have CONFEXT_ID "x"`},
		{"trident", []Image{image(Sysext, "/var/lib/extensions/x.raw", Own)}, "an image of trident itself"},
		{"the name of trident", []Image{image(Sysext, "/var/lib/extensions/trident.raw", "x")}, "an image of trident itself"},
	} {
		change, err := Plan(nil, c.wanted)
		if c.want == "" && (err != nil || len(change.New) != len(c.wanted) || change.Empty()) {
			t.Errorf("%s: %+v, %v", c.title, change, err)
		}
		if c.want != "" && (err == nil || errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.title, err, c.want)
		}
	}
	if _, err := Plan(nil, []Image{{}}); err == nil {
		t.Error("an image that no store made is taken")
	}
	same, err := Plan(Generation{a.ext}, []Image{a})
	if err != nil || !same.Empty() {
		t.Errorf("%+v, %v", same, err)
	}
}

func TestAnImageOfTridentIsRecognized(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := fstest.MapFS{OwnRelease: {Data: []byte("ID=_any\nSYSEXT_ID=trident\n")}}
	if i := w.stage(offered(Sysext, erofsOf(t, files)), ""); !i.IsOwn() {
		t.Errorf("%+v", i)
	}
}
