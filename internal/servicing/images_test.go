package servicing

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// picture is an image that configurations of the tests list.
type picture struct {
	class   extension.Class
	name    string
	version string
	release string // its extension-release
	data    []byte
	sha     string
}

func (p picture) url() string { return "file:///srv/" + p.sha }

// gallery has the images of all tests, made once.
type gallery struct {
	app1, app2, sick, broken, tool, settings, more picture
	all                                            []picture
}

func newGallery(t testing.TB) *gallery {
	g := &gallery{
		app1: sysext(t, "app", "1"), app2: sysext(t, "app", "2"), sick: sysext(t, "app", "sick"), broken: sysext(t, "app", "broken"),
		tool: sysext(t, "tool", "1"), settings: confext(t, "settings", "1"), more: confext(t, "more", "1"),
	}
	g.all = []picture{g.app1, g.app2, g.sick, g.broken, g.tool, g.settings, g.more}
	return g
}

func (g *gallery) by(sha string) (picture, bool) {
	for _, p := range g.all {
		if p.sha == sha {
			return p, true
		}
	}
	return picture{}, false
}

// sysext is a discoverable image.
func sysext(t testing.TB, name, version string) picture {
	t.Helper()
	release := "ID=_any\nSYSEXT_ID=" + name + "\nSYSEXT_VERSION_ID=" + version + "\n"
	tree := t.TempDir()
	write(t, filepath.Join(tree, "usr/lib/extension-release.d/extension-release."+name), release)
	file := filepath.Join(t.TempDir(), "image")
	if _, err := ddi.Build(context.Background(), file, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	return read(t, picture{class: extension.Sysext, name: name, version: version, release: release}, file)
}

// confext is a file system without partitions.
func confext(t testing.TB, name, version string) picture {
	t.Helper()
	release := "ID=_any\nCONFEXT_ID=" + name + "\nCONFEXT_VERSION_ID=" + version + "\n"
	file := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := erofs.Create(f)
	if err := w.CopyFrom(fstest.MapFS{"etc/extension-release.d/extension-release." + name: {Data: []byte(release), Mode: 0o644}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return read(t, picture{class: extension.Confext, name: name, version: version, release: release}, file)
}

func read(t testing.TB, p picture, file string) picture {
	t.Helper()
	var err error
	if p.data, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(p.data)
	p.sha = hex.EncodeToString(sum[:])
	return p
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
