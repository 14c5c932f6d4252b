// Package volume finds the file system in an extension image that systemd would mount, and
// opens its tree. Packages gpt and ddi are strict; they read images of Trident.
package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// Volume is the part of an image that systemd would mount.
type Volume struct {
	Data      *io.SectionReader
	Format    Format
	IsUsr     bool              // systemd mounts Data on usr/, not on the root
	Signature *io.SectionReader // the signature partition, or nil
	parts     []partition       // all partitions of the image
}

// ErrUnknown is the error for an image that this package cannot read and systemd perhaps
// can.
var ErrUnknown = errors.New("an image in a format that is not read here")

// Find returns the volume that systemd would mount on a host of the architecture arch. It reads
// images of others as leniently as systemd and libblkid do.
func Find(r io.ReaderAt, size int64, arch string) (Volume, error) {
	whole := io.NewSectionReader(r, 0, size)
	kind, err := detect(whole)
	if err != nil {
		return Volume{}, err
	}
	if kind != formatGPT {
		return Volume{Data: whole, Format: kind}, nil
	}
	parts, err := readTable(whole)
	if err != nil {
		return Volume{}, err
	}
	v, err := selectVolume(whole, parts, arch)
	if err != nil {
		return Volume{}, err
	}
	v.parts = parts
	v.Format, err = detect(v.Data)
	return v, err
}

// Format is what the first bytes of a volume or an image say that it is.
type Format string

// The formats. Those of file systems have the kernel's names.
const (
	formatGPT    Format = "gpt"
	Erofs        Format = "erofs"
	formatSquash Format = "squashfs"
	formatExt    Format = "ext4" // or ext2 or ext3: the kernel mounts all three as ext4
	formatXFS    Format = "xfs"
	formatBtrfs  Format = "btrfs"
	formatF2FS   Format = "f2fs"
	formatLUKS   Format = "LUKS"
	formatOther  Format = "other" // known to systemd, but not read here
)

type magic struct {
	offset int64
	mark   string
	format Format
}

// magics returns the magic numbers of the formats that systemd accepts
// (systemd.image-policy(7), file systems and LUKS).
func magics() []magic {
	return []magic{
		{512, "EFI PART", formatGPT},
		{1024, "\xe2\xe1\xf5\xe0", Erofs},
		{0, "hsqs", formatSquash},              // squashfs
		{0, "LUKS\xba\xbe", formatLUKS},        // LUKS 1 and 2
		{0, "XFSB", formatXFS},                 // xfs
		{1024, "\x10\x20\xf5\xf2", formatF2FS}, // f2fs
		{1024 + 56, "\x53\xef", formatExt},     // ext2, 3 and 4
		{64<<10 + 64, "_BHRfS_M", formatBtrfs}, // btrfs
		{4096, "EFI PART", formatOther},        // a table for sectors of 4096 bytes
		{510, "\x55\xaa", formatOther},         // vfat, or an MBR table
	}
}

func detect(r *io.SectionReader) (Format, error) {
	if r.Size() == 0 {
		return "", errors.New("is empty")
	}
	for _, m := range magics() {
		got := make([]byte, len(m.mark))
		if _, err := r.ReadAt(got, m.offset); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if string(got) == m.mark {
			return m.format, nil
		}
	}
	return "", errors.New("holds no partition table and no file system that systemd knows")
}

type partition struct {
	kind        gpt.GUID
	offset, end int64
}

// readTable reads the primary table, or the backup if the primary is damaged, as libblkid
// does (UEFI 2.10, section 5.3.2).
func readTable(r *io.SectionReader) ([]partition, error) {
	parts, err := readTableAt(r, 512)
	if err == nil {
		return parts, nil
	}
	if parts, backupErr := readTableAt(r, r.Size()/512*512-512); backupErr == nil {
		return parts, nil
	}
	return nil, fmt.Errorf("has a damaged partition table: %w", err)
}

func readTableAt(r *io.SectionReader, at int64) ([]partition, error) {
	h := make([]byte, 92)
	if _, err := r.ReadAt(h, at); err != nil {
		return nil, fmt.Errorf("read its header: %w", err)
	}
	sum := binary.LittleEndian.Uint32(h[16:])
	clear(h[16:20])
	le := binary.LittleEndian
	array, count, width := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	switch {
	case string(h[:8]) != "EFI PART" || le.Uint32(h[12:]) != uint32(len(h)):
		return nil, errors.New("no header of 92 bytes")
	case crc32.ChecksumIEEE(h) != sum:
		return nil, errors.New("the header does not match its checksum")
	case width != 128 || count > 1024 || array > uint64(r.Size())/512:
		return nil, errors.New("the header has impossible values")
	}
	entries := make([]byte, width*count)
	if _, err := r.ReadAt(entries, int64(array)*512); err != nil {
		return nil, fmt.Errorf("read the entries: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return nil, errors.New("the entries do not match their checksum")
	}
	return decodeEntries(entries, r.Size())
}

func decodeEntries(entries []byte, size int64) ([]partition, error) {
	var parts []partition
	for e := range slices.Chunk(entries, 128) {
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if first > last || last >= uint64(size)/512 {
			return nil, fmt.Errorf("a partition ends in sector %d, the image in %d", last, size/512)
		}
		parts = append(parts, partition{diskGUID(e[:16]), int64(first) * 512, int64(last+1) * 512})
	}
	return parts, nil
}

// diskGUID converts a GUID from the mixed byte order of a table.
func diskGUID(b []byte) gpt.GUID {
	return gpt.GUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// archTypes are the partition types of an architecture.
type archTypes struct{ root, rootSig, usr, usrSig gpt.GUID }

// typesOf returns the types of each architecture, by systemd's name of the architecture.
func typesOf() map[string]archTypes {
	of := func(machine string) (t archTypes) {
		for name, to := range map[string]*gpt.GUID{"root": &t.root, "root-verity-sig": &t.rootSig, "usr": &t.usr, "usr-verity-sig": &t.usrSig} {
			*to, _ = gpt.TypeByName(name, machine)
		}
		return t
	}
	return map[string]archTypes{"x86-64": of("amd64"), "arm64": of("arm64")}
}

// selectVolume picks the partitions that systemd would pick on arch.
func selectVolume(r *io.SectionReader, parts []partition, arch string) (Volume, error) {
	mine, known := typesOf()[arch]
	if !known {
		return Volume{}, ErrUnknown
	}
	root, usr := sections(r, parts, mine.root), sections(r, parts, mine.usr)
	switch {
	case len(root) == 1 && len(usr) == 0:
		return Volume{Data: root[0], Signature: first(sections(r, parts, mine.rootSig))}, nil
	case len(root) == 0 && len(usr) == 1:
		return Volume{Data: usr[0], IsUsr: true, Signature: first(sections(r, parts, mine.usrSig))}, nil
	case len(root)+len(usr) > 1:
		return Volume{}, ErrUnknown
	}
	for other, types := range typesOf() {
		if len(sections(r, parts, types.root))+len(sections(r, parts, types.usr)) > 0 {
			return Volume{}, errkind.Errorf(errkind.Incompatible, "has partitions for the architecture %q only, this host is %q", other, arch)
		}
	}
	return Volume{}, ErrUnknown
}

func sections(r *io.SectionReader, parts []partition, kind gpt.GUID) (found []*io.SectionReader) {
	for _, p := range parts {
		if p.kind == kind {
			found = append(found, io.NewSectionReader(r, p.offset, p.end-p.offset))
		}
	}
	return found
}

func first(found []*io.SectionReader) *io.SectionReader {
	if len(found) == 0 {
		return nil
	}
	return found[0]
}
