package extension

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// world is a host in a folder, with a systemd that merges as the real one does.
type world struct {
	t       testing.TB
	root    string
	systemd *systemdtest.Fake
	store   *Store

	failing      Class  // whose merge fails, for no reason that can be seen
	quiet        bool   // a merge does nothing, and says nothing
	whenMerging  func() // before
	afterMerging func()

	touches int // so far
	trace   []string
	cutAt   int // the touch at which the power fails; 0: never
	after   bool
}

var errPowerCut = errors.New("power cut")

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), systemd: &systemdtest.Fake{}}
	for _, class := range []Class{Sysext, Confext} {
		w.systemd.Define(systemdtest.Definition{Name: class.facts().unit, Oneshot: true, Reloads: true})
	}
	w.systemd.Hook = func(_ context.Context, c systemdtest.Call) error {
		if c.Method != "ReloadOrRestart" {
			return nil
		}
		for _, class := range []Class{Sysext, Confext} {
			if class.facts().unit == c.Unit {
				return w.merge(class)
			}
		}
		return nil
	}
	w.write("usr/lib/os-release", "ID=debian\nVERSION_ID=13\nCONFEXT_LEVEL=2\n")
	hosttest.MakeReadable(t, w.root)
	w.store = &Store{Root: w.root, Systemd: w.systemd, Touch: w.touch}
	return w
}

func (w *world) touch(name string, change func() error) error {
	w.touches++
	w.trace = append(w.trace, name)
	if w.cutAt != 0 && w.touches > w.cutAt {
		return errPowerCut // it is off
	}
	if w.touches == w.cutAt && !w.after {
		return errPowerCut
	}
	err := change()
	if w.touches == w.cutAt {
		return errPowerCut
	}
	return err
}

// powerOn lets touches work, up to the next cut.
func (w *world) powerOn(cutAt int, after bool) {
	w.touches, w.trace, w.cutAt, w.after = 0, nil, cutAt, after
}

func (w *world) write(name, content string) {
	w.t.Helper()
	file := filepath.Join(w.root, name)
	if err := errors.Join(hosttest.MkdirAll(filepath.Dir(file)), os.WriteFile(file, []byte(content), 0o644), os.Chmod(file, 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(target, name string) {
	w.t.Helper()
	file := filepath.Join(w.root, name)
	if err := errors.Join(hosttest.MkdirAll(filepath.Dir(file)), os.Symlink(target, file)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) host() hostinfo.Host {
	h, err := hostinfo.Read(w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// merge is a refresh: all that is found, or a failure.
func (w *world) merge(class Class) error {
	failed := &systemd.JobError{Verb: "reload or restart", Unit: class.facts().unit, Result: "failed", UnitResult: "exit-code"}
	if w.whenMerging != nil {
		w.whenMerging()
	}
	if w.quiet {
		return nil
	}
	if w.afterMerging != nil {
		defer w.afterMerging()
	}
	if w.failing == class {
		return failed
	}
	all, err := class.scan(w.root)
	if err != nil {
		return err
	}
	names, files := []string{}, map[string][]byte{}
	for _, f := range firstHits(all) {
		if f.Kind != formRaw {
			continue
		}
		if err := (checker{inroot.FS(w.root), w.host(), nil, true}).verdict(f); err != nil {
			return failed
		}
		opened, err := inroot.FS(w.root).Open(strings.TrimPrefix(f.Path, "/"))
		if err != nil {
			return err
		}
		found, unfit := inspect(context.Background(), verified{File: opened.(*os.File), whole: opened.(*os.File)}, class, w.host(), noMounter)
		if err := opened.Close(); err != nil {
			return err
		}
		if unfit == nil { // others are ignored
			names = append(names, f.Name)
			files[f.Name] = found.text
		}
	}
	if err := os.RemoveAll(filepath.Join(w.root, class.facts().releaseDir)); err != nil {
		return err
	}
	for name, text := range files {
		w.write(class.releaseFile(name), string(text))
	}
	if len(names) == 0 {
		return os.RemoveAll(filepath.Join(w.root, path.Dir(class.facts().merged)))
	}
	w.write(class.facts().merged, strings.Join(names, "\n")+"\n")
	return nil
}

func noMounter(*os.File, int64, int64, string) (volume.Tree, error) {
	return nil, errors.New("no file systems here")
}

// offer is an image that a test may ask for.
type offer struct {
	class Class
	data  []byte
	sha   string
}

// imageFor makes a discoverable image; extra lines go into its release.
func imageFor(t testing.TB, class Class, name, extra string) offer {
	t.Helper()
	release := "ID=_any\n" + class.facts().fields + "ID=" + name + "\n" + extra
	files := fstest.MapFS{class.releaseFile(name): {Data: []byte(release), Mode: 0o644}}
	return offered(class, gptOf(t, part{rootAMD64, erofsOf(t, files)}))
}

func offered(class Class, data []byte) offer {
	sum := sha512.Sum384(data)
	return offer{class, data, hex.EncodeToString(sum[:])}
}

// source puts the image where a file URL finds it.
func (w *world) source(o offer) Source {
	w.t.Helper()
	w.write("srv/"+o.sha, string(o.data))
	return Source{Class: o.class, URL: "file:///srv/" + o.sha, SHA384: o.sha}
}

func (w *world) stage(o offer, at string) Image {
	w.t.Helper()
	src := w.source(o)
	src.Path = at
	i, err := w.store.Stage(w.t.Context(), src, nil, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *world) plan(current Generation, wanted ...Image) Change {
	w.t.Helper()
	c, err := Plan(current, wanted)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// apply brings images into service.
func (w *world) apply(current Generation, wanted ...Image) Generation {
	w.t.Helper()
	c := w.plan(current, wanted...)
	if err := w.store.Apply(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	return c.New
}

// journaled is what another process gets of a change.
func journaled(t testing.TB, c Change) (back Change) {
	t.Helper()
	data, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// state is what is in the folders that systemd searches and what is merged:
// links by the start of the hash they name, files by that of their content.
func (w *world) state() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, class := range []Class{Sysext, Confext} {
		for _, dir := range class.facts().search {
			entries, _ := os.ReadDir(filepath.Join(w.root, dir))
			for _, e := range entries {
				file := filepath.Join(w.root, dir, e.Name())
				if target, err := os.Readlink(file); err == nil {
					if _, err := os.Stat(file); err != nil {
						target = "dangling " + target
					}
					out[dir+"/"+e.Name()] = "link " + short(target)
					continue
				}
				data, _ := os.ReadFile(file)
				out[dir+"/"+e.Name()] = "file " + offered(class, data).sha[:8]
			}
		}
		names, err := class.Merged(w.root)
		if err != nil {
			w.t.Fatal(err)
		}
		out[string(class)] = strings.Join(names, " ")
	}
	return out
}

func short(target string) string {
	if base := path.Base(target); storedName.MatchString(base) {
		return strings.TrimSuffix(target, base) + base[:8]
	}
	return target
}

// stored lists the store, images by the start of their hash.
func (w *world) stored() map[string]bool {
	out := map[string]bool{}
	entries, _ := os.ReadDir(filepath.Join(w.root, storeDir))
	for _, e := range entries {
		out[short(e.Name())] = true
	}
	return out
}

func (w *world) wantState(want map[string]string) {
	w.t.Helper()
	if got := w.state(); !maps.Equal(got, want) {
		w.t.Errorf("the host is\n%v, want\n%v\ntouches: %v", got, want, w.trace)
	}
}
