package publish

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
)

var start = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// imageOf makes an unsigned image of an extension.
func imageOf(t testing.TB, name, version string, arch ddi.Arch, text string) string {
	t.Helper()
	dir := t.TempDir()
	tree, file := filepath.Join(dir, "tree"), filepath.Join(dir, "image.raw")
	hosttest.Write(t, filepath.Join(tree, "usr/lib/extension-release.d/extension-release."+name),
		fmt.Sprintf("ID=_any\nARCHITECTURE=%s\nSYSEXT_ID=%s\nSYSEXT_VERSION_ID=%s\n", arch, name, version))
	hosttest.Write(t, filepath.Join(tree, "usr/bin/"+name+"d"), text)
	hosttest.MakeReadable(t, tree)
	if _, err := ddi.Build(context.Background(), file, ddi.BuildOptions{Tree: tree, Arch: arch, Epoch: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	return file
}

func image(t testing.TB, version string) string {
	return imageOf(t, "trident", version, ddi.AMD64, strings.Repeat(version, 1000))
}

// A bench is a feed and its keys.
type bench struct {
	t         testing.TB
	dir, keys string
	now       time.Time
}

func newBench(t testing.TB, channels ...string) *bench {
	t.Helper()
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "feed"), keys: filepath.Join(t.TempDir(), "keys"), now: start}
	p, err := Init(b.dir, b.keys, InitOptions{Channels: channels, Threshold: 1, Validity: DefaultValidity(), Now: b.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// with runs do with the open feed.
func (b *bench) with(do func(p *Publisher) error) {
	b.t.Helper()
	p, err := Open(b.dir, b.keys, b.now)
	if err == nil {
		err = errors.Join(do(p), p.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) add(channel, file string) {
	b.t.Helper()
	b.with(func(p *Publisher) error {
		_, err := p.Add(context.Background(), file, AddOptions{Channel: channel}, nil)
		return err
	})
}

func (b *bench) publish() (out Published) {
	b.t.Helper()
	b.with(func(p *Publisher) (err error) {
		out, err = p.Publish(context.Background(), DefaultValidity())
		return err
	})
	return out
}

func (b *bench) read(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// verify reads the feed as a host that has the root of that version.
func (b *bench) verify(root int) (Report, error) {
	b.t.Helper()
	return b.verifyAt(b.dir, b.read(filepath.Join(b.keys, "roots", fmt.Sprintf("%d.root.json", root))))
}

func (b *bench) verifyAt(at string, root []byte) (Report, error) {
	b.t.Helper()
	return Verify(context.Background(), VerifyOptions{
		Feed: at, Root: root, Pubring: b.read(filepath.Join(b.keys, "for-hosts/import-pubring.gpg")), Now: b.now,
	})
}

// versions returns the versions of a channel that a host finds.
func (b *bench) versions(root int, channel string) []string {
	b.t.Helper()
	r, err := b.verify(root)
	if err != nil {
		b.t.Fatal(err)
	}
	out := []string{}
	for _, i := range r.Channels[channel] {
		out = append(out, i.Release.Version)
	}
	slices.Sort(out)
	return out
}

func (b *bench) want(root int, channel string, versions ...string) {
	b.t.Helper()
	if d := cmp.Diff(append([]string{}, versions...), b.versions(root, channel)); d != "" {
		b.t.Errorf("channel %s:\n%s", channel, d)
	}
}

func TestAHostFindsWhatWasPublished(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable", "beta")
	b.add("stable", image(t, "1.0.0"))
	b.add("beta", image(t, "2.0.0-rc.1"))
	b.publish()
	b.want(1, "stable", "1.0.0")
	b.want(1, "beta", "2.0.0-rc.1")
	b.add("stable", image(t, "2.0.0"))
	b.want(1, "stable", "1.0.0") // an image that is only added does not show
	b.now = b.now.Add(day)
	out := b.publish()
	b.want(1, "stable", "1.0.0", "2.0.0")
	if want := map[string]int64{"timestamp": 2, "snapshot": 2, "targets": 1, "stable": 2, "beta": 1}; cmp.Diff(want, out.Versions) != "" {
		t.Errorf("versions %v, want %v", out.Versions, want)
	}
	if want := b.now.Add(7 * day); !out.Expires.Equal(want) {
		t.Errorf("expires %v, want %v", out.Expires, want)
	}
	r, err := b.verify(1)
	if err != nil || len(r.Notes) > 0 || !r.Expires.Equal(out.Expires) {
		t.Errorf("report %+v, %v", r, err)
	}
}

func TestAFeedIsReadFromAServerAsFromAFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.add("stable", image(t, "2.0.0-rc.1"))
	b.publish()
	server := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
	defer server.Close()
	root := b.read(filepath.Join(b.keys, "for-hosts/feed-root.json"))
	want, err := b.verifyAt(b.dir, root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.verifyAt(server.URL, root)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestTheSameInputMakesTheSameFeed(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable", "beta")
	other := &bench{t: t, dir: filepath.Join(t.TempDir(), "feed"), keys: filepath.Join(t.TempDir(), "keys"), now: b.now}
	if err := errors.Join(os.CopyFS(other.dir, os.DirFS(b.dir)), os.CopyFS(other.keys, os.DirFS(b.keys)), chmodKeys(other.keys)); err != nil {
		t.Fatal(err)
	}
	one, two := image(t, "1.0.0"), image(t, "2.0.0")
	b.add("stable", one)
	b.add("stable", two)
	other.add("stable", two)
	other.add("stable", one)
	b.publish()
	other.publish()
	if d := cmp.Diff(filesOf(t, b.dir), filesOf(t, other.dir)); d != "" {
		t.Errorf("the feeds differ:\n%s", d)
	}
}

func chmodKeys(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(name, 0o600)
		}
		return err
	})
}

// filesOf returns the hash of each file by its path.
func filesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		out[strings.TrimPrefix(name, dir)] = sum(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOnlySoundImagesOfTridentAreAdded(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	damaged := b.read(image(t, "1.0.0"))
	at := strings.Index(string(damaged), strings.Repeat("1.0.0", 10))
	damaged[at] ^= 1
	file := filepath.Join(t.TempDir(), "damaged")
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	b.add("stable", image(t, "3.0.0"))
	again := imageOf(t, "trident", "3.0.0", ddi.AMD64, "other bytes")
	for name, c := range map[string]struct {
		file    string
		options AddOptions
		kind    errkind.Kind
	}{
		"another extension":            {imageOf(t, "app", "1.0.0", ddi.AMD64, "x"), AddOptions{Channel: "stable"}, errkind.Incompatible},
		"damaged":                      {file, AddOptions{Channel: "stable"}, errkind.Corrupt},
		"another image of the version": {again, AddOptions{Channel: "stable"}, errkind.Exists},
		"no such channel":              {again, AddOptions{Channel: "beta"}, errkind.NotFound},
		"no channel":                   {again, AddOptions{Channel: "../x", NewChannel: true}, errkind.Invalid},
		"after itself":                 {image(t, "2.0.0"), AddOptions{Channel: "stable", After: "2.0.0"}, errkind.Invalid},
	} {
		b.with(func(p *Publisher) error {
			if _, err := p.Add(context.Background(), c.file, c.options, nil); errkind.Of(err) != c.kind {
				t.Errorf("%s: error %v", name, err)
			}
			return nil
		})
	}
	b.publish()
	b.want(1, "stable", "3.0.0")
}

func TestAnImageIsAddedAgainToChangeItsWave(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	file := image(t, "2.0.0")
	wave := &feed.Wave{Begin: start, End: start.Add(day), First: 100}
	for i, c := range []struct {
		wave    *feed.Wave
		changed bool
	}{{nil, true}, {nil, false}, {wave, true}, {wave, false}} {
		b.now = b.now.Add(time.Hour)
		b.with(func(p *Publisher) error {
			out, err := p.Add(context.Background(), file, AddOptions{Channel: "stable", Wave: c.wave}, nil)
			if out.Changed != c.changed || !out.Release.Published.Equal(start.Add(time.Hour)) {
				t.Errorf("time %d: %+v", i, out)
			}
			return err
		})
	}
	b.publish()
	r, err := b.verify(1)
	if err != nil || r.Channels["stable"][0].Release.Wave == nil {
		t.Errorf("report %+v, %v", r, err)
	}
}

func TestAWithdrawnVersionDisappears(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable", "beta")
	for _, v := range []string{"1.0.0", "2.0.0"} {
		b.add("stable", image(t, v))
	}
	b.publish()
	b.with(func(p *Publisher) error {
		if _, err := p.Withdraw("beta", "2.0.0"); errkind.Of(err) != errkind.NotFound {
			t.Errorf("error %v", err)
		}
		gone, err := p.Withdraw("", "2.0.0")
		if d := cmp.Diff([]string{feed.ImagePath("stable", "x86-64", "2.0.0")}, gone); d != "" {
			t.Error(d)
		}
		return err
	})
	b.want(1, "stable", "1.0.0", "2.0.0")
	b.publish()
	b.want(1, "stable", "1.0.0")
	if _, err := os.Stat(filepath.Join(b.dir, feed.ImagePath("stable", "x86-64", "2.0.0"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the image is still there: %v", err)
	}
	b.add("stable", image(t, "2.0.0"))
	b.publish()
	b.want(1, "stable", "1.0.0", "2.0.0")
}

func TestPatchesMakeTheNewestImage(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	for _, v := range []string{"1.0.0", "1.1.0", "2.0.0"} {
		b.add("stable", image(t, v))
	}
	patches := func() (out []Patched) {
		b.with(func(p *Publisher) (err error) {
			out, err = p.Patch(context.Background(), PatchOptions{Last: 2}, func(string) {}, nil)
			return err
		})
		return out
	}
	made := patches()
	if len(made) != 2 || !made[0].Made || made[0].From != "1.0.0" || made[1].From != "1.1.0" || made[1].To != "2.0.0" || made[0].Size >= made[0].ImageSize {
		t.Fatalf("made %+v", made)
	}
	if again := patches(); len(again) != 2 || again[0].Made || again[0].Patch != made[0].Patch {
		t.Errorf("again %+v", again)
	}
	b.publish()
	r, err := b.verify(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range r.Channels["stable"] {
		if n := len(i.Release.Patches); n != map[string]int{"2.0.0": 2}[i.Release.Version] {
			t.Errorf("version %s has %d patches", i.Release.Version, n)
		}
	}
	if err := os.WriteFile(filepath.Join(b.dir, made[0].Path), make([]byte, made[0].Size), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.verify(1); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("damaged patch: %v", err)
	}
}

func TestOneCommandAtATimeUsesAKeyFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.with(func(*Publisher) error {
		if _, err := Open(b.dir, b.keys, b.now); errkind.Of(err) != errkind.Busy {
			t.Errorf("error %v", err)
		}
		return nil
	})
}

func TestKeysAreNotKeptInTheFeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := InitOptions{Channels: []string{"stable"}, Threshold: 1, Validity: DefaultValidity(), Now: start}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, keys := range []string{dir, filepath.Join(dir, "keys"), filepath.Dir(dir), filepath.Join(link, "keys")} {
		if _, err := Init(dir, keys, o); errkind.Of(err) != errkind.Invalid {
			t.Errorf("keys in %s: %v", keys, err)
		}
	}
	b := newBench(t, "stable")
	if err := filepath.WalkDir(b.keys, func(name string, d fs.DirEntry, err error) error {
		if err != nil || strings.Contains(name, "for-hosts") {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(b.keys, "stable.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.dir, b.keys, b.now); errkind.Of(err) != errkind.Denied {
		t.Errorf("a key that others can read: %v", err)
	}
}

func publicKeys(keys ...ed25519.PrivateKey) (out []ed25519.PublicKey) {
	for _, k := range keys {
		out = append(out, publicOf(k))
	}
	return out
}

// madeUp returns version i of a channel.
func madeUp(channel string, i int) (string, *Image) {
	v := fmt.Sprintf("1.%d.0", i)
	return feed.ImagePath(channel, "x86-64", v), &Image{
		Size: 1, SHA256: sum([]byte("x")),
		Release: feed.Release{Version: v, Architecture: "x86-64", RootHash: sum(nil), OS: feed.OS{ID: "_any"}, Published: start},
	}
}

func TestADamagedRecordIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.add("stable", image(t, "1.0.0"))
	file := filepath.Join(b.keys, "feed.json")
	sound := string(b.read(file))
	for what, text := range map[string]string{
		"no JSON":                  sound[:len(sound)/2],
		"a path outside":           strings.Replace(sound, `"channels"`, `"withdrawn": ["../../etc/passwd"], "channels"`, 1),
		"an image elsewhere":       strings.Replace(sound, `"stable/x86-64/trident_1.0.0`, `"stable/x86-64/trident_1.0.1`, 1),
		"a channel without a name": strings.Replace(sound, `"stable": {`, `"": {`, 1),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(b.dir, b.keys, b.now); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
	}
}
