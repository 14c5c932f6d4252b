package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
)

// openFile opens the file images/esp.zst of an image of version 1.1, to be decoded n frames at a time.
func openFile(t *testing.T, file []byte, size, n int) Partition {
	t.Helper()
	path := save(t, archiveOf(t, member{"metadata.json", old(t, file, size), 0}, member{"images/esp.zst", file, 0}))
	i := mustOpen(t, path, Ignored)
	i.atOnce = n
	return i.Partitions()[0]
}

// streamed packs content in a frame that does not have its length.
func streamed(t *testing.T, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	enc, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := enc.Write(content)
	if err := errors.Join(werr, enc.Flush(), enc.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Frames that are decoded at the same time come in their order, whatever is between them.
func TestFramesOfAllKindsAreReadInTheirOrder(t *testing.T) {
	t.Parallel()
	skippable := append([]byte{0x52, 0x2a, 0x4d, 0x18, 5, 0, 0, 0}, "words"...)
	large := append([]byte{0x52, 0x2a, 0x4d, 0x18, 0, 0, 2, 0}, make([]byte, 128<<10)...)
	many := func(packer func(*testing.T, []byte) []byte, n int) (file, content []byte) {
		for i := range n {
			part := noise(byte(i+1), 100<<10)
			file, content = append(file, packer(t, part)...), append(content, part...)
		}
		return file, content
	}
	plain := func(t *testing.T, b []byte) []byte { return packed(t, b) }
	raw, zeros := random(1, 300<<10), make([]byte, 1<<20)
	for name, c := range map[string]struct {
		middle  []byte
		content []byte
	}{
		"nothing":                    {},
		"a skippable frame":          {middle: skippable},
		"a large skippable frame":    {middle: large},
		"a frame without a length":   {middle: streamed(t, raw), content: raw},
		"a frame without a checksum": {middle: packed(t, raw, zstd.WithEncoderCRC(false)), content: raw},
		"a frame of zeros":           {middle: packed(t, zeros), content: zeros},
		"an empty frame":             {middle: packed(t, nil, zstd.WithZeroFrames(true))},
		"a frame that is too large":  {middle: packed(t, make([]byte, maxParallel+1)), content: make([]byte, maxParallel+1)},
	} {
		before, first := many(plain, 5)
		after, second := many(plain, 3)
		file, content := bytes.Join([][]byte{before, c.middle, after}, nil), bytes.Join([][]byte{first, c.content, second}, nil)
		for _, n := range []int{0, 2, 3} {
			p := openFile(t, file, len(content), n)
			s, err := p.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %d frames at a time: %d of %d bytes, %v", name, n, len(got), len(content), err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			m := blockdevtest.New(int64(len(content)), 512)
			if v, err := p.Deploy(t.Context(), m, Deployment{}); err != nil || !v.Of(p.File) {
				t.Errorf("%s, %d frames at a time: %v", name, n, err)
			}
			wantContent(t, m.Crash(rand.New(rand.NewPCG(1, 1))), content)
		}
	}
}

// A damaged file has the same error, however many frames are decoded at the same time.
func TestDamageIsFoundInFramesThatAreDecodedTogether(t *testing.T) {
	t.Parallel()
	var file []byte
	for i := range 6 {
		file = append(file, packed(t, noise(byte(i+1), 300<<10))...)
	}
	size := 6 * 300 << 10
	for name, damage := range map[string]func([]byte) []byte{
		"the first byte":     func(b []byte) []byte { b[0] ^= 1; return b },
		"a byte in a block":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"the last checksum":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut short":          func(b []byte) []byte { return b[:len(b)-100] },
		"cut in a header":    func(b []byte) []byte { return append(b, 0x28, 0xb5, 0x2f) },
		"one frame too many": func(b []byte) []byte { return append(b, packed(t, []byte("more"))...) },
		"bytes after it":     func(b []byte) []byte { return append(b, "something else"...) },
		"one frame missing":  func(b []byte) []byte { return b[len(packed(t, noise(1, 300<<10))):] },
		"a reserved block":   func(b []byte) []byte { return append(b, 0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 7, 0, 0) },
	} {
		bad := damage(bytes.Clone(file))
		errs := map[string]bool{}
		for _, n := range []int{0, 2, 3} {
			p := openFile(t, bad, size, n)
			_, err := p.Check(t.Context())
			wantKind(t, err, errkind.Corrupt)
			text, _, _ := strings.Cut(fmt.Sprint(err), "unpacked: ") // the decoder's own words depend on how it reads
			errs[text] = true
			if v, err := p.Deploy(t.Context(), blockdevtest.New(int64(size)+1<<20, 512), Deployment{}); err == nil || v.Of(p.File) {
				t.Errorf("%s, %d frames at a time: it was deployed", name, n)
			}
		}
		if len(errs) != 1 {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestAStreamOfManyFramesMayBeLeftAnywhere(t *testing.T) {
	t.Parallel()
	var file []byte
	for i := range 12 {
		file = append(file, packed(t, noise(byte(i+1), 300<<10))...)
	}
	p := openFile(t, file, 12*300<<10, 3)
	for _, n := range []int{0, 1, 2 << 20} {
		s, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if b, release, err := s.lend(1); err == nil || release != nil || len(b) > 0 {
			t.Errorf("lent after it was closed: %d bytes, %v", len(b), err)
		}
	}
}

func TestMemoryDecidesHowManyFramesAreDecodedTogether(t *testing.T) {
	t.Parallel()
	i := &Image{}
	for _, c := range []struct {
		bytes    int64
		parallel bool
	}{{0, false}, {parallelFrame, false}, {2 * parallelFrame, false}, {1 << 40, true}} {
		i.UseMemory(c.bytes)
		if i.atOnce > 4 || i.atOnce > 1 && !c.parallel {
			t.Errorf("%d bytes: %d", c.bytes, i.atOnce)
		}
	}
}
