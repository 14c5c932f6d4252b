package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/atomicfile"
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
	finished, err := luaScriptlet(data)
	if err != nil {
		return fmt.Errorf("finish package %s: %w", name, err)
	}
	if !bytes.Equal(finished, data) {
		data = finished
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

// rpmVersion is the version of rpm that a package says it was made with: that which
// brought the digests that nfpm writes. rpm decides by it which Lua functions to call
// deprecated, and from 4.20.1 on aborts after a Lua scriptlet when it is missing
// (rpm's issue 4189).
const rpmVersion = "4.14.0"

// luaScriptlet returns the package with <lua>, rpm's own, as the interpreter of a
// pretrans scriptlet that begins with a Lua comment, and the package as it is when
// there is nothing to do. nfpm knows /bin/sh alone, which is missing on a first install
// into an empty tree, and rpm would leave the package out.
func luaScriptlet(pkg []byte) ([]byte, error) {
	sig, hdr, payload, err := splitPackage(pkg)
	if err != nil {
		return nil, err
	}
	interpreter := hdr.find(tagPreTransProg)
	if !bytes.HasPrefix(hdr.find(tagPreTrans).data, []byte("--")) || string(interpreter.data) == "<lua>\x00" {
		return pkg, nil
	}
	if string(interpreter.data) != "/bin/sh\x00" {
		return nil, fmt.Errorf("the interpreter of pretrans is %q", interpreter.data)
	}
	for _, e := range sig.entries {
		if e.tag != tagSHA256 && e.tag != tagSize && e.tag != tagPayloadSize {
			return nil, fmt.Errorf("tag %d of the signature header may be a signature of the header, which is to change", e.tag)
		}
	}
	hdr.set(tagPreTransProg, "<lua>")
	hdr.set(tagRPMVersion, rpmVersion)
	raw := hdr.marshal()

	// What the signature header says of the header follows.
	size := sig.find(tagSize)
	if len(size.data) != 4 || sig.find(tagSHA256).data == nil {
		return nil, errors.New("the signature header has no size or no SHA-256 of the header")
	}
	binary.BigEndian.PutUint32(size.data, uint32(len(raw)+len(payload)))
	sig.set(tagSHA256, fmt.Sprintf("%x", sha256.Sum256(raw)))
	return joinPackage(pkg[:leadSize], sig, raw, payload), nil
}
