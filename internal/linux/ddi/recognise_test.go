package ddi

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAFileOfAnotherKindIsRecognised(t *testing.T) {
	path, _ := built(t, sample(t))
	image := readFile(t, path)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(image); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	marked := func(offset int, mark string) []byte {
		b := make([]byte, 64<<10)
		copy(b[offset:], mark)
		return b
	}
	for _, c := range []struct {
		name, want, hint string
		data             []byte
	}{
		{"gzip", "compressed with gzip", "gzip -d", zipped.Bytes()},
		{"xz", "compressed with xz", "xz -d", marked(0, "\xfd7zXZ\x00")},
		{"zstd", "compressed with zstd", "zstd -d", marked(0, "\x28\xb5\x2f\xfd")},
		{"a short zstd", "compressed with zstd", "zstd -d", []byte("\x28\xb5\x2f\xfd\x00")},
		{"html", "HTML", "check the URL", []byte("\n\n<!DOCTYPE html><html>404</html>")},
		{"html of a BOM", "HTML", "check the URL", []byte("\xef\xbb\xbf<HTML>")},
		{"an error of a bucket", "XML", "check the URL", []byte(`<?xml version="1.0"?><Error/>`)},
		{"qcow2", "qcow2", "qemu-img convert", marked(0, "QFI\xfb")},
		{"tar", "tar archive", "tar -xf", marked(257, "ustar")},
		{"4096-byte sectors", "sectors of 4096 bytes", "512", marked(4096, "EFI PART")},
		{"a bare erofs", "without a partition table", "sysext build", marked(1024, "\xe2\xe1\xf5\xe0")},
	} {
		_, err := Open(bytes.NewReader(c.data), int64(len(c.data)))
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), c.want) || !strings.Contains(errkind.Hint(err), c.hint) {
			t.Errorf("%s: %v (%s, hint %q)", c.name, err, errkind.Of(err), errkind.Hint(err))
		}
	}
	if err := Recognise(bytes.NewReader(image), int64(len(image))); err != nil {
		t.Errorf("an image: %v", err)
	}
	cut := image[:len(image)-512]
	if _, err := Open(bytes.NewReader(cut), int64(len(cut))); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a cut image: %v", err)
	}
}
