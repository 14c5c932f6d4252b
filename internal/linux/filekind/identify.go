package filekind

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/trident-project/trident/internal/linux/gpt"
)

// mark is a magic number: the text at an offset, and the kind of a file with it.
type mark struct {
	at   int
	text string
	kind
}

func marks() []mark {
	unpack := func(name, tool string) kind { return kind{packed, "compressed with " + name, tool} }
	disk := func(name string) kind { return kind{virtual, name, ""} }
	fsys := func(name string) kind { return kind{fileSystem, name, ""} }
	return []mark{
		{0, "\x1f\x8b", unpack("gzip", "gzip -d < FILE > OUT")},
		{0, "\xfd7zXZ\x00", unpack("xz", "xz -d < FILE > OUT")},
		{0, "\x28\xb5\x2f\xfd", unpack("zstd", "zstd -d < FILE > OUT")},
		{0, "BZh", unpack("bzip2", "bzip2 -d < FILE > OUT")},
		{0, "\x04\x22\x4d\x18", unpack("lz4", "lz4 -d < FILE > OUT")},
		{0, "\x02\x21\x4c\x18", unpack("lz4", "lz4 -d < FILE > OUT")},
		{0, "LZIP", unpack("lzip", "lzip -d < FILE > OUT")},
		{0, "\x5d\x00\x00", unpack("lzma", "xz --format=lzma -d < FILE > OUT")},
		{0, "\x1f\x9d", unpack("compress", "gzip -d < FILE > OUT")},
		{0, "PK\x03\x04", kind{packed, "a zip archive", "unzip FILE"}},
		{0, "PK\x05\x06", kind{packed, "a zip archive", "unzip FILE"}},
		{0, "7z\xbc\xaf\x27\x1c", kind{packed, "a 7-Zip archive", "7z x FILE"}},
		{0, "Rar!\x1a\x07", kind{packed, "a RAR archive", "unrar x FILE"}},
		{0, "070701", kind{unusable, "a cpio archive, such as an initrd", ""}},
		{0, "070702", kind{unusable, "a cpio archive, such as an initrd", ""}},
		{0, "QFI\xfb", disk("a qcow2 image")},
		{0, "QED\x00", disk("a QED image")},
		{0, "vhdxfile", disk("a VHDX image")},
		{0, "conectix", disk("a VHD image")},
		{0, "KDMV", disk("a VMDK image")},
		{0, "COWD", disk("a VMDK image")},
		{0, "# Disk DescriptorFile", disk("the description of a VMDK image")},
		{0x40, "\x7f\x10\xda\xbe", disk("a VDI image")},
		{0, "WithoutFreeSpace", disk("a Parallels image")},
		{0, "WithouFreSpacExt", disk("a Parallels image")},
		{0, "\x3a\xff\x26\xed", kind{packed, "an Android sparse image", "simg2img FILE OUT"}},
		{0, "MSWIM\x00\x00\x00", kind{unusable, "a WIM image of Windows", ""}},
		{0, "\xed\xab\xee\xdb", kind{unusable, "an RPM package", "Install it with dnf or rpm."}},
		{0, "!<arch>\n", kind{unusable, "a Debian package, or another archive", "Install a package with apt or dpkg."}},
		{0, "\x7fELF", kind{unusable, "a program (ELF)", ""}},
		{0, "MZ", kind{unusable, "a program for UEFI or Windows (PE), such as a unified kernel image", ""}},
		{0, "verity\x00\x00", kind{part, "a dm-verity hash tree", ""}},
		{0, "LUKS\xba\xbe", kind{unusable, "an encrypted volume (LUKS)", "Trident reads images that are not encrypted."}},
		{1024, "\xe2\xe1\xf5\xe0", fsys(Erofs)},
		{0, "hsqs", fsys("a squashfs")},
		{0, "XFSB", fsys("an XFS")},
		{1024, "\x10\x20\xf5\xf2", fsys("an F2FS")},
		{1024 + 56, "\x53\xef", fsys("an ext2, ext3 or ext4")},
		{64<<10 + 64, "_BHRfS_M", fsys("a btrfs")},
		{54, "FAT1", fsys("a FAT")},
		{82, "FAT32", fsys("a FAT")},
	}
}

func identify(r io.ReaderAt, size int64) (kind, bool) {
	if size == 0 {
		return kind{unusable, "an empty file", ""}, true
	}
	head := make([]byte, min(size, headSize))
	if n, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) || n < len(head) {
		return kind{}, false
	}
	has := func(at int, text string) bool {
		return len(head) >= at+len(text) && string(head[at:at+len(text)]) == text
	}
	// These two come first: a hybrid ISO image has the marks of disks, and a fixed VHD is
	// a raw disk with a footer.
	if has(32<<10+1, "CD001") {
		return kind{unusable, "an ISO image", "An ISO image is for a drive to boot from. Take the disk image, or the COSI image, of the same system."}, true
	}
	if tail := make([]byte, tailSize); size > tailSize && size%512 == 0 {
		if n, _ := r.ReadAt(tail, size-tailSize); n == tailSize && string(tail[:8]) == "conectix" {
			return kind{virtual, "a VHD image", ""}, true
		}
	}
	if k, ok := table(r, size, has); ok {
		return k, true
	}
	if has(257, "ustar") {
		return archive(head), true
	}
	for _, m := range marks() {
		if has(m.at, m.text) {
			return m.kind, true
		}
	}
	if has(510, "\x55\xaa") && !protective(head) {
		return kind{mbrDisk, "a disk image with an MBR partition table, or a boot sector", ""}, true
	}
	if len(bytes.Trim(head, "\x00")) == 0 {
		return kind{unusable, "a file that begins with nothing but zeros", "If it was downloaded, download it again: only its length may have arrived."}, true
	}
	return words(head, size)
}

// table recognizes a disk with a GPT, and reports whether it has an EFI system partition.
func table(r io.ReaderAt, size int64, has func(int, string) bool) (kind, bool) {
	for _, sector := range []int64{512, 1024, 2048, 4096} {
		if !has(int(sector), "EFI PART") {
			continue
		}
		k := kind{family: otherDisk, name: "a disk image with a GUID partition table"}
		if sector != 512 {
			k = kind{largeSectors, fmt.Sprintf("a disk image whose partition table is for sectors of %d bytes", sector), ""}
		}
		disk, err := gpt.ReadDisk(r, size, sector)
		if err != nil {
			return k, true
		}
		for _, e := range disk.Entries {
			if e.Type.String() == gpt.ESP {
				return kind{systemDisk, "a raw disk image of a whole system (it has an EFI system partition)", ""}, true
			}
		}
		return k, true
	}
	return kind{}, false
}

// archive returns the kind of a tar archive, by the name of its first file.
func archive(head []byte) kind {
	name, _, _ := bytes.Cut(head[:min(100, len(head))], []byte{0})
	switch strings.TrimPrefix(string(name), "./") {
	case "cosi-marker", "metadata.json":
		return kind{cosi, "a COSI image of an operating system (a tar archive)", ""}
	case "oci-layout", "index.json", "manifest.json", "repositories", "blobs/":
		return kind{unusable, "a container image in a tar archive", ""}
	}
	return kind{packed, "a tar archive", "tar -xf FILE"}
}

// protective reports whether an MBR says that the disk has a GPT (UEFI 2.10, 5.2.3). A
// disk with such an MBR and without a header of a GPT is damaged.
func protective(head []byte) bool {
	for at := 446 + 4; at < 510; at += 16 {
		if head[at] == 0xee {
			return true
		}
	}
	return false
}

// words recognizes texts by their first words.
func words(head []byte, size int64) (kind, bool) {
	text := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))))
	begins := func(with ...string) bool {
		for _, w := range with {
			if bytes.HasPrefix(text, []byte(w)) {
				return true
			}
		}
		return false
	}
	switch {
	case begins("<!doctype", "<html", "<head", "<?xml"):
		return kind{download, "an HTML or XML page", ""}, true
	case begins("version https://git-lfs"):
		return kind{unusable, "a pointer of Git LFS", "Get the file itself: git lfs pull"}, true
	case begins(`{"roothash"`):
		return kind{part, "the signature of a dm-verity root hash", ""}, true
	case begins("-----begin "):
		return kind{plain, "a text in PEM form, such as a key or a certificate", ""}, true
	case printable(head, size):
		return kind{plain, "a text file", ""}, true
	}
	return kind{}, false
}

// printable reports whether the beginning of a file is text. It ignores a character that
// the end of head cuts in two.
func printable(head []byte, size int64) bool {
	if int64(len(head)) < size {
		for n := 1; n < utf8.UTFMax && !utf8.Valid(head); n++ {
			head = head[:len(head)-1]
		}
	}
	return utf8.Valid(head) && !bytes.ContainsFunc(head, func(r rune) bool {
		return r < ' ' && !strings.ContainsRune("\t\r\n\f", r) || r == 0x7f
	})
}
