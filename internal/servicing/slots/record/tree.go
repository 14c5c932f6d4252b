package record

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

// HashTree is the type of a part with a verity hash tree.
const HashTree = blockdev.HashTree

// What names the content of the part for people.
func (p Part) What() string {
	if p.Type == HashTree {
		return strings.TrimPrefix(p.Name, "the ")
	}
	return "file system for " + p.Name
}

// A Tree is the verity hash tree of a part. Only a whole tree that matches the root hash,
// from the root hash down to the last block of data, makes it proven.
type Tree struct {
	Device   string `json:"device"` // the id of the hash device
	File     string `json:"file"`   // of the hash partition, in the image
	RootHash string `json:"root_hash"`
	// Proof is the root hash that the tree on the disk matched, and In the ID of the boot
	// in which it was compared: after another boot it is compared again.
	Proof string `json:"proof,omitempty"`
	In    string `json:"in,omitempty"`
}

// IsProven reports whether the tree was compared in the boot with that ID.
func (t *Tree) IsProven(boot string) bool { return t.Proof == t.RootHash && t.In == boot }

// Proven records that the tree of the part matched root, in the boot with that ID. It fails
// if root is not the root hash of the part.
func (p *Part) Proven(root, boot string) error {
	if p.Tree == nil || p.Tree.RootHash != root {
		return errkind.Errorf(errkind.Internal, "%s was compared with the verity hash tree of another root hash", p.Name)
	}
	p.Tree.Proof, p.Tree.In = root, boot
	return nil
}

// RootHashDigits is the number of hexadecimal digits of a root hash, a SHA-256.
const RootHashDigits = 64

// Root returns the root hash of the part.
func (p *Part) Root() (root [32]byte, err error) {
	if p.Tree == nil {
		return root, errkind.Errorf(errkind.Internal, "%s has no verity hash tree", p.Name)
	}
	text := p.Tree.RootHash
	if len(text) != RootHashDigits {
		return root, errkind.Errorf(errkind.Internal, "the recorded root hash %q is not valid", text)
	}
	if _, err := hex.Decode(root[:], []byte(text)); err != nil {
		return root, errkind.Errorf(errkind.Internal, "the recorded root hash %q is not valid", text)
	}
	return root, nil
}

// WrittenByBlocks marks the part as done, without the digest of its file: the comparison with
// its hash tree proves it. It fails for a part without one.
func (p *Part) WrittenByBlocks() error {
	if p.Tree == nil {
		return errkind.Errorf(errkind.Internal, "%s is done without a proof: it has no verity hash tree", p.Name)
	}
	p.Done, p.ByTree = true, true
	return nil
}

// hasContent reports whether all content of the part is that of its image, by a digest of the
// file, or by its hash tree if it was written by blocks. A part with a digest may have been
// recorded by an older release, which recorded none.
func (p *Part) hasContent() bool {
	return p.ByTree && p.Tree != nil || p.SHA384 == "" || p.Proof == p.SHA384
}

// HashOf returns the part with the hash tree of p, or nil.
func (r *Record) HashOf(p *Part) *Part {
	if p.Tree == nil {
		return nil
	}
	if i := slices.IndexFunc(r.Parts, func(q Part) bool { return q.File == p.Tree.File && q.Device == p.Tree.Device }); i >= 0 {
		return &r.Parts[i]
	}
	return nil
}
