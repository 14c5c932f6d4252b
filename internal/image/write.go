package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

const (
	frameSize      = 16 << 20 // bytes of the disk in one zstd frame; a reader can begin at each frame
	writeWindowLog = 23       // 8 MiB
)

// MinFrameSize and MaxFrameSize bound [Spec.FrameSize]. It must be a power of two.
const MinFrameSize, MaxFrameSize = verity.BlockSize, maxIndexed

// piece is a region of the disk, or an extension, and its packed file.
type piece struct {
	region   Region
	content  io.ReaderAt
	off      int64 // in content
	partType gpt.GUID
	packed   *os.File
	frame    int64 // bytes in one frame of a file with an index; 0: frameSize, and no index
}

// Write writes an image to w and returns the SHA-384 of its metadata. The image is of version
// 1.2, or 1.3 if it carries extensions. One
// version of Trident always makes the same bytes from the same spec. Write packs whole
// regions: it does not shrink file systems. It needs about 110 MiB of memory for each core,
// of at most four. progress, which may be nil, gets numbers of bytes of the disk.
func Write(ctx context.Context, w io.Writer, s Spec, progress func(done, total int64)) (sha384 string, err error) {
	pieces, table, err := s.regions()
	if err == nil {
		err = s.chooseFrames(pieces)
	}
	if err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	defer func() {
		for _, p := range pieces {
			if p.packed != nil {
				err = errors.Join(err, p.packed.Close())
			}
		}
	}()
	regions := len(pieces)
	pieces = append(pieces, s.extensionPieces()...)
	if err := s.pack(ctx, pieces, progress); err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	m := &Metadata{
		Version: Version{1, 2}, Arch: s.Arch, OSRelease: s.OSRelease, ID: s.ID, Packages: append([]Package{}, s.Packages...),
		Bootloader: &s.Bootloader, Compression: &Compression{writeWindowLog},
		Disk: &Disk{Size: s.DiskSize, Type: "gpt", LBASize: int(table.SectorSize)},
	}
	for _, p := range pieces[:regions] {
		m.Disk.Regions = append(m.Disk.Regions, p.region)
	}
	if len(s.Extensions) > 0 {
		m.Version, m.Extensions = Version{1, 3}, s.extensions(pieces[regions:])
	}
	if m.Filesystems, err = s.filesystems(pieces[:regions]); err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	data, err := json.MarshalIndent(m, "", "    ")
	if err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	if _, _, err := ParseMetadata(data, false); err != nil { // do not write an image that no reader accepts
		return "", fmt.Errorf("write image: %w", err)
	}
	for _, f := range m.Doubts() {
		if s.Warn != nil {
			s.Warn(f)
		}
	}
	if err := writeArchive(w, data, pieces); err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	return fmt.Sprintf("%x", sha512.Sum384(data)), nil
}

func byPlace(entries []gpt.Entry) []gpt.Entry {
	return slices.SortedFunc(slices.Values(entries), func(a, b gpt.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
}

func (s *Spec) pack(ctx context.Context, pieces []piece, progress func(done, total int64)) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(packers()), zstd.WithWindowSize(1<<writeWindowLog), zstd.WithEncoderCRC(true))
	if err != nil {
		return fmt.Errorf("set up zstd: %w", err)
	}
	defer enc.Close()
	var done, total int64
	for _, p := range pieces {
		total += p.region.Image.Size
	}
	for i := range pieces {
		p := &pieces[i]
		if p.packed, err = os.CreateTemp(s.Temp, "trident-image-"); err != nil {
			return fmt.Errorf("make temporary file: %w", err)
		}
		if err := os.Remove(p.packed.Name()); err != nil { // the file exists until it is closed
			return fmt.Errorf("make temporary file: %w", err)
		}
		err := p.pack(ctx, enc, func(n int64) {
			if done += n; progress != nil {
				progress(done, total)
			}
		})
		if err != nil {
			return fmt.Errorf("pack %s: %w", p.region.Image.Path, err)
		}
	}
	return nil
}

// chooseFrames sets the size of the frames of verified file systems.
func (s *Spec) chooseFrames(pieces []piece) error {
	if s.FrameSize == 0 {
		return nil
	}
	if s.FrameSize < MinFrameSize || s.FrameSize > MaxFrameSize || s.FrameSize&(s.FrameSize-1) != 0 {
		return errkind.Errorf(errkind.Invalid, "the frame size is %d, it must be a power of two from %d to %d", s.FrameSize, int64(MinFrameSize), int64(MaxFrameSize))
	}
	verified := false
	for _, m := range s.Mounts {
		for i := range pieces {
			if p := &pieces[i]; p.region.Number == m.Number && m.HashTree != 0 && m.HashTree != m.Number && p.region.Image.Size%verity.BlockSize == 0 {
				p.frame, verified = s.FrameSize, true
			}
		}
	}
	if !verified {
		err := errkind.Errorf(errkind.Invalid, "there is a frame size, and no file system with a verity hash tree whose frames could have it")
		return errkind.WithHint(err, "Name the hash tree of a file system, or omit the frame size.")
	}
	return nil
}

// pack compresses the region into p.packed, several units at a time.
func (p *piece) pack(ctx context.Context, enc *zstd.Encoder, came func(int64)) error {
	units := make([]unit, packers())
	sum := sha512.New384()
	put := func(b []byte) error {
		sum.Write(b)
		p.region.Image.Compressed += int64(len(b))
		if _, err := p.packed.Write(b); err != nil {
			return fmt.Errorf("write temporary file: %w", err)
		}
		return nil
	}
	var index []frameSizes
	for at := int64(0); at < p.region.Image.Size; {
		if err := ctx.Err(); err != nil {
			return ended(ctx)
		}
		var batch sync.WaitGroup
		n := 0
		for ; n < len(units) && at < p.region.Image.Size; n++ {
			u, off, size := &units[n], p.off+at, min(frameSize, p.region.Image.Size-at)
			batch.Go(func() { u.err = u.pack(enc, p.content, off, size, cmp.Or(p.frame, frameSize)) })
			at += size
		}
		batch.Wait()
		for _, u := range units[:n] {
			if u.err != nil {
				return u.err
			}
			if err := put(u.out); err != nil {
				return err
			}
			index = append(index, u.frames...)
			came(int64(len(u.in)))
		}
	}
	if p.frame > 0 {
		if err := put(appendIndex(nil, index)); err != nil {
			return err
		}
	}
	p.region.Image.SHA384 = fmt.Sprintf("%x", sum.Sum(nil))
	return nil
}

// packers returns the number of units that are packed at a time.
func packers() int { return min(runtime.GOMAXPROCS(0), 4) }

// unit is a part of a region that one goroutine packs: one frame, or many small ones. Its
// buffers are used again.
type unit struct {
	in, out []byte
	frames  []frameSizes
	err     error
}

func (u *unit) pack(enc *zstd.Encoder, from io.ReaderAt, off, size, frame int64) error {
	if int64(cap(u.in)) < size {
		u.in = make([]byte, size)
	}
	u.in = u.in[:size]
	if n, err := from.ReadAt(u.in, off); n < len(u.in) {
		return fmt.Errorf("read at byte %d: %w", off+int64(n), err)
	}
	u.out, u.frames = u.out[:0], u.frames[:0]
	for content := u.in; len(content) > 0; {
		n, before := min(int(frame), len(content)), len(u.out)
		u.out = enc.EncodeAll(content[:n], u.out)
		u.frames = append(u.frames, frameSizes{int64(len(u.out) - before), int64(n)})
		content = content[n:]
	}
	return nil
}

// writeArchive writes the marker, the metadata and the images. The headers do not depend
// on the time, the host or the user.
func writeArchive(w io.Writer, metadata []byte, pieces []piece) error {
	t := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := io.Copy(t, r); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		return nil
	}
	if err := put(markerName, 0, bytes.NewReader(nil)); err != nil {
		return err
	}
	if err := put(metadataName, int64(len(metadata)), bytes.NewReader(metadata)); err != nil {
		return err
	}
	for _, p := range pieces {
		i := p.region.Image
		if err := put(i.Path, i.Compressed, io.NewSectionReader(p.packed, 0, i.Compressed)); err != nil {
			return err
		}
	}
	return t.Close()
}
