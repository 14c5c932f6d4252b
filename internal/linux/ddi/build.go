package ddi

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/linux/verity"
)

const (
	grain     = 4096
	headSize  = 5 * grain // gpt.OverheadFront, rounded up
	tailSize  = 5 * grain // gpt.OverheadBack, rounded up
	uuidInSB  = 1024 + 48 // of an erofs: superblock, then its UUID
	mkfs      = "mkfs.erofs"
	blockSize = verity.BlockSize
)

// BuildOptions are the content and the form of an image. The same options and the
// same files always make the same bytes.
type BuildOptions struct {
	Tree  string    // folder; only its usr and opt are in the image
	Arch  Arch      // decides the partition types
	Epoch time.Time // the time of every file, usually SOURCE_DATE_EPOCH
	// Compress makes the file system with mkfs.erofs and LZ4, which every kernel from 5.13
	// on reads.
	Compress bool
	Tools    run.Runner // runs mkfs.erofs; nil is the host
	// Key and Cert sign the image. Without both it is unsigned.
	Key  crypto.Signer
	Cert *x509.Certificate
	// Check, if set, gets the image, and the file that it is in, before Build replaces the
	// file at path. If Check fails, Build returns its error and does not change that file.
	Check func(*Image, *os.File) error
}

// CanCompress reports whether the tool for BuildOptions.Compress is installed.
func CanCompress() bool { return run.Host{}.Find(mkfs) == nil }

// Build writes an image, replaces the file at path with it, and returns its root
// hash. After a failure the previous file is unchanged. An unsigned image has room for
// the signature that Attach adds; until then no partition has that room.
//
// Files keep their permissions, belong to root, and lose their extended attributes.
// Build fails, with errkind.Invalid, and names the file, if a file has special
// permissions or capabilities, is a device, a socket or a pipe, or is a link to an
// absolute path or out of the tree.
func Build(ctx context.Context, path string, o BuildOptions) (root [32]byte, err error) {
	if _, ok := idOf(partType{o.Arch, false, roleData}); !ok {
		return root, errkind.Errorf(errkind.Invalid, "build %s: the architecture %q is not known", path, o.Arch)
	}
	if o.Epoch.Unix() < 0 {
		return root, errkind.Errorf(errkind.Invalid, "build %s: the date %s is before 1970", path, o.Epoch)
	}
	if (o.Key == nil) != (o.Cert == nil) {
		return root, errkind.Errorf(errkind.Invalid, "build %s: give a key and its certificate, or neither", path)
	}
	t, err := scanTree(o.Tree, o.Epoch)
	if err != nil {
		return root, fmt.Errorf("build %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	err = atomicfile.FillFunc(path, 0o644, func(f *os.File) error {
		if root, err = build(ctx, f, t, o); err != nil {
			return err
		}
		return check(f, o.Check)
	})
	return root, err
}

func build(ctx context.Context, f *os.File, t *tree, o BuildOptions) (root [32]byte, err error) {
	data := io.NewOffsetWriter(f, headSize)
	size, err := writeErofs(ctx, data, t, o)
	if err != nil {
		return root, fmt.Errorf("write file system: %w", err)
	}
	// The last block may be partly unwritten: it can be read only after Truncate.
	if err := f.Truncate(headSize + size); err != nil {
		return root, err
	}
	// This starts the write-back while the hashes are computed; the sync is later.
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	content := io.NewSectionReader(f, headSize, size)
	id, err := identify(ctx, content)
	if err != nil {
		return root, err
	}
	fsID := id.uuid("file system")
	if _, err := data.WriteAt(fsID[:], uuidInSB); err != nil {
		return root, err
	}
	salt := id.derive("salt")
	root, hashSize, err := verity.Build(ctx, content, size, salt[:], id.uuid("verity"), io.NewOffsetWriter(f, headSize+size))
	if err != nil {
		return root, err
	}
	table := layout(o.Arch, id, root, size, hashSize)
	if err := f.Truncate(table.Size); err != nil {
		return root, err
	}
	if o.Key == nil {
		return root, gpt.Write(f, table)
	}
	sig, err := SignRootHash(root, o.Cert, o.Key)
	if err != nil {
		return root, err
	}
	return root, writeSignature(f, table, root, sig, o.Cert)
}

// check opens the image in f, and returns the error of judge.
func check(f *os.File, judge func(*Image, *os.File) error) error {
	if judge == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := Open(f, info.Size())
	if err != nil {
		return err
	}
	return judge(m, f)
}

func layout(arch Arch, id identity, root [32]byte, dataSize, hashSize int64) *gpt.Table {
	t := &gpt.Table{DiskID: id.uuid("disk"), Size: headSize + dataSize + hashSize + sigSize + tailSize}
	add := func(r role, suffix string, id gpt.GUID, at, size int64) {
		kind := partType{arch, false, r}
		typ, _ := idOf(kind)
		t.Partitions = append(t.Partitions, gpt.Partition{
			Type: typ, ID: id, First: uint64(at / 512), Last: uint64((at+size)/512) - 1,
			Attributes: attrReadOnly, Name: kind.String() + suffix,
		})
	}
	add(roleData, "", gpt.GUID(root[:16]), headSize, dataSize)
	add(roleHash, "-verity", gpt.GUID(root[16:]), headSize+dataSize, hashSize)
	return t
}

// identity is the source of the UUIDs and the salt, which then need not be random: the
// root hash of the file system without a salt and without its UUID.
type identity [32]byte

func identify(ctx context.Context, content *io.SectionReader) (identity, error) {
	root, _, err := verity.Build(ctx, content, content.Size(), nil, [16]byte{}, discard{})
	return root, err
}

func (id identity) derive(what string) [32]byte {
	return sha256.Sum256(append([]byte("trident image: "+what+"\x00"), id[:]...))
}

// uuid returns a UUID of version 8, whose other bits are free (RFC 9562, 5.8).
func (id identity) uuid(what string) [16]byte {
	sum := id.derive(what)
	u := [16]byte(sum[:16])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// writeErofs writes the file system and returns its size, a whole number of blocks.
func writeErofs(ctx context.Context, w *io.OffsetWriter, t *tree, o BuildOptions) (int64, error) {
	if o.Compress {
		return writeCompressed(ctx, w, t, o)
	}
	out := &ctxWriter{ctx: ctx, w: w}
	fsys := erofs.Create(out, erofs.WithBuildTime(uint64(o.Epoch.Unix()), 0), erofs.WithBlockSize(blockSize))
	if err := fsys.CopyFrom(t); err != nil {
		return 0, err
	}
	if err := fsys.Close(); err != nil {
		return 0, err
	}
	return (out.end + blockSize - 1) / blockSize * blockSize, nil
}

// ctxWriter is a writer that fails after ctx ends.
type ctxWriter struct {
	ctx     context.Context
	w       *io.OffsetWriter
	at, end int64 // offset of the next write, end of the file
}

func (c *ctxWriter) Write(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.at += int64(n)
	c.end = max(c.end, c.at)
	return n, err
}

func (c *ctxWriter) Seek(offset int64, whence int) (at int64, err error) {
	c.at, err = c.w.Seek(offset, whence)
	return c.at, err
}

// writeCompressed runs mkfs.erofs on a copy of the tree, whose times are the epoch and
// which has no other folders than usr and opt.
func writeCompressed(ctx context.Context, w *io.OffsetWriter, t *tree, o BuildOptions) (_ int64, err error) {
	tools := o.Tools
	if tools == nil {
		tools = run.Host{}
	}
	tmp, err := os.MkdirTemp("", "trident-image-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	stage, image := filepath.Join(tmp, "tree"), filepath.Join(tmp, "image")
	if err := t.copyTo(ctx, stage); err != nil {
		return 0, err
	}
	_, err = tools.Run(ctx, mkfs, "--quiet", "-zlz4hc,12", "-C65536", "-x-1", "--all-root", "-Enosbcrc",
		"-T"+strconv.FormatInt(o.Epoch.Unix(), 10), "-U00000000-0000-0000-0000-000000000000", image, stage)
	if errkind.Of(err) == errkind.Precondition {
		return 0, errkind.WithHint(err, "install erofs-utils, or build without compression")
	}
	if err != nil {
		return 0, err
	}
	return copyImage(w, image)
}

func copyImage(w *io.OffsetWriter, image string) (n int64, err error) {
	f, err := os.Open(image)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err = io.Copy(w, f)
	return (n + blockSize - 1) / blockSize * blockSize, err
}
