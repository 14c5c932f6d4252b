package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Numbers of the RPM format, version 4 (rpm.org, "RPM V4 Package format").
const (
	leadSize       = 96
	headerMagic    = "\x8e\xad\xe8\x01\x00\x00\x00\x00"
	tagSHA256      = 273  // in the signature header: SHA-256 of the header, in hex
	tagPreTrans    = 1151 // the scriptlet
	tagPostTrans   = 1152 // the value that nfpm puts before the next
	tagPreTransBin = 1153 // its interpreter
)

// signer names the key, in gpg's words, that rpmsign signs packages with.
const signer = "TRIDENT_RPM_SIGNER"

// finish does to a package what nfpm cannot: it has rpm run a scriptlet that is Lua
// by its own Lua, signs the package if $TRIDENT_RPM_SIGNER names a key, and writes
// the checksum beside it. Doing it twice is doing it once.
func finish(ctx context.Context, name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("finish package: %w", err)
	}
	changed, err := luaScriptlet(data)
	if err != nil {
		return fmt.Errorf("finish package %s: %w", name, err)
	}
	if changed {
		if err := atomicfile.Write(name, data, 0o644); err != nil {
			return fmt.Errorf("finish package %s: %w", name, err)
		}
	}
	if key := os.Getenv(signer); key != "" {
		if err := sign(ctx, key, name); err != nil {
			return fmt.Errorf("sign package %s: %w", name, err)
		}
		if data, err = os.ReadFile(name); err != nil {
			return fmt.Errorf("sign package: %w", err)
		}
	}
	line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), filepath.Base(name))
	if err := atomicfile.Write(name+".sha256", []byte(line), 0o644); err != nil {
		return fmt.Errorf("write checksum of %s: %w", name, err)
	}
	return nil
}

// sign has rpmsign put a signature into the package. rpm does not always look for gpg
// on the path, so it is told where.
func sign(ctx context.Context, key, name string) error {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		return err
	}
	return command(ctx, nil, "rpmsign", "--define", "__gpg "+gpg, "--define", "_gpg_name "+key, "--addsign", name)
}

// luaScriptlet changes the interpreter of a pretrans scriptlet that begins with a Lua
// comment from /bin/sh to rpm's <lua>, in place, and corrects the digest of the
// header. A shell would be missing on a first install into an empty tree, and rpm
// would leave the package out. It reports whether anything changed.
func luaScriptlet(pkg []byte) (bool, error) {
	if len(pkg) < leadSize {
		return false, errors.New("this is not an RPM: too short")
	}
	sig, err := readHeader(pkg[leadSize:])
	if err != nil {
		return false, fmt.Errorf("read signature header: %w", err)
	}
	start := leadSize + (sig.size+7)/8*8
	if start > len(pkg) {
		return false, errors.New("the package is truncated")
	}
	hdr, err := readHeader(pkg[start:])
	if err != nil {
		return false, fmt.Errorf("read header: %w", err)
	}
	interpreter, before := hdr.find(tagPreTransBin), hdr.find(tagPostTrans)
	if !bytes.HasPrefix(hdr.find(tagPreTrans).text, []byte("--")) || string(interpreter.text) == "<lua>" {
		return false, nil
	}
	begin := before.offset + len(before.text)
	if string(interpreter.text) != "/bin/sh" || interpreter.offset != begin+1 {
		return false, fmt.Errorf("the interpreter of pretrans is %q, or does not follow posttrans", interpreter.text)
	}
	// rpm wants no gap between values, so posttrans takes up what the interpreter gives.
	copy(hdr.store[begin:], "\n\n\x00<lua>\x00")
	binary.BigEndian.PutUint32(interpreter.entry[8:], uint32(begin+3))
	digest := sig.find(tagSHA256).text
	if len(digest) != hex.EncodedLen(sha256.Size) {
		return false, errors.New("the signature header has no SHA-256 of the header")
	}
	hex.Encode(digest, sum(pkg[start:start+hdr.size]))
	return true, nil
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// A header is an RPM header structure over the bytes of a package.
type header struct {
	index, store []byte
	size         int // of the whole structure
}

func readHeader(b []byte) (header, error) {
	const intro, entry = 16, 16
	if len(b) < intro || string(b[:8]) != headerMagic {
		return header{}, errors.New("no header magic")
	}
	entries, length := int(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:]))
	size := intro + entries*entry + length
	if entries > len(b)/entry || length > len(b) || size > len(b) {
		return header{}, errors.New("the header is longer than the package")
	}
	split := intro + entries*entry
	return header{index: b[intro:split], store: b[split:size], size: size}, nil
}

// A value is a string of a header, in place: its index entry, and its text without
// the final zero at an offset of the store. The zero value is one that is not there.
type value struct {
	entry, text []byte
	offset      int
}

func (h header) find(tag uint32) value {
	const typeString = 6
	for e := h.index; len(e) >= 16; e = e[16:] {
		if binary.BigEndian.Uint32(e) != tag || binary.BigEndian.Uint32(e[4:]) != typeString {
			continue
		}
		offset := int(binary.BigEndian.Uint32(e[8:]))
		if offset > len(h.store) {
			return value{}
		}
		text, _, ok := bytes.Cut(h.store[offset:], []byte{0})
		if !ok {
			return value{}
		}
		return value{entry: e[:16], text: text, offset: offset}
	}
	return value{}
}
