package updates

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/feed"
)

// ignored returns how often a release was read and ignored.
func (w *world) ignored() int { return strings.Count(w.log.String(), "a release that is ignored") }

func TestAChannelIsReadAgainOnlyIfSomethingHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := release("2.1.0", func(r *feed.Release) {
		r.Patches = []feed.Patch{{From: "1.0.0", Path: "edge/x", Size: 1, SHA256: strings.Repeat("a", 64)}}
	})
	w.publish(release("2.0.0"), faulty)
	for step, c := range []struct {
		name   string
		change func()
		reads  int
	}{
		{"the first check", func() {}, 1},
		{"nothing has changed", func() {}, 0},
		{"a new process", func() { w.restart() }, 0},
		{"another version of Trident", func() { w.service.Version = "1.0.1" }, 1},
		{"new metadata with the same releases", func() { w.publish(release("2.0.0"), faulty) }, 1},
		{"the file of the releases is of an earlier version", func() {
			files, err := filepath.Glob(filepath.Join(w.root, CacheDir, "*", releasesFile))
			w.must(err)
			text, err := json.Marshal(lastReleases{Channel: "stable"})
			w.must(err)
			w.must(os.WriteFile(files[0], text, 0o600))
		}, 1},
		{"nothing has changed since", func() {}, 0},
	} {
		c.change()
		before := w.ignored()
		w.wantOffer("2.0.0")
		if got := w.ignored() - before; got != c.reads {
			t.Errorf("%d, %s: the channel was read %d times, want %d", step, c.name, got, c.reads)
		}
	}
}

func TestMetadataOfAChannelWhoseKeyIsWithdrawnOffersNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	channel, err := os.ReadFile(filepath.Join(w.dir, "tuf/1.stable.json"))
	w.must(err)
	w.keys["stable"] = newKey(t)
	w.publish(release("2.0.0"))
	// The snapshot lists the old metadata of the channel beside the new key.
	snapshot := metadata.Snapshot(w.expires)
	snapshot.Signed.Version = w.version
	targets, err := os.ReadFile(filepath.Join(w.dir, "tuf/2.targets.json"))
	w.must(err)
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": metaOf(2, targets), "stable.json": metaOf(1, channel)}
	data := sign(w.publisher, snapshot, w.keys["snapshot"])
	w.write("tuf/2.snapshot.json", data)
	w.publishTimestamp(metaOf(2, data))
	w.wantFault(Untrusted, "1.stable.json")
}

func TestReleasesOfTheLastCheckExpireWithTheirChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	old := w.expires
	w.expires = old.Add(30 * 24 * time.Hour)
	channel, err := os.ReadFile(filepath.Join(w.dir, "tuf/1.stable.json"))
	w.must(err)
	targets, err := os.ReadFile(filepath.Join(w.dir, "tuf/1.targets.json"))
	w.must(err)
	w.version++
	snapshot := metadata.Snapshot(w.expires)
	snapshot.Signed.Version = w.version
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": metaOf(1, targets), "stable.json": metaOf(1, channel)}
	data := sign(w.publisher, snapshot, w.keys["snapshot"])
	w.write("tuf/2.snapshot.json", data)
	w.publishTimestamp(metaOf(2, data))
	if r := w.wantOffer("2.0.0"); !r.Expires.Equal(old) {
		t.Errorf("the metadata is valid until %s, want %s", r.Expires, old)
	}
	w.now = old.Add(time.Hour)
	w.wantFault(Stale, "")
}
