package filekind

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// marked is a file that has a mark at a place.
func marked(at int, mark string) []byte {
	b := make([]byte, 128<<10)
	copy(b[at:], mark)
	return b
}

// file is a file in memory that a table is written to.
type file []byte

func (f file) WriteAt(p []byte, off int64) (int, error) { return copy(f[off:], p), nil }
func (f file) ReadAt(p []byte, off int64) (int, error)  { return copy(p, f[off:]), nil }
func (f file) Sync() error                              { return nil }

// disk is a disk for sectors of a size with a partition of a type.
func disk(t *testing.T, sector int64, id string) []byte {
	t.Helper()
	kind, err := gpt.ParseGUID(id)
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	f := make(file, size)
	d := &gpt.Disk{ID: gpt.GUID{1}, Size: size, SectorSize: sector, Entries: []gpt.Entry{{Number: 1, Type: kind, ID: gpt.GUID{2}, Offset: 1 << 20, Size: 1 << 20}}}
	if err := d.Write(f, func(_ string, change func() error) error { return change() }); err != nil {
		t.Fatal(err)
	}
	return f
}

const (
	esp  = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	root = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
)

func TestAFileOfAnotherKindIsNamedWithTheWayForward(t *testing.T) {
	tar := func(name string) []byte {
		b := marked(257, "ustar\x0000")
		copy(b, name)
		return b
	}
	vhd := marked(446+4, "\x83") // a fixed VHD is a disk with a footer
	copy(vhd[510:], "\x55\xaa")
	copy(vhd[len(vhd)-512:], "conectix")
	mbr := marked(446+4, "\x83")
	copy(mbr[510:], "\x55\xaa")
	iso := bytes.Clone(mbr)
	copy(iso[32<<10+1:], "CD001")
	fatBoot := marked(82, "FAT32   ")
	copy(fatBoot[510:], "\x55\xaa")
	for _, c := range []struct {
		title string
		data  []byte
		want  Want
		name  string // "" where the file is what is wanted
		hint  string
	}{
		{"gzip", marked(0, "\x1f\x8b"), Extension, "compressed with gzip", "gzip -d"},
		{"gzip for a system", marked(0, "\x1f\x8b"), System, "compressed with gzip", "trident image build"},
		{"gzip for a disk", marked(0, "\x1f\x8b"), Disk, "compressed with gzip", "gzip -d"},
		{"gzip for a partition", marked(0, "\x1f\x8b"), Partition, "compressed with gzip", "gzip -d"},
		{"xz", marked(0, "\xfd7zXZ\x00"), Extension, "compressed with xz", "xz -d"},
		{"a short zstd", []byte("\x28\xb5\x2f\xfd\x00"), Extension, "compressed with zstd", "zstd -d"},
		{"zip", marked(0, "PK\x03\x04"), System, "a zip archive", "unzip"},
		{"tar", tar("root/"), Extension, "a tar archive", "tar -xf"},
		{"tar for a system", tar("root/"), System, "a tar archive", "tar -xf"},
		{"a container", tar("oci-layout"), System, "a container image", ""},

		{"qcow2", marked(0, "QFI\xfb"), Extension, "a qcow2 image", "qemu-img convert -O raw"},
		{"qcow2 for a system", marked(0, "QFI\xfb"), System, "a qcow2 image", "trident image build OUT.cosi --disk FILE.raw"},
		{"qcow2 for a disk", marked(0, "QFI\xfb"), Disk, "a qcow2 image", "qemu-img convert -O raw"},
		{"qcow2 for a partition", marked(0, "QFI\xfb"), Partition, "a qcow2 image", "--disk FILE.raw"},
		{"vhdx", marked(0, "vhdxfile"), System, "a VHDX image", "qemu-img"},
		{"a dynamic vhd", marked(0, "conectix"), System, "a VHD image", "qemu-img"},
		{"a fixed vhd", vhd, Disk, "a VHD image", "qemu-img"},
		{"vmdk", marked(0, "KDMV"), Extension, "a VMDK image", "qemu-img"},
		{"a description of a vmdk", []byte("# Disk DescriptorFile\nversion=1\n"), Disk, "a VMDK image", "qemu-img"},
		{"vdi", marked(0x40, "\x7f\x10\xda\xbe"), Disk, "a VDI image", "qemu-img"},
		{"iso", iso, System, "an ISO image", "COSI"},
		{"iso for a disk", iso, Disk, "an ISO image", ""},
		{"iso for a partition", iso, Partition, "", ""},

		{"cosi", tar("cosi-marker"), System, "", ""},
		{"an old cosi", tar("./metadata.json"), System, "", ""},
		{"cosi for an extension", tar("cosi-marker"), Extension, "a COSI image of an operating system", "trident image inspect"},
		{"cosi for a disk", tar("cosi-marker"), Disk, "a COSI image", "trident image inspect"},
		{"cosi for a configuration", tar("cosi-marker"), Config, "a COSI image", "YAML"},

		{"a system", disk(t, 512, esp), Disk, "", ""},
		{"a system of large sectors", disk(t, 4096, esp), Disk, "", ""},
		{"a system for an extension", disk(t, 512, esp), Extension, "a raw disk image of a whole system", "trident image build"},
		{"a system for a system", disk(t, 512, esp), System, "a raw disk image of a whole system", "trident image build OUT.cosi --disk FILE"},
		{"an extension", disk(t, 512, root), Extension, "", ""},
		{"an extension for a system", disk(t, 512, root), System, "a disk image with a GUID partition table", "trident sysext inspect"},
		{"an extension of large sectors", disk(t, 4096, root), Extension, "sectors of 4096 bytes", "without --sector-size"},
		{"an extension of sectors of 2048 bytes", disk(t, 2048, root), Extension, "sectors of 2048 bytes", "without --sector-size"},
		{"a system of large sectors for a system", disk(t, 4096, esp), System, "a raw disk image of a whole system", "trident image build"},
		{"mbr", mbr, System, "an MBR partition table", "GUID partition table"},
		{"mbr for a disk", mbr, Disk, "an MBR partition table", "GUID partition table"},

		{"erofs", marked(1024, "\xe2\xe1\xf5\xe0"), Extension, "an erofs file system without a partition table", "sysext build"},
		{"ext4 for a system", marked(1024+56, "\x53\xef"), System, "ext4 file system", "--partition"},
		{"ext4 for a disk", marked(1024+56, "\x53\xef"), Disk, "ext4 file system", "--partition"},
		{"ext4 for a partition", marked(1024+56, "\x53\xef"), Partition, "", ""},
		{"btrfs", marked(64<<10+64, "_BHRfS_M"), Disk, "a btrfs file system", "--partition"},
		{"a system for a partition", disk(t, 512, esp), Partition, "a raw disk image of a whole system", "--disk FILE"},
		{"an extension for a partition", disk(t, 512, root), Partition, "a disk image with a GUID partition table", "--disk FILE"},
		{"fat", fatBoot, Disk, "a FAT file system", "--partition"},
		{"a hash tree", marked(0, "verity\x00\x00"), Extension, "a dm-verity hash tree", "without --split"},
		{"a signature", []byte(`{"rootHash":"00"}` + "\x00\x00"), Extension, "the signature of a dm-verity root hash", "without --split"},
		{"luks", marked(0, "LUKS\xba\xbe"), Extension, "an encrypted volume", "not encrypted"},

		{"a web page", []byte("\n\n<!DOCTYPE html><html>404</html>"), Extension, "an HTML", "check the URL"},
		{"a web page with a BOM", []byte("\xef\xbb\xbf<HTML>"), Disk, "an HTML", "check the URL"},
		{"an error of a bucket", []byte(`<?xml version="1.0"?><Error/>`), Config, "XML page", "check the URL"},
		{"git lfs", []byte("version https://git-lfs.github.com/spec/v1\n"), System, "a pointer of Git LFS", "git lfs pull"},
		{"a text", []byte("404 page not found\n"), System, "a text file", ""},
		{"a text for a configuration", []byte("image: {}\n"), Config, "", ""},
		{"pem", []byte("-----BEGIN CERTIFICATE-----\n"), Extension, "in PEM form", ""},
		{"nothing", nil, System, "an empty file", ""},
		{"zeros", make([]byte, 1<<20), Extension, "nothing but zeros", "download it again"},
		{"zeros for a partition", make([]byte, 1<<20), Partition, "", ""},
		{"elf", marked(0, "\x7fELF"), Extension, "a program (ELF)", ""},
		{"a unified kernel image", marked(0, "MZ"), System, "unified kernel image", ""},
		{"rpm", marked(0, "\xed\xab\xee\xdb"), Extension, "an RPM package", "dnf"},
		{"noise", []byte{0x80, 0x81, 3, 4}, Extension, "", ""},
	} {
		err := Mistaken(bytes.NewReader(c.data), int64(len(c.data)), c.want)
		if c.name == "" {
			if err != nil {
				t.Errorf("%s: %v", c.title, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.name) || !strings.HasSuffix(err.Error(), "not "+string(c.want)) || !strings.Contains(errkind.Hint(err), c.hint) {
			t.Errorf("%s: %v (hint %q), want %q (hint %q)", c.title, err, errkind.Hint(err), c.name, c.hint)
		}
		if kind := errkind.Of(err); kind != errkind.Invalid && !strings.Contains(c.name, "text") && !strings.Contains(c.name, "PEM") {
			t.Errorf("%s: kind %s", c.title, kind)
		}
	}
}

// A disk whose table is damaged is no disk of another kind.
func TestADamagedTableIsNotAnotherKind(t *testing.T) {
	whole := disk(t, 512, root)
	for at := range 2 * 512 {
		b := bytes.Clone(whole)
		b[at] ^= 0xff
		if err := Mistaken(bytes.NewReader(b), int64(len(b)), Extension); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	var footer [8]byte
	binary.BigEndian.PutUint64(footer[:], 1)
	b := append(bytes.Clone(whole), footer[:]...)
	if err := Mistaken(bytes.NewReader(b), int64(len(b)), Extension); err != nil {
		t.Errorf("longer: %v", err)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("no") }

func TestAFileThatCannotBeReadIsNotKnown(t *testing.T) {
	if err := Mistaken(broken{}, 1<<20, Extension); err != nil {
		t.Error(err)
	}
	if got := FileSystem(broken{}, 1<<20); got != "" {
		t.Errorf("%q", got)
	}
}

func FuzzMistaken(f *testing.F) {
	for _, m := range marks() {
		f.Add(marked(m.at, m.text)[:m.at+len(m.text)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, want := range []Want{Extension, System, Disk, Partition, Config, Text} {
			if err := Mistaken(bytes.NewReader(b), int64(len(b)), want); err != nil && err.Error() == "" {
				t.Error("an error without words")
			}
		}
	})
}
