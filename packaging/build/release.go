package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// release publishes in dir all that a release consists of: packages for rpm and dpkg, the
// signed extension images, the bill of materials, and the checksums with their signature.
func (p project) release(ctx context.Context, dir string) error {
	if err := checkSigner(ctx, "packages and checksums"); err != nil {
		return err
	}
	if err := checkTags(ctx, ".", p.version); err != nil {
		return err
	}
	return publish(dir, func(dir string) error {
		if err := p.compileAll(ctx); err != nil {
			return err
		}
		for format := range packagers {
			names, err := p.packAll(format, dir)
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := complete(ctx, name); err != nil {
					return err
				}
			}
		}
		if err := p.buildExtensions(ctx, dir); err != nil {
			return err
		}
		if err := p.writeSBOM(dir); err != nil {
			return fmt.Errorf("write the bill of materials: %w", err)
		}
		return writeSums(ctx, dir)
	})
}

// extensions publishes in dir the signed extension images.
func (p project) extensions(ctx context.Context, dir string) error {
	return publish(dir, func(dir string) error { return p.buildExtensions(ctx, dir) })
}

// buildExtensions has packaging/sysext build the extension images in dir.
func (p project) buildExtensions(ctx context.Context, dir string) error {
	for _, arch := range p.only {
		cmd := exec.CommandContext(ctx, "packaging/sysext", p.version, arch, dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build the extension image for %s: packaging/sysext: %w", arch, err)
		}
	}
	return nil
}

// sumsFile is the name that sha256sum --check is given.
const sumsFile = "SHA256SUMS"

// writeSums writes the checksums of all files in dir, and their signature by the key that
// $TRIDENT_RPM_SIGNER names.
func writeSums(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries {
		sum, err := digest(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("write checksums: %w", err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, e.Name())
	}
	name := filepath.Join(dir, sumsFile)
	if err := os.WriteFile(name, sums.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write checksums: %w", err)
	}
	if key := os.Getenv(signer); key != "" {
		if err := command(ctx, nil, "gpg", "--batch", "--local-user", key, "--armor", "--detach-sign", "--output", name+".asc", name); err != nil {
			return fmt.Errorf("sign checksums: %w", err)
		}
	}
	return nil
}

// digest returns the SHA-256 of a file in hexadecimal.
func digest(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}
