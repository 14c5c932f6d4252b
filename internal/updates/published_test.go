package updates

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/feed/publish"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// TestAFeedOfTheCommandIsOffered reads what trident feed has published, with a patch, also
// after a rotation of keys.
func TestAFeedOfTheCommandIsOffered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir, keys := filepath.Join(w.root, "srv/feed"), filepath.Join(t.TempDir(), "keys")
	p, err := publish.Init(dir, keys, publish.InitOptions{Channels: []string{"stable"}, Threshold: 1, Validity: publish.DefaultValidity(), Now: w.now})
	w.must(err)
	for _, version := range []string{"1.0.0", "2.0.0-rc.1"} {
		_, err = p.Add(t.Context(), imageOf(t, version), publish.AddOptions{Channel: "stable"}, nil)
		w.must(err)
	}
	_, err = p.Patch(t.Context(), publish.PatchOptions{Channel: "stable", Last: 1}, func(string) {}, nil)
	w.must(err)
	_, err = p.Publish(t.Context(), publish.DefaultValidity())
	w.must(err)
	w.must(p.Close())

	root, err := filepath.Glob(filepath.Join(dir, "tuf/1.root.json"))
	if err != nil || len(root) != 1 {
		t.Fatalf("the feed has the roots %v, %v", root, err)
	}
	data, err := fetch.Read(t.Context(), fetch.Source{Path: root[0]}, maxRootFile)
	w.must(err)
	writeFile(t, filepath.Join(w.root, ownersRoot), string(data))
	w.policy.Feed, w.self.Images = "file:///srv/feed", []Image{{Version: "1.0.0"}}
	r := w.wantOffer("2.0.0-rc.1")
	if r.Offer.TransferSize >= r.Offer.Size {
		t.Errorf("the patch does not count: %+v", r.Offer)
	}
	src, _, err := w.service.Source(t.Context(), "")
	w.must(err)
	if src, err = src.OnHost(w.root); err != nil || len(src.Patches) != 1 {
		t.Fatalf("got %+v, %v", src, err)
	}
	if _, err := fetch.Download(t.Context(), src, filepath.Join(t.TempDir(), "part"), fetch.Limits{}, nil, nil); err != nil {
		t.Error(err)
	}

	w.now = w.now.Add(24 * time.Hour)
	p, err = publish.Open(dir, keys, w.now)
	w.must(err)
	w.must(p.Rotate(publish.RotateOptions{Roles: []string{"root", "timestamp", "snapshot", "targets", "stable"}, Validity: publish.DefaultValidity()}))
	_, err = p.Publish(t.Context(), publish.DefaultValidity())
	w.must(err)
	w.must(p.Close())
	w.wantOffer("2.0.0-rc.1")
}

// imageOf makes an unsigned image of Trident for this machine.
func imageOf(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	tree, file := filepath.Join(dir, "tree"), filepath.Join(dir, "image.raw")
	hosttest.Write(t, filepath.Join(tree, "usr/lib/extension-release.d/extension-release.trident"),
		fmt.Sprintf("ID=testos\nVERSION_ID=1\nARCHITECTURE=%s\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=%s\n", machine(), version))
	hosttest.Write(t, filepath.Join(tree, "usr/bin/tridentd"), strings.Repeat(version, 100_000))
	hosttest.MakeReadable(t, tree)
	if _, err := ddi.Build(t.Context(), file, ddi.BuildOptions{Tree: tree, Arch: ddi.Arch(machine()), Epoch: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	return file
}
