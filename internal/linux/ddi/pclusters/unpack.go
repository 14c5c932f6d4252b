package pclusters

import (
	"bytes"
	"compress/flate"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// algorithm is a form of compression, by its number on disk.
type algorithm uint8

const (
	lz4     algorithm = 0
	deflate algorithm = 2
	zstds   algorithm = 3
	stored  algorithm = 0xff // not on disk: not compressed
)

// unpackers has what the algorithms keep between two extents.
type unpackers struct{ zstd *zstd.Decoder }

// unpack fills out from a pcluster. The data may continue, because extents of several files
// can have one pcluster; it must not end before.
func (u *unpackers) unpack(a algorithm, out, packed []byte) error {
	packed = bytes.TrimLeft(packed, "\x00") // the padding of the pcluster
	var err error
	switch a {
	case lz4:
		return unpackLZ4(out, packed)
	case deflate:
		_, err = io.ReadFull(flate.NewReader(bytes.NewReader(packed)), out)
	case zstds:
		err = u.unpackZstd(out, packed)
	default:
		return errkind.Errorf(errkind.Unsupported, "the compression %s is not read", map[algorithm]string{1: "LZMA"}[a])
	}
	if err != nil {
		return corrupt("unpack: %w", err)
	}
	return nil
}

func (u *unpackers) unpackZstd(out, packed []byte) error {
	if u.zstd == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxExtent), zstd.WithDecoderMaxMemory(maxExtent))
		if err != nil {
			return err
		}
		u.zstd = d
	}
	if err := u.zstd.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	_, err := io.ReadFull(u.zstd, out)
	return err
}

// unpackLZ4 fills out from a block of LZ4 (github.com/lz4/lz4, doc/lz4_Block_format.md). A
// sequence is some literals, then a match: bytes that the output already has.
func unpackLZ4(out, in []byte) error {
	for n := 0; ; {
		if len(in) == 0 {
			return errLZ4
		}
		token := in[0]
		literals, rest, ok := lz4Length(int(token>>4), in[1:], len(out))
		if !ok || literals > len(rest) {
			return errLZ4
		}
		n += copy(out[n:], rest[:literals])
		if n == len(out) {
			return nil
		}
		if in = rest[literals:]; len(in) < 2 {
			return errLZ4
		}
		distance := int(in[0]) | int(in[1])<<8
		length, rest, ok := lz4Length(int(token&15), in[2:], len(out))
		if !ok || distance == 0 || distance > n {
			return errLZ4
		}
		const shortest = 4
		n = repeat(out, n, distance, length+shortest)
		if n == len(out) {
			return nil
		}
		in = rest
	}
}

var errLZ4 = errkind.Errorf(errkind.Corrupt, "unpack: not a block of LZ4 of that size")

// lz4Length returns a length that begins in four bits and continues in bytes, at most most
// and a little, and what follows it.
func lz4Length(length int, in []byte, most int) (_ int, rest []byte, ok bool) {
	if length < 15 {
		return length, in, true
	}
	for i, b := range in {
		length += int(b)
		if b < 255 || length > most {
			return length, in[i+1:], true
		}
	}
	return 0, nil, false
}

// repeat copies length bytes, but not beyond the end of out, from distance before n to n, and
// returns the end of the copy. The copy may read what it has written.
func repeat(out []byte, n, distance, length int) int {
	end := min(n+length, len(out))
	for n < end {
		n += copy(out[n:end], out[n-distance:n])
	}
	return end
}
