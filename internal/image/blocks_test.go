package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/verity"
)

// treeFile is a file in memory.
type treeFile struct{ bytes.Buffer }

func (b *treeFile) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p) - b.Len(); need > 0 {
		b.Write(make([]byte, need))
	}
	return copy(b.Bytes()[off:], p), nil
}

// verifiedImage is an image of a verified partition.
type verifiedImage struct {
	content []byte
	tree    *verity.Tree
	root    [32]byte
	data    []byte // the COSI file
	sha384  string
}

// verifiedOf makes an image of a verified root; frame is the size of its frames, 0: no index.
func verifiedOf(t testing.TB, content []byte, frame int64) verifiedImage {
	t.Helper()
	v := verifiedImage{content: content}
	var hash treeFile
	var err error
	if v.root, _, err = verity.Build(t.Context(), bytes.NewReader(content), int64(len(content)), []byte("salt"), [16]byte{1}, &hash); err != nil {
		t.Fatal(err)
	}
	if v.tree, err = verity.OpenTree(t.Context(), bytes.NewReader(hash.Bytes()), int64(hash.Len()), v.root); err != nil {
		t.Fatal(err)
	}
	var parts []Part
	for i, name := range []string{"root", "root-verity"} {
		data := [][]byte{content, hash.Bytes()}[i]
		parts = append(parts, Part{Name: name, Type: partType(t, name), Content: bytes.NewReader(data), Size: int64(len(data))})
	}
	disk, size, err := Assemble(parts)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	v.sha384, err = Write(t.Context(), &out, Spec{
		Arch: AMD64, OSRelease: "ID=debian\n", Disk: disk, DiskSize: size, Temp: t.TempDir(), Bootloader: Bootloader{Type: GRUB}, FrameSize: frame,
		Mounts: []Mount{{Number: 1, MountPoint: "/", Type: "ext4", UUID: "11111111-2222-3333-4444-555555555555", HashTree: 2, RootHash: fmt.Sprintf("%x", v.root)}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.data = out.Bytes()
	return v
}

// random is n bytes that no compressor makes smaller.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	_, _ = r.Read(b)
	return b
}

// scattered is content in which one of twenty blocks, at random places, is another.
func scattered(content []byte) []byte {
	out, r := bytes.Clone(content), rand.New(rand.NewPCG(3, 4))
	n := len(out) / verity.BlockSize
	for _, i := range r.Perm(n)[:n/20] {
		copy(out[i*verity.BlockSize:], random(byte(i), 64))
		out[i*verity.BlockSize+64] ^= byte(i>>8) + 1
	}
	return out
}

// filled is a device with content, on the medium.
func filled(t testing.TB, content []byte, more int64) *blockdevtest.Memory {
	t.Helper()
	m := blockdevtest.New(int64(len(content))+more, 4096)
	if _, err := m.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (v verifiedImage) served(t *testing.T) (*shelf, Partition) {
	t.Helper()
	s := newShelf(t, v.data)
	i, err := s.open(t, v.sha384, noPin, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, i.Partitions()[1]
}

func (v verifiedImage) update(t *testing.T, p Partition, to Target, old []byte) (BlockCounts, error) {
	t.Helper()
	b, err := p.OpenBlocks(t.Context(), v.tree)
	if err != nil {
		return BlockCounts{}, err
	}
	done := int64(-1)
	return b.Update(t.Context(), to, BlockUpdate{Old: bytes.NewReader(old), OldSize: int64(len(old)), Progress: func(n int64) {
		if n <= done {
			t.Errorf("progress from %d to %d", done, n)
		}
		done = n
	}})
}

// An update in which one of twenty blocks is new fetches at most 6.5 % of the image, with the
// hash tree, the index and what the server sends around the ranges.
func TestAnUpdateFetchesOnlyTheBlocksThatTheHostLacks(t *testing.T) {
	t.Parallel()
	old := random(1, 16<<20)
	v := verifiedOf(t, scattered(old), 4096)
	s, p := v.served(t)
	target := dirty(t, int64(len(old))+4096)
	tree := p.image.Partitions()[2]
	if _, err := tree.Deploy(t.Context(), dirty(t, tree.File.Size), Deployment{}); err != nil {
		t.Fatal(err)
	}
	counts, err := v.update(t, p, target, old)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, target.Crash(rand.New(rand.NewPCG(1, 1))), v.content)
	n := int64(len(old) / verity.BlockSize)
	if counts.All != n || counts.Fetched != n/20 || counts.Reused != n-n/20 || counts.Kept != 0 {
		t.Errorf("%+v", counts)
	}
	if sent, most := s.sent.Load(), int64(len(v.data))*65/1000; sent > most {
		t.Errorf("%d bytes of %d were sent, and at most %d are allowed", sent, len(v.data), most)
	}
}

// Whatever the frames are like, the content comes out right, and no block is fetched that the
// host has in any place.
func TestAnUpdateTakesBlocksFromEverywhere(t *testing.T) {
	t.Parallel()
	const block = verity.BlockSize
	old := random(1, 3<<20)
	wanted := bytes.Clone(old)
	copy(wanted[block:], old[len(old)-5*block:])              // moved
	copy(wanted[1<<20:], make([]byte, 2*block))               // zeros
	copy(wanted[2<<20:], random(7, 3*block))                  // new
	copy(wanted[len(wanted)-block:], wanted[:block])          // twice
	onTarget := bytes.Repeat([]byte("something else"), 1<<20) // but for:
	copy(onTarget[2<<20:], random(7, block))
	for _, frame := range []int64{4096, 64 << 10, MaxFrameSize} {
		v := verifiedOf(t, wanted, frame)
		_, p := v.served(t)
		target := filled(t, onTarget[:len(wanted)], 0)
		counts, err := v.update(t, p, target, old)
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, target.Crash(rand.New(rand.NewPCG(1, 1))), wanted)
		if counts.Kept != 3 || counts.Fetched != 2 || counts.Reused != counts.All-5 {
			t.Errorf("frames of %d bytes: %+v", frame, counts)
		}
		if again, err := v.update(t, p, target, nil); err != nil || again.Kept != again.All || again.Bytes != 0 {
			t.Errorf("again: %+v, %v", again, err)
		}
		// Other readers read the file from end to end.
		if _, err := p.Check(t.Context()); err != nil {
			t.Errorf("frames of %d bytes: %v", frame, err)
		}
	}
}

// After a power cut at any read, write or sync another update ends with the right content,
// and fetches nothing again that the medium has.
func TestAnUpdateByBlocksContinuesAfterAPowerCutAtAnyPoint(t *testing.T) {
	t.Parallel()
	old := noise(1, 2<<20)
	v := verifiedOf(t, scattered(old), 8192)
	_, p := v.served(t)
	random := rand.New(rand.NewPCG(5, 6))
	for cut := 0; ; cut++ {
		disk := &failing{Memory: dirty(t, int64(len(old))), left: cut}
		_, err := v.update(t, p, disk, old)
		if err == nil {
			if cut < 20 {
				t.Errorf("only %d points", cut)
			}
			break
		}
		if !errors.Is(err, errDead) || !strings.Contains(err.Error(), "update images/partition-1.rawzst: ") {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		after := disk.Crash(random)
		if _, err := v.update(t, p, after, old); err != nil {
			t.Fatalf("after a cut at %d: %v", cut, err)
		}
		wantContent(t, after.Crash(random), v.content)
	}
}

// A file of which a block is wrong is refused, and the block is not written.
func TestAWrongBlockOfTheFileIsNotWritten(t *testing.T) {
	t.Parallel()
	old := random(1, 1<<20)
	v := verifiedOf(t, scattered(old), 4096)
	other := verifiedOf(t, random(9, 1<<20), 4096)
	for name, c := range map[string]struct {
		damage func(frames []placedFrame, at int64, data []byte)
		says   string
	}{
		"another block": {func([]placedFrame, int64, []byte) {}, "block 0 does not match the hash tree"},
		"no frame":      {func(f []placedFrame, at int64, data []byte) { data[at+f[0].off] ^= 1 }, "the frame at byte 0 cannot be unpacked"},
	} {
		damaged := other
		damaged.data, damaged.tree = bytes.Clone(other.data), v.tree
		_, p := damaged.served(t)
		frames, err := p.index(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.damage(frames, p.off, damaged.data)
		_, p = damaged.served(t)
		target := dirty(t, 1<<20)
		before := make([]byte, 4096)
		if _, err := target.ReadAt(before, 0); err != nil {
			t.Fatal(err)
		}
		_, err = damaged.update(t, p, target, nil)
		wantKind(t, err, errkind.Corrupt)
		if err == nil || !strings.Contains(err.Error(), c.says) || errkind.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		wantContent(t, target, before)
	}
}

// An image that cannot be fetched in parts is known before anything is written.
func TestAFileWithoutAnIndexThatFitsIsNotUpdatedByBlocks(t *testing.T) {
	t.Parallel()
	content := noise(1, 2<<20)
	v := verifiedOf(t, content, 64<<10)
	fit := func(change func(table []byte)) []byte { // changes the index, which is at the end of the file
		_, p := v.served(t)
		data := bytes.Clone(v.data)
		change(data[p.off : p.off+p.File.Compressed])
		return data
	}
	for name, c := range map[string]struct {
		data []byte
		tree *verity.Tree
		says string
	}{
		"no index":             {data: verifiedOf(t, content, 0).data, says: "has no index of its zstd frames"},
		"another magic number": {data: fit(func(b []byte) { b[len(b)-9-32*8-8] ^= 1 }), says: "has no index of its zstd frames"},
		"reserved bits":        {data: fit(func(b []byte) { b[len(b)-5] = 4 }), says: "has no index of its zstd frames"},
		"too many frames":      {data: fit(func(b []byte) { b[len(b)-8] = 0xff }), says: "frames, too many for the file"},
		"too large a frame":    {data: fit(func(b []byte) { b[len(b)-9-1] = 1 }), says: "frames of at most 4194304 bytes"},
		"half a block":         {data: fit(func(b []byte) { b[len(b)-9-4] = 1 }), says: "not whole blocks of 4096 bytes"},
		"other frames":         {data: fit(func(b []byte) { b[len(b)-9-3] = 0x10 }), says: "the index of images/partition-1.rawzst is for other frames"},
		"another tree":         {data: v.data, tree: verifiedOf(t, noise(1, 1<<20), 4096).tree, says: "and its hash tree is for 1048576"},
	} {
		u := v
		if c.tree != nil {
			u.tree = c.tree
		}
		u.data = c.data
		s := newShelf(t, u.data)
		i, err := s.open(t, Ignored, noPin, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = u.update(t, i.Partitions()[1], dirty(t, int64(len(content))), nil)
		wantKind(t, err, errkind.Unsupported)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnUpdateByBlocksEnds(t *testing.T) {
	t.Parallel()
	v := verifiedOf(t, noise(1, 1<<20), 4096)
	_, p := v.served(t)
	if _, err := v.update(t, p, dirty(t, 1<<19), nil); errkind.NameOf(err).Variant != errkind.NameFilesystemSizeExceedsBlockDevice {
		t.Errorf("a small device: %v", err)
	}
	b, err := p.OpenBlocks(t.Context(), v.tree)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Update(ctx, dirty(t, 1<<20), BlockUpdate{Old: bytes.NewReader(nil)})
	wantKind(t, err, errkind.Cancelled)
	_, err = b.Update(t.Context(), dirty(t, 1<<20), BlockUpdate{Old: bytes.NewReader(nil), OldSize: 1 << 20})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an old device that ends early: %v", err)
	}
}

// What is large is on the medium before the progress is recorded.
func TestAnUpdateByBlocksRecordsWhatItFetched(t *testing.T) {
	t.Parallel()
	v := verifiedOf(t, random(1, 9<<20), 1<<20)
	_, p := v.served(t)
	b, err := p.OpenBlocks(t.Context(), v.tree)
	if err != nil {
		t.Fatal(err)
	}
	target, saved := blockdevtest.New(9<<20, 4096), 0
	u := BlockUpdate{Old: bytes.NewReader(nil), Saved: func() error {
		saved++
		wantContent(t, target.Crash(rand.New(rand.NewPCG(1, 1))), v.content[:syncEvery])
		return nil
	}}
	if _, err := b.Update(t.Context(), target, u); err != nil || saved != 1 {
		t.Errorf("%d times, %v", saved, err)
	}
	u.Saved = func() error { return errPower }
	if _, err := b.Update(t.Context(), blockdevtest.New(9<<20, 4096), u); !errors.Is(err, errPower) {
		t.Errorf("%v", err)
	}
}

func TestAFrameSizeThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	spec, _ := sample(t, small)
	for size, says := range map[int64]string{1: "must be a power of two from 4096 to 4194304", 12288: "power of two", 8 << 20: "power of two", 4096: ""} {
		spec.FrameSize = size
		_, err := Write(t.Context(), io.Discard, spec, nil)
		if says == "" != (err == nil) || err != nil && (errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), says)) {
			t.Errorf("%d: %v", size, err)
		}
	}
	spec.FrameSize = 4096
	spec.Mounts[1].HashTree = 0
	spec.Mounts[1].RootHash = ""
	if _, err := Write(t.Context(), io.Discard, spec, nil); err == nil || errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "no file system with a verity hash tree") {
		t.Errorf("no hash tree: %v", err)
	}
}

// An index of foreign bytes never makes frames that are outside of the file.
func FuzzIndex(f *testing.F) {
	f.Add(appendIndex(make([]byte, 100), []frameSizes{{50, 4096}, {50, 8192}}), int64(12288))
	f.Add(appendIndex(nil, nil), int64(0))
	path := save(f, make([]byte, 4096))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		if size < 0 || len(data) == 0 || len(data) > 1<<16 {
			return
		}
		overwrite(t, path, data)
		src := rangesOf(t, path)
		p := Partition{File: File{Path: "f", Compressed: int64(len(data)), Size: size}, image: &Image{src: src}}
		frames, err := p.index(t.Context())
		if err != nil {
			return
		}
		var at int64
		for _, fr := range frames {
			if fr.at != at || fr.off < 0 || fr.packed < 0 || fr.off+fr.packed > int64(len(data)) || fr.unpacked <= 0 || fr.unpacked > maxIndexed || fr.unpacked%verity.BlockSize != 0 {
				t.Fatalf("%+v", fr)
			}
			at += fr.unpacked
		}
		if at != size {
			t.Fatalf("%d of %d bytes", at, size)
		}
	})
}

var noPin fetch.Pin

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func rangesOf(t *testing.T, path string) *fetch.Ranges {
	t.Helper()
	src, err := fetch.OpenRanges(t.Context(), fetch.Source{URL: "file://" + path}, noPin, fetch.Limits{MaxSize: 1 << 20}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	return src
}
