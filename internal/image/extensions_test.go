package image

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

// carrying writes the sample with extensions to a file.
func carrying(t *testing.T) (path, sha384 string, content [][]byte) {
	t.Helper()
	spec, _ := sample(t, small)
	content = [][]byte{noise(4, 100<<10), noise(5, 20<<20), noise(6, 8<<10)}
	for i, class := range []string{Sysext, Confext, Sysext} {
		spec.Extensions = append(spec.Extensions, ExtensionSpec{class, bytes.NewReader(content[i]), int64(len(content[i]))})
	}
	var b bytes.Buffer
	sha384, err := Write(t.Context(), &b, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, b.Bytes()), sha384, content
}

func TestAnImageCarriesExtensions(t *testing.T) {
	t.Parallel()
	path, sha, content := carrying(t)
	i := mustOpen(t, path, sha)
	if v := i.Metadata().Version; v != (Version{1, 3}) || len(i.Warnings()) > 0 {
		t.Errorf("version %s, %v", v, i.Warnings())
	}
	if found, err := i.Verify(t.Context(), nil); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	var got []string
	for n, c := range i.Extensions() {
		got = append(got, c.Class+" "+c.File.Path+c.Path)
		in, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if want := content[[]int{0, 2, 1}[n]]; err != nil || !bytes.Equal(data, want) { // sysexts come first
			t.Errorf("%s: %d bytes, %v; want %d", c.File.Path, len(data), err, len(want))
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	want := []string{"sysext images/extensions/sysext-1.rawzst", "sysext images/extensions/sysext-2.rawzst", "confext images/extensions/confext-1.rawzst"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(i.Partitions()); n != 4 {
		t.Errorf("%d partitions: an extension is none", n)
	}
}

func TestADamagedExtensionIsFound(t *testing.T) {
	t.Parallel()
	path, sha, _ := carrying(t)
	data := load(t, path)
	data[len(data)-2048-1024] ^= 1 // in the last extension
	i := mustOpen(t, save(t, data), sha)
	if _, err := i.Verify(t.Context(), nil); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("%v", err)
	}
}

func TestTheSameImageWithoutExtensionsIsOfVersion12(t *testing.T) {
	t.Parallel()
	path, sha, _ := build(t, small)
	if v := mustOpen(t, path, sha).Metadata().Version; v != (Version{1, 2}) {
		t.Errorf("version %s", v)
	}
}
