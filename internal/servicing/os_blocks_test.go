package servicing

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/operation"
)

// An update of a verified file system takes from its image only the blocks that the other slot
// lacks, if the image has an index, and says so. Its proof is the hash tree.
func TestAVerifiedUpdateTakesBlocksFromTheOtherSlot(t *testing.T) {
	t.Parallel()
	a := verifiedAlbum(t, "usr")
	a.panics = verified(t, verifiedSpec{version: "v4", id: "44", name: "usr", whole: true})
	installed, live := (*osWorld)(nil), tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(func(a *album) string { return verifiedHost("usr", a.v1, "") }, true, true))
		w.rest()
		installed = w.copied(t, live)
	})
	for name, c := range map[string]struct {
		image  osImage
		memory int64
		byTree bool
		says   string
	}{
		"an image with an index":    {image: a.v2, byTree: true, says: " came from the other slot, and "},
		"an image without an index": {image: a.panics, says: "fetching all of /usr: images/partition-2.rawzst has no index of its zstd frames"},
		"little memory":             {image: a.v2, memory: 20 << 20, says: "fetching all of /usr: writing it by blocks needs 25"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			synctest.Test(t, func(t *testing.T) {
				w := installed.copied(t, dir)
				w.memory, w.logs = c.memory, true
				w.powerOn()
				kind, start := updating(func(*album) string { return verifiedHost("usr", c.image, "") }, true, false)(w)
				op := w.run(kind, start, "")
				if op.Phase != operation.Done {
					t.Fatalf("%s, %+v", op.Phase, op.Failure)
				}
				list, err := w.daemon.store.List(context.Background(), 1, false)
				if err != nil {
					t.Fatal(err)
				}
				state := string(list[0].State)
				if got := strings.Count(state, `"by_tree":true`); got != map[bool]int{true: 1}[c.byTree] {
					t.Errorf("%d parts are written by blocks: %s", got, state)
				}
				if log := w.text(fullLog); !strings.Contains(log, c.says) {
					t.Errorf("the log lacks %q:\n%s", c.says, log)
				}
				w.rest()
			})
		})
	}
}
