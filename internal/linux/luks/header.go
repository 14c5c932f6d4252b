package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
)

// The layout of a binary header (LUKS2 on-disk format, section 2.1). Numbers are big-endian.
const (
	binarySize = 4096
	atVersion  = 6
	atSize     = 8
	atEpoch    = 16
	atAlgo     = 72
	atUUID     = 168
	atOffset   = 256
	atChecksum = 448
	minHeader  = 16 << 10
	maxHeader  = 4 << 20
	maxSlots   = 32 // of key slots, and of tokens
)

const (
	magicFirst  = "LUKS\xba\xbe"
	magicSecond = "SKUL\xba\xbe"
)

// Read reads the header of a device: of the whole copies the one with the highest sequence
// number. Its errors are those of [Manager.Header].
func Read(r io.ReaderAt) (Header, error) {
	var best Header
	found, broken := false, error(nil)
	first := make([]byte, atUUID)
	consider := func(at int64, magic string) error {
		if n, err := r.ReadAt(first, at); n < len(first) {
			if err == nil || errors.Is(err, io.EOF) {
				return nil // the device ends before
			}
			return err
		}
		if string(first[:len(magic)]) != magic {
			return nil
		}
		h, err := readCopy(r, at, first)
		switch {
		case errkind.Of(err) == errkind.Unsupported:
			return err
		case err != nil:
			broken = errors.Join(broken, fmt.Errorf("copy at %d: %w", at, err))
		case !found || h.Epoch > best.Epoch:
			best, found = h, true
		}
		return nil
	}
	err := consider(0, magicFirst)
	for at := int64(minHeader); at <= maxHeader && err == nil; at *= 2 {
		err = consider(at, magicSecond)
	}
	switch {
	case err != nil:
		return Header{}, err
	case found:
		return best, nil
	case broken != nil:
		return Header{}, errkind.With(errkind.Corrupt, broken)
	}
	return Header{}, errkind.Errorf(errkind.NotFound, "no LUKS2 header")
}

// readCopy reads the copy of the header at an offset, which begins with first.
func readCopy(r io.ReaderAt, at int64, first []byte) (Header, error) {
	if v := binary.BigEndian.Uint16(first[atVersion:]); v != 2 {
		return Header{}, errkind.Errorf(errkind.Unsupported, "the header is of LUKS version %d, and only version 2 is supported", v)
	}
	size := binary.BigEndian.Uint64(first[atSize:])
	if size < minHeader || size > maxHeader || size&(size-1) != 0 {
		return Header{}, fmt.Errorf("its size is %d", size)
	}
	all := make([]byte, size)
	if _, err := r.ReadAt(all, at); err != nil {
		return Header{}, err
	}
	return parse(all, at)
}

// parse returns the content of a copy of the header that was read at an offset.
func parse(all []byte, at int64) (Header, error) {
	if got := binary.BigEndian.Uint64(all[atOffset:]); got != uint64(at) {
		return Header{}, fmt.Errorf("it says that it is at %d", got)
	}
	var sum hash.Hash
	switch algo := text(all[atAlgo : atAlgo+32]); algo {
	case "sha256":
		sum = sha256.New()
	case "sha512":
		sum = sha512.New()
	default:
		return Header{}, fmt.Errorf("its checksum is of the kind %q", algo)
	}
	sum.Write(all[:atChecksum])
	sum.Write(make([]byte, 64))
	sum.Write(all[atChecksum+64:])
	if !bytes.Equal(sum.Sum(nil), all[atChecksum:atChecksum+sum.Size()]) {
		return Header{}, errors.New("its checksum is wrong")
	}
	h := Header{UUID: text(all[atUUID : atUUID+40]), Epoch: binary.BigEndian.Uint64(all[atEpoch:])}
	return h, h.readJSON(all[binarySize:])
}

// readJSON reads the JSON area of the header (section 3).
func (h *Header) readJSON(area []byte) error {
	var doc struct {
		Slots  map[string]json.RawMessage `json:"keyslots"`
		Tokens map[string]json.RawMessage `json:"tokens"`
	}
	if end := bytes.IndexByte(area, 0); end >= 0 {
		area = area[:end]
	}
	if err := json.Unmarshal(area, &doc); err != nil {
		return fmt.Errorf("its JSON: %w", err)
	}
	var err error
	if h.Slots, err = numbers(slices.Collect(maps.Keys(doc.Slots))); err != nil {
		return fmt.Errorf("its key slots: %w", err)
	}
	tokens, err := numbers(slices.Collect(maps.Keys(doc.Tokens)))
	if err != nil {
		return fmt.Errorf("its tokens: %w", err)
	}
	for _, n := range tokens {
		t, err := parseToken(n, doc.Tokens[strconv.Itoa(n)])
		if err != nil {
			return fmt.Errorf("its token %d: %w", n, err)
		}
		h.Tokens = append(h.Tokens, t)
	}
	return nil
}

// numbers returns the numbers of key slots or tokens, sorted.
func numbers(list []string) ([]int, error) {
	out := make([]int, 0, min(len(list), maxSlots))
	for _, s := range list {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n >= maxSlots || strconv.Itoa(n) != s {
			return nil, fmt.Errorf("%.20q is not a number below %d", s, maxSlots)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// text returns the text of a field, which zeros fill.
func text(field []byte) string {
	field, _, _ = bytes.Cut(field, []byte{0})
	return string(field)
}

// Header implements [Manager].
func (Host) Header(_ context.Context, device string) (Header, error) {
	f, err := os.Open(device)
	if err != nil {
		return Header{}, fmt.Errorf("read the header of an encrypted volume: %w", err)
	}
	defer f.Close()
	h, err := Read(f)
	if err != nil {
		return Header{}, fmt.Errorf("read the header of the encrypted volume %s: %w", device, err)
	}
	return h, nil
}
