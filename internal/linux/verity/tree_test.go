package verity

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func openTree(tb testing.TB, tree []byte, root [32]byte) (*Tree, error) {
	tb.Helper()
	return OpenTree(tb.Context(), bytes.NewReader(tree), int64(len(tree)), root)
}

func TestATreeHasTheHashOfEachBlock(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 128, 129, 128*128 + 1} {
		data := noise(n)
		stored, root := built(t, data)
		tree, err := openTree(t, append(bytes.Clone(stored), make([]byte, BlockSize)...), root)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Blocks() != int64(n) || !bytes.Equal(tree.Salt(), salt) {
			t.Errorf("%d blocks, salt %x", tree.Blocks(), tree.Salt())
		}
		hash := tree.Hash()
		for i := range int64(n) {
			if hash(data[i*BlockSize:(i+1)*BlockSize]) != tree.Block(i) {
				t.Fatalf("of %d blocks, block %d has another hash", n, i)
			}
		}
	}
}

func TestADamagedTreeIsNotOpened(t *testing.T) {
	t.Parallel()
	stored, root := built(t, noise(300))
	for at := range stored {
		if at >= 8 && at < 40 || at%61 != 0 { // the UUID is free
			continue
		}
		damaged := bytes.Clone(stored)
		damaged[at] ^= 1
		if _, err := openTree(t, damaged, root); err == nil {
			t.Fatalf("byte %d is damaged, and the tree was opened", at)
		}
	}
	for name, tree := range map[string][]byte{
		"truncated":       stored[:len(stored)-1],
		"empty":           nil,
		"more at the end": append(bytes.Clone(stored), 1),
	} {
		if _, err := openTree(t, tree, root); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	root[0] ^= 1
	if _, err := openTree(t, stored, root); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("another root: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenTree(ctx, bytes.NewReader(stored), int64(len(stored)), root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
