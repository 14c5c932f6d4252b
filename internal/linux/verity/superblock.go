package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// MaxSalt is the longest salt that a superblock can hold.
const MaxSalt = 256

// maxBlocks bounds all arithmetic below: 2^40 blocks are 4 PiB.
const maxBlocks = 1 << 40

// Superblock is the content of the first block of a hash partition.
type Superblock struct {
	UUID       [16]byte // names the device; the root hash does not cover it
	DataBlocks uint64
	Salt       []byte
}

// DataSize returns the number of bytes of data that the tree covers.
func (s Superblock) DataSize() int64 { return int64(s.DataBlocks) * BlockSize }

// HashSize returns the size of the superblock and the tree in bytes.
func (s Superblock) HashSize() int64 {
	total := int64(1)
	for _, l := range levelsOf(int64(s.DataBlocks)) {
		total += l.blocks
	}
	return total * BlockSize
}

// superblock is the on-disk form (cryptsetup, lib/verity: on-disk format 1).
type superblock struct {
	Magic                [8]byte
	Version, HashType    uint32
	UUID                 [16]byte
	Algorithm            [32]byte
	DataBlock, HashBlock uint32
	DataBlocks           uint64
	SaltSize             uint16
	_                    [6]byte
	Salt                 [MaxSalt]byte
	_                    [168]byte
}

var (
	magic  = [8]byte{'v', 'e', 'r', 'i', 't', 'y'}
	sha256 = [32]byte{'s', 'h', 'a', '2', '5', '6'}
)

// ReadSuperblock reads the superblock at the start of r. It accepts only the form of
// Build, which is also the default of systemd-repart: format 1, SHA-256, blocks of 4096
// bytes. It fails with kind Unsupported for another form, and with kind Corrupt for an
// impossible value and for a reserved byte that is not zero.
func ReadSuperblock(r io.ReaderAt) (Superblock, error) {
	var block [BlockSize]byte
	if n, err := r.ReadAt(block[:], 0); n < len(block) {
		if err == nil || errors.Is(err, io.EOF) {
			return Superblock{}, errkind.Errorf(errkind.Corrupt, "the verity superblock is truncated at byte %d", n)
		}
		return Superblock{}, fmt.Errorf("read verity superblock: %w", err)
	}
	var sb superblock
	if _, err := binary.Decode(block[:], binary.LittleEndian, &sb); err != nil {
		return Superblock{}, fmt.Errorf("read verity superblock: %w", err)
	}
	if err := sb.check(); err != nil {
		return Superblock{}, err
	}
	out := Superblock{UUID: sb.UUID, DataBlocks: sb.DataBlocks, Salt: sb.Salt[:sb.SaltSize]}
	if !bytes.Equal(block[:], out.encode()) {
		return Superblock{}, errkind.Errorf(errkind.Corrupt, "the reserved bytes of the verity superblock are not zero")
	}
	return out, nil
}

func (sb *superblock) check() error {
	switch {
	case sb.Magic != magic:
		return errkind.Errorf(errkind.Corrupt, "the partition does not begin with a verity superblock")
	case sb.Version != 1 || sb.HashType > 1:
		return errkind.Errorf(errkind.Corrupt, "the verity superblock has version %d and type %d, not 1 and 1", sb.Version, sb.HashType)
	case sb.HashType != 1: // Chrome OS has these
		return otherForm("the verity superblock has version %d and type %d, not 1 and 1", sb.Version, sb.HashType)
	case sb.Algorithm != sha256:
		name := bytes.TrimRight(sb.Algorithm[:], "\x00")
		if slices.Contains(algorithms(), string(name)) {
			return otherForm("the verity tree uses %q, not sha256", name)
		}
		return errkind.Errorf(errkind.Corrupt, "the verity tree uses %q, not sha256", name)
	case !isBlockSize(sb.DataBlock) || !isBlockSize(sb.HashBlock):
		return errkind.Errorf(errkind.Corrupt, "the verity tree has data blocks of %d and hash blocks of %d bytes", sb.DataBlock, sb.HashBlock)
	case sb.DataBlock != BlockSize || sb.HashBlock != BlockSize:
		return otherForm("the verity tree has data blocks of %d and hash blocks of %d bytes, not %d", sb.DataBlock, sb.HashBlock, BlockSize)
	case sb.SaltSize > MaxSalt:
		return errkind.Errorf(errkind.Corrupt, "the verity superblock has a salt of %d bytes, more than %d", sb.SaltSize, MaxSalt)
	case sb.DataBlocks == 0 || sb.DataBlocks > maxBlocks:
		return errkind.Errorf(errkind.Corrupt, "the verity superblock is for %d data blocks", sb.DataBlocks)
	}
	return nil
}

// algorithms returns the hash algorithms of dm-verity other than SHA-256.
func algorithms() []string {
	return []string{"sha1", "sha224", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", "blake2b-256", "blake2b-512", "blake2s-256", "sm3", "streebog256", "rmd160", "whirlpool"}
}

// isBlockSize reports whether veritysetup accepts n as the size of a block.
func isBlockSize(n uint32) bool { return n >= 512 && n <= 512<<10 && n&(n-1) == 0 }

func otherForm(format string, args ...any) error {
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported, format, args...),
		"Build the hash tree with format 1, sha256 and blocks of %[1]d bytes, as veritysetup and trident sysext build do. For systemd-repart that is without --sector-size, or with VerityDataBlockSizeBytes=%[1]d and VerityHashBlockSizeBytes=%[1]d.", BlockSize)
}

// encode returns the whole first block.
func (s Superblock) encode() []byte {
	sb := superblock{
		Magic: magic, Version: 1, HashType: 1, UUID: s.UUID, Algorithm: sha256,
		DataBlock: BlockSize, HashBlock: BlockSize, DataBlocks: s.DataBlocks, SaltSize: uint16(len(s.Salt)),
	}
	copy(sb.Salt[:], s.Salt)
	block := make([]byte, BlockSize)
	_, _ = binary.Encode(block, binary.LittleEndian, &sb)
	return block
}
