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
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// signer names the key, in gpg's words, that signs packages and the checksums of a release.
const signer = "TRIDENT_RPM_SIGNER"

// checkSigner fails when $TRIDENT_RPM_SIGNER names a key that gpg does not have, before
// anything is built. Without the variable it says on standard error that what, like
// "the packages", will not be signed.
func checkSigner(ctx context.Context, what string) error {
	key := os.Getenv(signer)
	if key == "" {
		fmt.Fprintf(os.Stderr, "build: WARNING: %s will NOT be signed: %s does not name a key of gpg\n", what, signer)
		return nil
	}
	out, err := exec.CommandContext(ctx, "gpg", "--batch", "--list-secret-keys", key).CombinedOutput()
	if err != nil {
		return fmt.Errorf("find the key that signs: gpg has no secret key %q (from %s): %w\n%s\nhint: gpg --list-secret-keys shows the keys", key, signer, err, bytes.TrimSpace(out))
	}
	fmt.Fprintf(os.Stderr, "build: %s will be signed by %s\n", what, key)
	return nil
}

// finish completes a package and writes its checksum beside it.
func finish(ctx context.Context, name string) error {
	if err := complete(ctx, name); err != nil {
		return err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("write checksum: %w", err)
	}
	line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), filepath.Base(name))
	if err := atomicfile.Write(name+".sha256", []byte(line), 0o644); err != nil {
		return fmt.Errorf("write checksum of %s: %w", name, err)
	}
	return nil
}

// complete does to an RPM what nfpm cannot ([completeHeader]), and signs it if
// $TRIDENT_RPM_SIGNER names a key. A second call changes nothing but the signature.
// A .deb stays as it is: apt checks the signature of a repository, not of packages.
func complete(ctx context.Context, name string) error {
	if strings.HasSuffix(name, ".deb") {
		return nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("finish package: %w", err)
	}
	completed, err := completeHeader(data)
	if err != nil {
		return fmt.Errorf("finish package %s: %w", name, err)
	}
	if !bytes.Equal(completed, data) {
		if err := atomicfile.Write(name, completed, 0o644); err != nil {
			return fmt.Errorf("finish package %s: %w", name, err)
		}
	}
	if key := os.Getenv(signer); key != "" {
		if err := sign(ctx, key, name); err != nil {
			return fmt.Errorf("sign package %s: %w", name, err)
		}
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

// completeHeader returns the package with what nfpm cannot write into its header
// ([markLua], [tieToVersion], [markDocs]), and the same bytes when nothing is to change.
func completeHeader(pkg []byte) ([]byte, error) {
	sig, hdr, payload, err := splitPackage(pkg)
	if err != nil {
		return nil, err
	}
	before := hdr.marshal()
	for _, edit := range []func(*header) error{markLua, tieToVersion, markDocs} {
		if err := edit(hdr); err != nil {
			return nil, err
		}
	}
	raw := hdr.marshal()
	if bytes.Equal(raw, before) {
		return pkg, nil
	}
	for _, e := range sig.entries {
		if e.tag != tagSHA256 && e.tag != tagSize && e.tag != tagPayloadSize {
			return nil, fmt.Errorf("tag %d of the signature header may be a signature of the header, which is to change", e.tag)
		}
	}
	// What the signature header says of the header follows.
	size := sig.find(tagSize)
	if len(size.data) != 4 || sig.find(tagSHA256).data == nil {
		return nil, errors.New("the signature header has no size or no SHA-256 of the header")
	}
	binary.BigEndian.PutUint32(size.data, uint32(len(raw)+len(payload)))
	sig.set(tagSHA256, fmt.Sprintf("%x", sha256.Sum256(raw)))
	return joinPackage(pkg[:leadSize], sig, raw, payload), nil
}

// markLua names <lua>, rpm's own, as the interpreter of a pretrans scriptlet that begins
// with a Lua comment. nfpm knows /bin/sh alone, which is missing on a first install into
// an empty tree, and rpm would leave the package out.
func markLua(hdr *header) error {
	if !strings.HasPrefix(hdr.text(tagPreTrans), "--") || hdr.text(tagPreTransProg) == "<lua>" {
		return nil
	}
	if interpreter := hdr.text(tagPreTransProg); interpreter != "/bin/sh" {
		return fmt.Errorf("the interpreter of pretrans is %q", interpreter)
	}
	hdr.set(tagPreTransProg, "<lua>")
	hdr.set(tagRPMVersion, rpmVersion)
	return nil
}

// mainPackage is the package with the programs. Units of one version call the programs of
// the same version only, so every package that requires mainPackage requires its own version.
const mainPackage = "trident"

// tieToVersion makes a requirement of mainPackage, written without a version, one of the
// package's own version and release. goreleaser does not expand templates in requirements.
func tieToVersion(hdr *header) error {
	i := slices.Index(hdr.find(tagRequireName).texts(), mainPackage)
	if i < 0 {
		return nil
	}
	versions, flags := hdr.find(tagRequireVers), hdr.find(tagRequireFlags)
	list := versions.texts()
	if i >= len(list) || len(flags.data) < 4*(i+1) {
		return fmt.Errorf("the requirement of %s has no version or no flags", mainPackage)
	}
	if list[i] != "" {
		return nil
	}
	list[i] = hdr.text(tagVersion) + "-" + hdr.text(tagRelease)
	versions.data = []byte(strings.Join(list, "\x00") + "\x00")
	binary.BigEndian.PutUint32(flags.data[4*i:], flags.number(i)|flagEqual)
	hdr.put(versions)
	hdr.put(flags)
	return nil
}

// docFolders hold documentation, which dnf and rpm leave out where a host wants none.
var docFolders = []string{"/usr/share/doc/", "/usr/share/man/"}

// markDocs marks files of docFolders as documentation. nfpm marks only files that are
// listed one by one, and rpmbuild marks them by their folder as well.
func markDocs(hdr *header) error {
	folders, indexes, flags := hdr.find(tagDirNames).texts(), hdr.find(tagDirIndexes), hdr.find(tagFileFlags)
	if len(indexes.data) != len(flags.data) || indexes.kind != flags.kind || len(flags.data)%4 != 0 {
		return errors.New("the files of the package and their flags differ in number")
	}
	for i := range len(flags.data) / 4 {
		folder := indexes.number(i)
		if folder >= uint32(len(folders)) {
			return fmt.Errorf("file %d of the package has no folder", i)
		}
		for _, docs := range docFolders {
			if strings.HasPrefix(folders[folder], docs) {
				binary.BigEndian.PutUint32(flags.data[4*i:], flags.number(i)|flagDoc)
			}
		}
	}
	return nil
}
