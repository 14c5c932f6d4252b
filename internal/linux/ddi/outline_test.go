package ddi

import (
	"bytes"
	"errors"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/verity"
)

// withoutData is an image whose data is on another host.
type withoutData struct {
	*bytes.Reader
	from, to int64 // of the data
}

var errData = errors.New("the data was read")

func (r withoutData) ReadAt(p []byte, off int64) (int, error) {
	if off < r.to && off+int64(len(p)) > r.from {
		return 0, errData
	}
	return r.Reader.ReadAt(p, off)
}

func TestTheOutlineOfAnImageNeedsNoData(t *testing.T) {
	t.Parallel()
	path, root := built(t, sample(t))
	whole := readFile(t, path)
	parts := openBytes(t, whole).Table().Partitions
	size := int64(len(whole))
	far := withoutData{bytes.NewReader(whole), parts[0].Offset(), parts[0].Offset() + parts[0].Size()}
	m, err := OpenOutline(far, size)
	if err != nil {
		t.Fatal(err)
	}
	data, dataSize := m.Data()
	hash, hashSize := m.Hash()
	if data != parts[0].Offset() || dataSize != parts[0].Size() || hash != parts[1].Offset() || hashSize != parts[1].Size() {
		t.Errorf("data at %d+%d, hash tree at %d+%d", data, dataSize, hash, hashSize)
	}
	tree, err := m.Tree(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	hashOf := tree.Hash()
	for n := range tree.Blocks() {
		if block := whole[data+n*verity.BlockSize:][:verity.BlockSize]; hashOf(block) != tree.Block(n) {
			t.Errorf("block %d does not match its hash", n)
		}
	}
	if err := m.VerifyTree(t.Context(), nil); !errors.Is(err, errData) {
		t.Errorf("verified without the data: %v", err)
	}
	root[0]++
	if _, err := m.Tree(t.Context(), root); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("by another root hash: %v", err)
	}
	if _, err := OpenOutline(bytes.NewReader(whole[:4096]), 4096); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("of 4096 bytes: %v", err)
	}
}
