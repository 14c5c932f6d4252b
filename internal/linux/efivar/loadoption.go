package efivar

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// LoadOption describes a program that firmware can boot: EFI_LOAD_OPTION (UEFI 2.10,
// 3.1.3).
type LoadOption struct {
	Attributes  uint32
	Description string
	// Nodes are all nodes of the device path list, also its end nodes.
	Nodes    []Node
	Optional []byte // for the program
}

// Active is the attribute of a load option that the firmware tries by itself
// (LOAD_OPTION_ACTIVE).
const Active uint32 = 1

// Node is a node of a device path (UEFI 2.10, 10.3.1).
type Node struct {
	Type, SubType byte
	Data          []byte
}

// HardDrive identifies a partition of a disk with a GPT (UEFI 2.10, 10.3.5.1). Firmware
// finds it by the GUID; some firmware compares the other fields too.
type HardDrive struct {
	Number      uint32 // of the partition, from 1
	Start, Size uint64 // in logical blocks of the disk
	Partition   gpt.GUID
}

// Types and sub-types of nodes.
const (
	typeMedia    = 4
	subHardDrive = 1
	subFilePath  = 4
	typeEnd      = 0x7f
	subEndEntire = 0xff

	hardDriveSize = 38
	formatGPT     = 2 // MBRType
	signatureGUID = 2
)

// NewLoadOption returns an active load option for a file on disk. The path of the file
// is from the root of the partition, with slashes.
func NewLoadOption(description string, disk HardDrive, file string) LoadOption {
	return LoadOption{
		Attributes:  Active,
		Description: description,
		Nodes: []Node{
			disk.node(),
			{typeMedia, subFilePath, encodeText(strings.ReplaceAll(file, "/", `\`))},
			{typeEnd, subEndEntire, nil},
		},
	}
}

func (h HardDrive) node() Node {
	le := binary.LittleEndian
	data := le.AppendUint32(nil, h.Number)
	data = le.AppendUint64(data, h.Start)
	data = le.AppendUint64(data, h.Size)
	guid := h.Partition.OnDisk()
	return Node{typeMedia, subHardDrive, append(append(data, guid[:]...), formatGPT, signatureGUID)}
}

// Location returns the partition and the file that o boots; the path has slashes. It
// returns false if o boots something else: the network, an optical disc, the firmware.
func (o LoadOption) Location() (disk HardDrive, file string, ok bool) {
	for _, n := range o.Nodes {
		switch {
		case n.Type == typeEnd:
			return disk, file, ok && file != ""
		case n.Type == typeMedia && n.SubType == subHardDrive:
			disk, ok = parseHardDrive(n.Data)
		case n.Type == typeMedia && n.SubType == subFilePath:
			part := strings.ReplaceAll(decodeText(n.Data), `\`, "/")
			file = strings.TrimSuffix(file, "/") + "/" + strings.TrimPrefix(part, "/")
		}
	}
	return disk, file, ok && file != ""
}

func parseHardDrive(d []byte) (HardDrive, bool) {
	if len(d) != hardDriveSize || d[36] != formatGPT || d[37] != signatureGUID {
		return HardDrive{}, false
	}
	le := binary.LittleEndian
	return HardDrive{le.Uint32(d), le.Uint64(d[4:]), le.Uint64(d[12:]), gpt.GUIDOnDisk([16]byte(d[20:36]))}, true
}

// Encode returns the content of a Boot#### variable.
func (o LoadOption) Encode() ([]byte, error) {
	le := binary.LittleEndian
	var paths []byte
	for _, n := range o.Nodes {
		if len(n.Data)+4 > 0xffff {
			return nil, errkind.Errorf(errkind.Invalid, "encode boot entry %q: a node of its path is longer than 65535 bytes", o.Description)
		}
		paths = append(paths, n.Type, n.SubType)
		paths = append(le.AppendUint16(paths, uint16(len(n.Data)+4)), n.Data...)
	}
	if len(paths) > 0xffff {
		return nil, errkind.Errorf(errkind.Invalid, "encode boot entry %q: its path is longer than 65535 bytes", o.Description)
	}
	if strings.Contains(o.Description, "\x00") {
		return nil, errkind.Errorf(errkind.Invalid, "encode boot entry %q: its description has a NUL", o.Description)
	}
	out := le.AppendUint32(nil, o.Attributes)
	out = le.AppendUint16(out, uint16(len(paths)))
	out = append(out, encodeText(o.Description)...)
	return append(append(out, paths...), o.Optional...), nil
}

// DecodeLoadOption reads the content of a Boot#### variable. Its errors are of kind Corrupt.
func DecodeLoadOption(data []byte) (LoadOption, error) {
	bad := func(why string) (LoadOption, error) {
		return LoadOption{}, errkind.Errorf(errkind.Corrupt, "decode boot entry: %s", why)
	}
	if len(data) < 6 {
		return bad("it is shorter than its header")
	}
	le := binary.LittleEndian
	o := LoadOption{Attributes: le.Uint32(data)}
	size := int(le.Uint16(data[4:]))
	rest := data[6:]
	end := -1
	for i := 0; i+1 < len(rest) && end < 0; i += 2 {
		if rest[i] == 0 && rest[i+1] == 0 {
			end = i
		}
	}
	if end < 0 {
		return bad("its description has no end")
	}
	o.Description = decodeText(rest[:end])
	rest = rest[end+2:]
	if size > len(rest) {
		return bad("its path is longer than the entry")
	}
	paths := rest[:size]
	if size < len(rest) {
		o.Optional = append([]byte(nil), rest[size:]...)
	}
	for len(paths) > 0 {
		if len(paths) < 4 {
			return bad("a node of its path is cut off")
		}
		n := int(le.Uint16(paths[2:]))
		if n < 4 || n > len(paths) {
			return bad("a node of its path has a wrong length")
		}
		o.Nodes = append(o.Nodes, Node{paths[0], paths[1], append([]byte(nil), paths[4:n]...)})
		paths = paths[n:]
	}
	return o, nil
}

// encodeText returns s in UTF-16LE with a NUL at its end.
func encodeText(s string) []byte {
	var out []byte
	for _, c := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, 0, 0)
}

// decodeText reads UTF-16LE up to a NUL or the end.
func decodeText(data []byte) string {
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		c := binary.LittleEndian.Uint16(data)
		if c == 0 {
			break
		}
		units = append(units, c)
	}
	return string(utf16.Decode(units))
}
