package ddi

import (
	"bytes"
	"errors"
	"io"

	"github.com/trident-project/trident/internal/errkind"
)

// Recognise is nil for an image, and for a file of which nothing is known. One of the
// files that are commonly given in place of an image, such as a compressed one or a
// page of a web server, is an error of kind Invalid, with the way forward for a hint.
func Recognise(r io.ReaderAt, size int64) error {
	head := make([]byte, min(size, 8<<10))
	if n, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) || n < len(head) {
		return nil
	}
	at := func(offset int, mark string) bool {
		return len(head) >= offset+len(mark) && string(head[offset:offset+len(mark)]) == mark
	}
	const gone = "The file is a page of a web server, not what was meant to be downloaded: check the URL, and whether it needs a login."
	text := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))))
	switch {
	case at(512, "EFI PART"):
		return nil
	case at(0, "\x1f\x8b"):
		return otherFile("it is compressed with gzip", "Decompress it first: gzip -d < FILE > FILE.raw")
	case at(0, "\xfd7zXZ\x00"):
		return otherFile("it is compressed with xz", "Decompress it first: xz -d < FILE > FILE.raw")
	case at(0, "\x28\xb5\x2f\xfd"):
		return otherFile("it is compressed with zstd", "Decompress it first: zstd -d < FILE > FILE.raw")
	case at(0, "BZh"):
		return otherFile("it is compressed with bzip2", "Decompress it first: bzip2 -d < FILE > FILE.raw")
	case at(0, "\x04\x22\x4d\x18"):
		return otherFile("it is compressed with lz4", "Decompress it first: lz4 -d < FILE > FILE.raw")
	case at(0, "PK\x03\x04"):
		return otherFile("it is a zip archive", "Unpack it first: unzip FILE")
	case at(257, "ustar"):
		return otherFile("it is a tar archive", "Unpack it first: tar -xf FILE. An image of a COSI package is for trident install, not for this.")
	case at(0, "QFI\xfb"):
		return otherFile("it is a qcow2 image", "Convert it first: qemu-img convert -O raw FILE FILE.raw")
	case at(0, "\xed\xab\xee\xdb"):
		return otherFile("it is an RPM package", "Install it with dnf or rpm.")
	case at(0, "!<arch>\n"):
		return otherFile("it is a Debian package, or another archive", "Install a package with apt or dpkg.")
	case bytes.HasPrefix(text, []byte("<!doctype")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<?xml")):
		return otherFile("it is an HTML or XML page", gone)
	case at(4096, "EFI PART"):
		return otherFile("its partition table is for sectors of 4096 bytes", "Build it for sectors of 512 bytes: systemd-repart --sector-size=512, or trident sysext build.")
	case at(1024, "\xe2\xe1\xf5\xe0"), at(0, "hsqs"), at(1024+56, "\x53\xef"):
		return otherFile("it is a file system without a partition table, so it has no dm-verity tree and no signature", "Build a discoverable disk image: trident sysext build, or systemd-repart.")
	}
	return nil
}

func otherFile(what, hint string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%s", what), "%s", hint)
}
