package publish

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// writeSums replaces SHA256SUMS and its signature in each folder of images.
func (p *Publisher) writeSums(ctx context.Context, out *Published) error {
	key, err := p.pgpKey()
	if err != nil {
		return err
	}
	for _, name := range p.record.channels() {
		c := p.record.Channels[name]
		for _, arch := range p.folders(name, c) {
			if err := ctx.Err(); err != nil {
				return err
			}
			asOne, err := p.writeSumsOf(name, arch, c, key)
			if err != nil {
				return err
			}
			if !asOne {
				out.Notes = append(out.Notes, fmt.Sprintf("the file system of %s cannot exchange folders: %s and its signature were replaced one after the other",
					feed.Folder(name, arch), feed.SumsFile))
			}
		}
	}
	return nil
}

// folders returns the architectures of the channel that have images or have a folder.
func (p *Publisher) folders(name string, c *channel) []string {
	all := c.architectures()
	for _, arch := range []string{"arm64", "x86-64"} {
		if info, err := os.Lstat(filepath.Join(p.dir, feed.Folder(name, arch))); err == nil && info.IsDir() {
			all = append(all, arch)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (p *Publisher) writeSumsOf(name, arch string, c *channel, key *openpgp.Entity) (asOne bool, err error) {
	sums := feed.Sums{}
	for at, image := range c.images(arch) {
		sums[path.Base(at)] = image.SHA256
	}
	text, err := sums.Bytes()
	if err != nil {
		return false, err
	}
	dir := filepath.Join(p.dir, feed.Folder(name, arch))
	if p.hasPair(dir, text, key) {
		return true, p.sweep(dir)
	}
	var signature bytes.Buffer
	if err := openpgp.DetachSign(&signature, key, bytes.NewReader(text), pgpConfig(p.now)); err != nil {
		return false, fmt.Errorf("sign %s: %w", feed.SumsFile, err)
	}
	return p.replacePair(dir, map[string][]byte{feed.SumsFile: text, feed.SignatureFile: signature.Bytes()}, feed.SignatureFile)
}

// hasPair reports whether a folder has this SHA256SUMS with a signature by the key.
func (p *Publisher) hasPair(dir string, text []byte, key *openpgp.Entity) bool {
	there, err := regfile.ReadFile(filepath.Join(dir, feed.SumsFile), feed.MaxSums)
	if err != nil || !bytes.Equal(there, text) {
		return false
	}
	signature, err := regfile.ReadFile(filepath.Join(dir, feed.SignatureFile), maxSignature)
	return err == nil && checkSignature(openpgp.EntityList{key}, text, signature, p.now) == nil
}
