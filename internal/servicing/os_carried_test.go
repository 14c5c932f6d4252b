package servicing

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// carrying makes the image of a version that carries extensions.
func carrying(t testing.TB, version, id string, list ...picture) osImage {
	t.Helper()
	var carried []image.ExtensionSpec
	for _, p := range list {
		carried = append(carried, image.ExtensionSpec{Class: string(p.class), Content: bytes.NewReader(p.data), Size: int64(len(p.data))})
	}
	return assembled(t, version, id, boottest.ESP(boot.AMD64, version), nil, "", nil, carried...)
}

// extensions returns the extensions that systemd would merge over what runs: their names and
// the digests of their images.
func (w *osWorld) extensions() string {
	var out []string
	for _, dir := range []string{"var/lib/extensions", "var/lib/confexts"} {
		found, err := filepath.Glob(filepath.Join(w.root, dir, "*.raw"))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, name := range found {
			to, err := os.Readlink(name)
			if err != nil {
				w.t.Error(err)
			}
			out = append(out, fmt.Sprintf("%s/%s %.8s", dir, filepath.Base(name), filepath.Base(to)))
		}
	}
	return strings.Join(out, ", ")
}

// wantCarried compares what the host reports of the extensions that its image carries. The store
// has their images, also after the other slot ran and pruned the store that both share.
func (w *osWorld) wantCarried(want ...picture) {
	w.t.Helper()
	got, err := w.daemon.service.CarriedExtensions(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var names, wanted []string
	for _, c := range got {
		names = append(names, c.Class+" "+filepath.Base(c.Path)+" "+c.SHA384)
	}
	for _, p := range want {
		wanted = append(wanted, fmt.Sprintf("%s %s.raw %s", p.class, p.name, p.sha))
	}
	if !slices.Equal(names, wanted) {
		w.t.Errorf("the image carries %q, want %q", names, wanted)
	}
}

// The extensions that an image carries go with its slot, beside those of the configuration.
func TestExtensionsOfAnImageGoWithItsSlot(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	a := &album{v1: carrying(t, "v1", "11", g.app1, g.settings), v2: carrying(t, "v2", "22", g.app2)}
	link := func(p picture) string {
		dir := "var/lib/extensions"
		if p.class == extension.Confext {
			dir = "var/lib/confexts"
		}
		return fmt.Sprintf("%s/%s.raw %.8s", dir, p.name, p.sha)
	}
	withTool := func(a *album) string {
		return strings.Replace(v2(a), "os:\n", fmt.Sprintf("os:\n  sysexts: [{url: %q, sha384: %s}]\n", g.tool.url(), g.tool.sha), 1)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.wantCarried(g.app1, g.settings)
		if got, want := w.extensions(), link(g.app1)+", "+link(g.settings); got != want {
			t.Errorf("v1 has %s\nwant %s", got, want)
		}
		write(t, filepath.Join(w.root, "srv", g.tool.sha), string(g.tool.data))
		w.must(updating(withTool, true, true))
		w.wantCarried(g.app2)
		if got, want := w.extensions(), link(g.app2)+", "+link(g.tool); got != want {
			t.Errorf("v2 has %s\nwant %s", got, want)
		}
		w.must(rollingBack)
		w.wantCarried(g.app1, g.settings)
		if got, want := w.extensions(), link(g.app1)+", "+link(g.settings); got != want || w.slot != slot.A {
			t.Errorf("after the rollback, %v has %s\nwant %s", w.slot, got, want)
		}
		w.rest()
	})
}

// An extension of the image that cannot be placed is found before a disk changes.
func TestExtensionsOfAnImageThatDoNotFitAreFoundBefore(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	listed := func(p picture) func(*album) string {
		return func(a *album) string {
			return strings.Replace(v1(a), "os:\n", fmt.Sprintf("os:\n  sysexts: [{url: %q, sha384: %s}]\n", g.app1.url(), p.sha), 1)
		}
	}
	damaged := func(i osImage) osImage {
		data, err := os.ReadFile(i.path)
		if err != nil {
			t.Fatal(err)
		}
		data[bytes.LastIndex(data, []byte("images/extensions/"))+512+100] ^= 1 // after the header of the file
		if err := os.WriteFile(i.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return i
	}
	plain := func(class extension.Class, p picture) picture { p.class = class; return p }
	for name, c := range map[string]struct {
		image osImage
		text  func(*album) string
		kind  errkind.Kind
		says  string
	}{
		"the same as one of the configuration": {carrying(t, "v1", "11", g.app1), listed(g.app1), errkind.Invalid, "together with the extensions that the image carries: two sysexts would be at"},
		"a confext as a sysext":                {carrying(t, "v1", "11", plain(extension.Sysext, g.settings)), v1, errkind.Corrupt, "stage sysext"},
		"damaged":                              {damaged(carrying(t, "v1", "11", g.app1)), v1, errkind.Corrupt, "unpack images/extensions/sysext-1.rawzst, a sysext that the image carries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := &album{v1: c.image}
				w := newOSWorld(t, a)
				w.powerOn()
				write(t, filepath.Join(w.root, "srv", g.app1.sha), string(g.app1.data))
				before := w.state()
				kind, start := installing(c.text, true, true)(w)
				op := w.run(kind, start, "")
				if op.Phase != operation.Undone || op.Reached != "image" || errkind.Kind(op.Failure.Kind) != c.kind || !strings.Contains(op.Failure.Message, c.says) {
					t.Errorf("%s at %s: %+v", op.Phase, op.Reached, op.Failure)
				}
				if w.state() != before {
					t.Errorf("the disk or the firmware has changed: %v", w.Trace)
				}
				w.rest()
			})
		})
	}
}

// A disk that is written whole cannot get the extensions of the image, and stays as it is.
func TestADiskIsNotWrittenWithoutTheExtensionsOfItsImage(t *testing.T) {
	t.Parallel()
	a := &album{v1: carrying(t, "v1", "11", newGallery(t).app1)}
	w, op := streamed(t, a, StreamRequest{URL: "file:///srv/v1.cosi", SHA384: a.v1.sha}, func(*osWorld) {})
	if op.Phase != operation.Undone || op.Failure.Kind != errkind.Unsupported || !strings.Contains(op.Failure.Message, "the image carries extensions, 1 of them") {
		t.Errorf("%s: %+v", op.Phase, op.Failure)
	}
	if w.disk.Writes() != 0 {
		t.Errorf("the disk has changed: %v", w.Trace)
	}
}
