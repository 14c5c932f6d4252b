package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Numbers of the RPM format, version 4 (rpm.org, "RPM V4 Package format").
const (
	leadSize  = 96
	indexSize = 16 // of the intro of a header, and of each entry of its index

	tagSHA256       = 273  // in the signature header: SHA-256 of the header, in hex
	tagSize         = 1000 // in the signature header: bytes of header and payload
	tagPayloadSize  = 1007 // in the signature header: bytes of the payload unpacked
	tagName         = 1000
	tagVersion      = 1001
	tagRelease      = 1002
	tagFileFlags    = 1037
	tagRequireFlags = 1048
	tagRequireName  = 1049
	tagRequireVers  = 1050
	tagRPMVersion   = 1064
	tagDirIndexes   = 1116 // of each file, the index of its folder in the dir names
	tagDirNames     = 1118
	tagPreTrans     = 1151 // the scriptlet
	tagPreTransProg = 1153 // its interpreter

	flagEqual = 1 << 3 // of a requirement
	flagDoc   = 1 << 1 // of a file

	typeInt16, typeInt32, typeInt64            = 3, 4, 5
	typeString, typeBin, typeStrings, typeI18N = 6, 7, 8, 9
	headerMagic                                = "\x8e\xad\xe8\x01\x00\x00\x00\x00"
)

// A header is an RPM header structure: tagged values, all in one region, which is
// what signatures and digests cover.
type header struct {
	region  uint32
	entries []entry // sorted by tag
}

type entry struct {
	tag, kind, count uint32
	data             []byte // as it is stored, strings with their zeros
}

// splitPackage takes a package apart into signature header, header and payload.
func splitPackage(pkg []byte) (sig, hdr *header, payload []byte, err error) {
	if len(pkg) < leadSize {
		return nil, nil, nil, errors.New("this is not an RPM: too short")
	}
	sig, n, err := parseHeader(pkg[leadSize:])
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read signature header: %w", err)
	}
	start := leadSize + (n+7)/8*8
	if start > len(pkg) {
		return nil, nil, nil, errors.New("the package is truncated")
	}
	hdr, n, err = parseHeader(pkg[start:])
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read header: %w", err)
	}
	return sig, hdr, pkg[start+n:], nil
}

func joinPackage(lead []byte, sig *header, hdr, payload []byte) []byte {
	raw := sig.marshal()
	pad := make([]byte, (8-len(raw)%8)%8)
	return slices.Concat(lead, raw, pad, hdr, payload)
}

// parseHeader reads the header that b begins with and says how long it is. Values must
// follow one another, as rpm wants them, so all of them are no longer than the header.
func parseHeader(b []byte) (*header, int, error) {
	if len(b) < 2*indexSize || string(b[:8]) != headerMagic {
		return nil, 0, errors.New("no header magic")
	}
	count, length := int(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:]))
	if count < 1 || count > len(b)/indexSize || length > len(b) || indexSize*(1+count)+length > len(b) {
		return nil, 0, errors.New("the header is longer than the package")
	}
	store := b[indexSize*(1+count):][:length]
	h := header{region: binary.BigEndian.Uint32(b[indexSize:])}
	values := length - indexSize
	if values < 0 || !bytes.Equal(b[indexSize:][:indexSize], regionEntry(h.region, uint32(values))) ||
		!bytes.Equal(store[values:], regionEntry(h.region, -uint32(count)*indexSize)) {
		return nil, 0, errors.New("the header is not one region")
	}
	store = store[:values]
	end := 0
	for i := 1; i < count; i++ {
		index := b[indexSize*(1+i):]
		e := entry{tag: binary.BigEndian.Uint32(index), kind: binary.BigEndian.Uint32(index[4:]), count: binary.BigEndian.Uint32(index[12:])}
		offset := int(binary.BigEndian.Uint32(index[8:]))
		n, err := e.size(store, offset)
		if err != nil {
			return nil, 0, err
		}
		if offset < end {
			return nil, 0, fmt.Errorf("the value of tag %d is within another", e.tag)
		}
		end = offset + n
		e.data = bytes.Clone(store[offset:end])
		h.entries = append(h.entries, e)
	}
	return &h, indexSize*(1+count) + length, nil
}

// size is how many bytes of the store the value takes from offset on.
func (e entry) size(store []byte, offset int) (int, error) {
	bad := fmt.Errorf("the value of tag %d is outside the header", e.tag)
	if offset > len(store) || int(e.count) > len(store) {
		return 0, bad
	}
	n := int(e.count)
	switch e.kind {
	case typeInt16, typeInt32, typeInt64:
		n <<= e.kind - 2
	case typeString, typeStrings, typeI18N:
		n = 0
		for range e.count {
			end := bytes.IndexByte(store[offset+n:], 0)
			if end < 0 {
				return 0, bad
			}
			n += end + 1
		}
	case typeBin:
	default:
		return 0, fmt.Errorf("the value of tag %d has the unknown type %d", e.tag, e.kind)
	}
	if n > len(store)-offset {
		return 0, bad
	}
	return n, nil
}

// find returns the entry of a tag; one with a nil value when there is none.
func (h *header) find(tag uint32) entry {
	for _, e := range h.entries {
		if e.tag == tag {
			return e
		}
	}
	return entry{}
}

// text returns the string of a tag, "" when there is none.
func (h *header) text(tag uint32) string {
	text, _, _ := strings.Cut(string(h.find(tag).data), "\x00")
	return text
}

// texts returns the strings of an entry.
func (e entry) texts() []string {
	if e.count == 0 || len(e.data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(e.data), "\x00"), "\x00")
}

// number returns the i-th of the 32-bit numbers of an entry; the value must be that long.
func (e entry) number(i int) uint32 { return binary.BigEndian.Uint32(e.data[4*i:]) }

// set gives a tag a string.
func (h *header) set(tag uint32, text string) {
	h.put(entry{tag: tag, kind: typeString, count: 1, data: append([]byte(text), 0)})
}

// put replaces the entry of a tag, or adds it.
func (h *header) put(e entry) {
	h.entries = slices.DeleteFunc(h.entries, func(old entry) bool { return old.tag == e.tag })
	h.entries = append(h.entries, e)
	slices.SortStableFunc(h.entries, func(a, b entry) int { return cmp.Compare(a.tag, b.tag) })
}

// marshal writes the header: intro, index, values, and the trailer of the region.
func (h *header) marshal() []byte {
	var index, store []byte
	for _, e := range h.entries {
		if typeInt16 <= e.kind && e.kind <= typeInt64 {
			for len(store)%(1<<(e.kind-2)) != 0 {
				store = append(store, 0)
			}
		}
		index = appendNumbers(index, e.tag, e.kind, uint32(len(store)), e.count)
		store = append(store, e.data...)
	}
	count, values := uint32(len(h.entries)+1), uint32(len(store))
	intro := appendNumbers([]byte(headerMagic), count, values+indexSize)
	return slices.Concat(intro, regionEntry(h.region, values), index, store, regionEntry(h.region, -count*indexSize))
}

// regionEntry is the entry of a region, first of the index, whose offset leads to the
// trailer; and the trailer, last of the values, whose offset leads back.
func regionEntry(region, offset uint32) []byte {
	return appendNumbers(nil, region, typeBin, offset, indexSize)
}

func appendNumbers(b []byte, numbers ...uint32) []byte {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}
