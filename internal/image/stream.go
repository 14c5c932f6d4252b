package image

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// Stream is the unpacked content of a partition. The bytes are unverified until Read
// returns io.EOF, which it does if and only if length and digest are those of the
// metadata. A caller that writes them must have the [Verified] before it makes them
// reachable: by a boot entry, a partition table, a mount.
type Stream struct {
	file  File
	image *Image
	feed  *feed
	dec   decoder
	out   int64 // bytes returned, including those before a checkpoint
	err   error // the result of all later calls of Read
}

// Verified is the proof that all bytes of a file were right. Only a Stream makes it; the
// zero value proves nothing.
type Verified struct {
	sha384 string
	size   int64
}

// Of reports whether v is the proof for f.
func (v Verified) Of(f File) bool { return v.sha384 != "" && v.sha384 == f.SHA384 && v.size == f.Size }

// SHA384 returns the digest of the compressed bytes; "" for the zero value.
func (v Verified) SHA384() string { return v.sha384 }

// Checkpoint is a place in a file at which OpenAt can begin. A caller may store it, but
// only where nobody else can change it, because OpenAt trusts it.
type Checkpoint struct {
	SHA384       string `json:"sha384"`       // of the file, by the metadata
	Compressed   int64  `json:"compressed"`   // bytes of the file before it
	Uncompressed int64  `json:"uncompressed"` // bytes of the partition before it
	Hash         []byte `json:"hash"`         // state of the hash
}

// Open returns the content from the first byte.
func (p Partition) Open(ctx context.Context) (*Stream, error) {
	return p.OpenAt(ctx, Checkpoint{})
}

// OpenAt returns the content from a checkpoint of an earlier Stream of the same file, maybe
// in another process; the zero value is the beginning. The caller must have the bytes before
// it on disk: the Stream does not read them again.
func (p Partition) OpenAt(ctx context.Context, c Checkpoint) (*Stream, error) {
	if p.File.SHA384 == "" {
		err := errkind.Errorf(errkind.Untrusted, "read %s: the metadata has no SHA-384 of this file", p.File.Path)
		return nil, errkind.WithHint(err, "Build the image anew in version 1.1 or later of the format.")
	}
	sum := sha512.New384()
	if c.Compressed != 0 || c.Uncompressed != 0 {
		if c.SHA384 != p.File.SHA384 || c.Compressed < 0 || c.Compressed > p.File.Compressed || c.Uncompressed < 0 || c.Uncompressed > p.File.Size {
			return nil, errkind.Errorf(errkind.Invalid, "read %s: the checkpoint is of another file", p.File.Path)
		}
		if err := sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(c.Hash); err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "read %s: the checkpoint is not valid: %w", p.File.Path, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	body, err := p.image.src.Section(ctx, p.off+c.Compressed, p.File.Compressed-c.Compressed)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read %s: %w", p.File.Path, err)
	}
	f := newFeed(ctx, cancel, p.File, body, sum, c)
	dec, err := p.newDecoder(ctx, f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", p.File.Path, err), f.close())
	}
	return &Stream{file: p.File, image: p.image, feed: f, dec: dec, out: c.Uncompressed}, nil
}

// newDecoder returns a decoder of several frames at a time, if the image may use the memory.
func (p Partition) newDecoder(ctx context.Context, f *feed) (decoder, error) {
	if p.image.atOnce >= 2 {
		return newParallel(ctx, f, p.image.Window(), p.image.atOnce)
	}
	dec, err := newDecoder(f, p.image.Window())
	if err != nil {
		return nil, err
	}
	return sequential{dec}, nil
}

// Check reads the whole file and verifies it. It stores nothing. For an image that is
// [Image.Local] it is a check before the first write that uses no network.
func (p Partition) Check(ctx context.Context) (Verified, error) { return p.check(ctx, nil) }

// check is Check that calls progress, which may be nil, with the compressed bytes read.
func (p Partition) check(ctx context.Context, progress func(int64)) (Verified, error) {
	s, err := p.Open(ctx)
	if err != nil {
		return Verified{}, err
	}
	defer s.Close()
	for buf := make([]byte, 1<<20); err == nil; {
		if _, err = s.Read(buf); progress != nil {
			progress(s.Progress())
		}
	}
	return s.Verified()
}

// UnpackSparse writes the content to an empty file, and leaves holes where it is zero. The
// proof is of what it has read.
func (p Partition) UnpackSparse(ctx context.Context, to *os.File) (Verified, error) {
	s, err := p.Open(ctx)
	if err != nil {
		return Verified{}, err
	}
	defer s.Close()
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(s, buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := to.WriteAt(buf[:n], at); err != nil {
				return Verified{}, fmt.Errorf("unpack: %w", err)
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if err := to.Truncate(at); err != nil {
				return Verified{}, fmt.Errorf("unpack: %w", err)
			}
			return s.Verified()
		case err != nil:
			return Verified{}, err
		}
	}
}

func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	return s.account(s.dec.Read(p))
}

// account counts n bytes of the decoder, with its error, and returns the result of Read.
func (s *Stream) account(n int, err error) (int, error) {
	if left := s.file.Size - s.out; int64(n) > left {
		n, err = int(left), corrupt("it unpacks to more than %d bytes", s.file.Size)
	}
	s.out += int64(n)
	if err != nil {
		s.err = s.judge(err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// lend is Read without a copy: see decoder.
func (s *Stream) lend(n int) ([]byte, func(), error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	b, release, err := s.dec.lend(n)
	if release == nil && err == nil {
		return nil, nil, nil
	}
	n, err = s.account(len(b), err)
	return b[:n], release, err
}

// judge returns io.EOF if all bytes were right, else the error of the stream. err is that of
// the decoder.
func (s *Stream) judge(err error) error {
	read, sum, lost := s.feed.total()
	switch {
	case lost != nil:
		err = lost
	case errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded):
		err = s.image.tooLarge(0)
	case errors.Is(err, zstd.ErrMagicMismatch) && s.out == 0:
		err = corrupt("it is not compressed with zstd, as the files of an image are")
	case !errors.Is(err, io.EOF):
		if errkind.Of(err) != errkind.Corrupt {
			err = corrupt("it cannot be unpacked: %w", err)
		}
	case read != s.file.Compressed:
		err = corrupt("it ends after %d of %d compressed bytes", read, s.file.Compressed)
	case sum != s.file.SHA384:
		err = corrupt("its SHA-384 is %s, not %s", sum, s.file.SHA384)
	case s.out != s.file.Size:
		err = corrupt("it unpacks to %d bytes, not %d", s.out, s.file.Size)
	default:
		return io.EOF
	}
	return fmt.Errorf("read %s: %w", s.file.Path, err)
}

// Verified returns the proof. It fails unless Read has returned io.EOF.
func (s *Stream) Verified() (Verified, error) {
	switch {
	case errors.Is(s.err, io.EOF):
		return Verified{s.file.SHA384, s.file.Size}, nil
	case s.err != nil:
		return Verified{}, s.err
	}
	return Verified{}, fmt.Errorf("verify %s: the file was not read to its end", s.file.Path)
}

// Progress returns the compressed bytes read so far, including those before a checkpoint;
// the whole file has File.Compressed. Any goroutine may call it.
func (s *Stream) Progress() int64 {
	read, _, _ := s.feed.total()
	return read
}

// Checkpoint returns the last checkpoint at or before byte durable of the partition; the
// caller must have all bytes before durable on disk. Checkpoints are after zstd frames that
// have their length, such as the many frames of [Write]. A file of a single frame has none:
// then Checkpoint returns that of OpenAt. Do not call it with a smaller durable afterwards.
func (s *Stream) Checkpoint(durable int64) Checkpoint { return s.feed.checkpoint(durable) }

// Close releases the resources of s, at its end or before.
func (s *Stream) Close() error {
	if s.err == nil {
		s.err = errors.New("read of a closed stream")
	}
	s.feed.cancel() // the decoder reads ahead, and may be waiting
	s.dec.Close()
	return s.feed.close()
}
