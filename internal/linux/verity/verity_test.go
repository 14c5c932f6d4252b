package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/damage"
)

// file is a file in memory that grows.
type file []byte

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(*f) {
		*f = append(*f, make([]byte, need-len(*f))...)
	}
	return copy((*f)[off:], p), nil
}

func (f file) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(f).ReadAt(p, off) }

// noise is data of n blocks, the same each time.
func noise(n int) []byte {
	b := make([]byte, n*BlockSize)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

var (
	salt = bytes.Repeat([]byte{0xab}, 32)
	uuid = [16]byte{0: 1, 15: 2}
)

func built(tb testing.TB, data []byte) (tree file, root [32]byte) {
	tb.Helper()
	root, n, err := Build(tb.Context(), bytes.NewReader(data), int64(len(data)), salt, uuid, &tree)
	if err != nil {
		tb.Fatal(err)
	}
	if n != int64(len(tree)) {
		tb.Fatalf("said %d bytes, wrote %d", n, len(tree))
	}
	return tree, root
}

func verify(tb testing.TB, data, tree []byte, root [32]byte) error {
	tb.Helper()
	return Verify(tb.Context(), bytes.NewReader(data), int64(len(data)), bytes.NewReader(tree), int64(len(tree)), root, nil)
}

func TestLevelsLieRootFirst(t *testing.T) {
	tests := []struct {
		blocks int64
		want   []level
	}{
		{1, nil},
		{2, []level{{1, 1}}},
		{128, []level{{1, 1}}},
		{129, []level{{2, 2}, {1, 1}}},
		{128 * 128, []level{{2, 128}, {1, 1}}},
		{128*128 + 1, []level{{4, 129}, {2, 2}, {1, 1}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, levelsOf(tt.blocks), cmp.AllowUnexported(level{})); diff != "" {
			t.Errorf("%d blocks: %s", tt.blocks, diff)
		}
	}
}

// The root hashes were computed by veritysetup 2.6.1 from files of zeros.
func TestRootHashesAreThoseOfVeritysetup(t *testing.T) {
	want := map[int]string{
		1:   "dd2661f29736b994bb4d44940a72e328d0b56887df8761a1274e7d51cc525eed",
		2:   "98ad4950d8582b458321539ec28a3057db53614d0aa50a0d7c7040598a0418d3",
		129: "9bd947d460002c1969a35977750ac17c1f88357cc0befd45a81896db30381501",
	}
	for blocks, root := range want {
		_, got := built(t, make([]byte, blocks*BlockSize))
		if hex.EncodeToString(got[:]) != root {
			t.Errorf("%d blocks: %x, want %s", blocks, got, root)
		}
	}
}

func TestVeritysetupAgrees(t *testing.T) {
	tool, err := exec.LookPath("veritysetup")
	if err != nil {
		t.Skip("veritysetup is not installed")
	}
	for _, blocks := range []int{1, 2, 128, 129, 128*128 + 1} {
		dir := t.TempDir()
		data := noise(blocks)
		tree, root := built(t, data)
		for name, b := range map[string][]byte{"data": data, "tree": tree} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.CommandContext(t.Context(), tool, "verify", dir+"/data", dir+"/tree", hex.EncodeToString(root[:])).CombinedOutput()
		if err != nil {
			t.Errorf("%d blocks: %v: %s", blocks, err, out)
		}
	}
}

func TestATreeVerifiesAndCountsItsProgress(t *testing.T) {
	for _, blocks := range []int{1, 2, 127, 128, 129, 128*128 + 1} {
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			data := noise(blocks)
			tree, root := built(t, data)
			var last, calls int64
			progress := func(done, total int64) {
				if done <= last || total != int64(len(data)) {
					t.Errorf("%d of %d after %d", done, total, last)
				}
				last, calls = done, calls+1
			}
			err := Verify(t.Context(), bytes.NewReader(data), int64(len(data)), tree, int64(len(tree)), root, progress)
			if err != nil || last != int64(len(data)) || calls != int64(blocks+127)/128 {
				t.Errorf("%v, progress %d in %d calls", err, last, calls)
			}
		})
	}
}

func TestTheSuperblockReadsAsItWasBuilt(t *testing.T) {
	tree, _ := built(t, noise(300))
	sb, err := ReadSuperblock(tree)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Superblock{UUID: uuid, DataBlocks: 300, Salt: salt}, sb); diff != "" {
		t.Error(diff)
	}
	if sb.DataSize() != 300*BlockSize || sb.HashSize() != int64(len(tree)) {
		t.Errorf("%d bytes of data, %d of tree", sb.DataSize(), sb.HashSize())
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	data := noise(3)
	tree, root := built(t, data)
	for at := range tree {
		tree[at] ^= 0x10
		err := verify(t, data, tree, root)
		if inUUID := at >= 16 && at < 32; (err == nil) != inUUID || err != nil && errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("byte %d of the tree: %v", at, err)
		}
		tree[at] ^= 0x10
	}
	for at := 0; at < len(data); at += 101 {
		data[at] ^= 0x10
		want := fmt.Sprintf("data block %d does not match its hash", at/BlockSize)
		if err := verify(t, data, tree, root); err == nil || err.Error() != want {
			t.Fatalf("byte %d of the data: %v", at, err)
		}
		data[at] ^= 0x10
	}
}

func TestAnErrorNamesTheFirstBlockThatIsWrong(t *testing.T) {
	const blocks = 128*128 + 1 // levels of 129, 2 and 1 blocks
	data := noise(blocks)
	tree, root := built(t, data)
	tests := []struct {
		name  string
		spoil func(data, tree []byte)
		want  string
	}{
		{"two data blocks", func(d, _ []byte) { d[17*BlockSize]++; d[16000*BlockSize+5]++ }, "data block 17 does not match its hash"},
		{"the last data block", func(d, _ []byte) { d[len(d)-1]++ }, "data block 16384 does not match its hash"},
		{"the lowest level", func(_, h []byte) { h[(4+30)*BlockSize]++ }, "hash block 30 of level 0 does not match its hash"},
		{"the middle level", func(_, h []byte) { h[3*BlockSize]++ }, "hash block 1 of level 1 does not match its hash"},
		{"the top", func(_, h []byte) { h[BlockSize]++ }, "hash block 0 of level 2 does not match its hash"},
		{"behind the digests", func(_, h []byte) { h[len(h)-1]++ }, "hash block 128 of level 0 does not match its hash"},
		{"the salt", func(_, h []byte) { h[88]++ }, "hash block 0 of level 2 does not match its hash"},
		{"tree and data", func(d, h []byte) { d[0]++; h[3*BlockSize]++ }, "hash block 1 of level 1 does not match its hash"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, h := bytes.Clone(data), bytes.Clone(tree)
			tt.spoil(d, h)
			if err := verify(t, d, h, root); err == nil || err.Error() != tt.want || errkind.Of(err) != errkind.Corrupt {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	other := root
	other[31]++
	if err := verify(t, data, tree, other); err == nil || err.Error() != "hash block 0 of level 2 does not match its hash" {
		t.Errorf("another root: %v", err)
	}
}

func TestDigestsAreFollowedByZeros(t *testing.T) {
	data := noise(3)
	tree, _ := built(t, data)
	tree[2*BlockSize-1] = 1
	root := newHasher(salt).sum(tree[BlockSize:]) // a root that vouches for the byte
	err := verify(t, data, tree, [32]byte(root))
	if err == nil || err.Error() != "the hash block over data block 0 has byte 3999 after its digests set" {
		t.Errorf("got %v", err)
	}
}

func TestPartitionsMayBeLargerIfTheRestIsZero(t *testing.T) {
	data := noise(3)
	tree, root := built(t, data)
	large, wide := append(data, make([]byte, 3<<20)...), append(tree, make([]byte, 5000)...)
	if err := verify(t, large, wide, root); err != nil {
		t.Error(err)
	}
	large[2<<20] = 1
	if err := verify(t, large, wide, root); err == nil || err.Error() != "after the data that the verity tree covers: byte 2097152 is not zero" {
		t.Errorf("got %v", err)
	}
	wide[len(wide)-1] = 1
	if err := verify(t, large, wide, root); err == nil || err.Error() != "after the verity tree: byte 13191 is not zero" {
		t.Errorf("got %v", err)
	}
}

func TestTruncatedDataIsCorrupt(t *testing.T) {
	data := noise(129)
	tree, root := built(t, data)
	run := func(dataSize, hashSize int64, d, h []byte) error {
		return Verify(t.Context(), bytes.NewReader(d), dataSize, bytes.NewReader(h), hashSize, root, nil)
	}
	full, all := int64(len(data)), int64(len(tree))
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"the data, as its partition says", run(full-BlockSize, all, data, tree), "is for 528384 bytes of data, and the partition has 524288"},
		{"the tree, as its partition says", run(full, all-1, data, tree), "the verity tree has 16384 bytes, and its partition has 16383"},
		{"the data, in truth", run(full, all, data[:len(data)-1], tree), "read data block 128: unexpected EOF"},
		{"the tree, in truth", run(full, all, data, tree[:len(tree)-1]), "read hash block 0 of level 0: unexpected EOF"},
		{"the superblock", run(full, all, data, tree[:100]), "superblock is truncated at byte 100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) || errkind.Of(tt.err) != errkind.Corrupt {
				t.Errorf("got %v (%s)", tt.err, errkind.Of(tt.err))
			}
		})
	}
}

func TestHostileSuperblocksAreRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(b []byte)
		want  string
	}{
		{"no magic", func(b []byte) { b[0] = 'V' }, "does not begin with a verity superblock"},
		{"version 2", func(b []byte) { b[8] = 2 }, "version 2 and type 1"},
		{"type 2", func(b []byte) { b[12] = 2 }, "version 1 and type 2"},
		{"no hash", func(b []byte) { copy(b[32:], "sha257") }, `uses "sha257", not sha256`},
		{"odd blocks", func(b []byte) { b[65] = 3 }, "data blocks of 768 and hash blocks of 4096 bytes"},
		{"hash blocks of nothing", func(b []byte) { b[69] = 0 }, "data blocks of 4096 and hash blocks of 0 bytes"},
		{"no data", func(b []byte) { b[72], b[73] = 0, 0 }, "is for 0 data blocks"},
		{"2^64-1 blocks", func(b []byte) { copy(b[72:], bytes.Repeat([]byte{0xff}, 8)) }, "is for 18446744073709551615 data blocks"},
		{"a long salt", func(b []byte) { b[81] = 2 }, "a salt of 544 bytes"},
		{"a salt behind its end", func(b []byte) { b[88+40] = 1 }, "reserved bytes"},
		{"something behind it", func(b []byte) { b[4000] = 1 }, "reserved bytes"},
	}
	tree, _ := built(t, noise(300))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(tree)
			tt.spoil(b)
			_, err := ReadSuperblock(bytes.NewReader(b))
			if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Corrupt {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestATreeOfAnotherFormIsNotCalledDamaged(t *testing.T) {
	tree, _ := built(t, noise(300))
	for want, spoil := range map[string]func(b []byte){
		"version 1 and type 0":                             func(b []byte) { b[12] = 0 },
		`uses "sha512", not sha256`:                        func(b []byte) { copy(b[32:], "sha512") },
		"data blocks of 512 and hash blocks of 4096 bytes": func(b []byte) { b[65] = 2 },
		"data blocks of 4096 and hash blocks of 512 bytes": func(b []byte) { b[69] = 2 },
	} {
		b := bytes.Clone(tree)
		spoil(b)
		_, err := ReadSuperblock(bytes.NewReader(b))
		if err == nil || !strings.Contains(err.Error(), want) || errkind.Of(err) != errkind.Unsupported || errkind.Hint(err) == "" {
			t.Errorf("got %v (%s, hint %q), want %q", err, errkind.Of(err), errkind.Hint(err), want)
		}
	}
}

func TestBuildWantsWholeBlocksAndAShortSalt(t *testing.T) {
	for _, size := range []int64{0, -4096, 4095, 4097, (maxBlocks + 1) * BlockSize} {
		if _, _, err := Build(t.Context(), bytes.NewReader(nil), size, nil, uuid, new(file)); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, _, err := Build(t.Context(), bytes.NewReader(noise(1)), BlockSize, make([]byte, 257), uuid, new(file)); errkind.Of(err) != errkind.Invalid {
		t.Errorf("long salt: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error)  { return 0, f.err }
func (f failing) WriteAt([]byte, int64) (int, error) { return 0, f.err }

func TestErrorsOfTheDiskAreNotCalledCorrupt(t *testing.T) {
	broken := failing{errors.New("input/output error")}
	data := noise(2)
	tree, root := built(t, data)
	_, _, buildErr := Build(t.Context(), broken, BlockSize, nil, uuid, new(file))
	_, _, writeErr := Build(t.Context(), bytes.NewReader(data), BlockSize, nil, uuid, broken)
	for what, err := range map[string]error{
		"build": buildErr,
		"write": writeErr,
		"data":  Verify(t.Context(), broken, int64(len(data)), tree, int64(len(tree)), root, nil),
		"tree":  Verify(t.Context(), bytes.NewReader(data), int64(len(data)), broken, int64(len(tree)), root, nil),
		"rest":  Verify(t.Context(), io.NewSectionReader(brokenAfter(data), 0, 1<<20), 1<<20, tree, int64(len(tree)), root, nil),
	} {
		if !errors.Is(err, broken.err) && !strings.Contains(fmt.Sprint(err), broken.err.Error()) || errkind.Of(err) != errkind.Internal {
			t.Errorf("%s: %v (%s)", what, err, errkind.Of(err))
		}
	}
}

type brokenAfter []byte

func (b brokenAfter) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(b)) {
		return 0, errors.New("input/output error")
	}
	return copy(p, b[off:]), nil
}

func TestBuildAndVerifyEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("asked to stop")
	cancel(stop)
	data := noise(2)
	tree, root := built(t, data)
	if err := Verify(ctx, bytes.NewReader(data), int64(len(data)), tree, int64(len(tree)), root, nil); !errors.Is(err, stop) {
		t.Errorf("verify: %v", err)
	}
	if _, _, err := Build(ctx, bytes.NewReader(data), int64(len(data)), nil, uuid, new(file)); !errors.Is(err, stop) {
		t.Errorf("build: %v", err)
	}
}

func TestHashingDoesNotAllocate(t *testing.T) {
	h, block := newHasher(salt), make([]byte, BlockSize)
	if n := testing.AllocsPerRun(100, func() { h.sum(block) }); n != 0 {
		t.Errorf("%v allocations for a block", n)
	}
}

func FuzzReadSuperblock(f *testing.F) {
	bases := [][]byte{[]byte("verity\x00\x00")}
	for _, blocks := range []int{1, 300} {
		tree, _ := built(f, noise(blocks))
		bases = append(bases, tree[:BlockSize])
	}
	for base := range bases {
		f.Add(uint8(base), []byte{})
		f.Add(uint8(base), damage.At(8, 2))
	}
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		b := damage.Apply(bases[int(base)%len(bases)], edits)
		sb, err := ReadSuperblock(bytes.NewReader(b))
		if err != nil {
			if kind := errkind.Of(err); kind != errkind.Corrupt && kind != errkind.Unsupported {
				t.Errorf("kind %s: %v", kind, err)
			}
			return
		}
		if !bytes.Equal(sb.encode(), b[:BlockSize]) {
			t.Error("a superblock that is read has bytes that say nothing")
		}
		if sb.DataSize() <= 0 || sb.HashSize() < BlockSize || sb.HashSize() > sb.DataSize()+2*BlockSize {
			t.Errorf("%d bytes of data, %d of tree", sb.DataSize(), sb.HashSize())
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	data := noise(64 << 20 / BlockSize)
	tree, root := built(b, data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := verify(b, data, tree, root); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	data := noise(64 << 20 / BlockSize)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		built(b, data)
	}
}
