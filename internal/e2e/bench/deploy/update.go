package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/verity"
)

// updateSize bounds the verified partition of the update, in bytes.
const updateSize = 64 << 20

// update measures how many bytes travel when one of twenty blocks of a verified partition, at
// random places, is another than in the other slot.
func update(ctx context.Context, dir, raw string) error {
	old, err := head(raw, updateSize)
	if err != nil {
		return err
	}
	content, r := bytes.Clone(old), rand.New(rand.NewPCG(1, 2))
	n := len(content) / verity.BlockSize
	for _, i := range r.Perm(n)[:n/20] {
		copy(content[i*verity.BlockSize:], old[r.IntN(n)*verity.BlockSize:][:verity.BlockSize-8])
		content[(i+1)*verity.BlockSize-1] ^= byte(1 + r.IntN(255))
	}
	fmt.Printf("Updating a verified partition of %d MiB, of which 5 %% of the blocks changed, scattered, from http:\n", len(content)>>20)
	fmt.Printf("%-14s %12s %12s %14s %18s\n", "frames", "the image", "fetched", "of the image", "of the partition")
	for _, frame := range []int64{0, 4 << 10, 16 << 10, 64 << 10} {
		packed, fetched, err := updateOnce(ctx, dir, content, old, frame)
		if err != nil {
			return err
		}
		name := "no index"
		if frame > 0 {
			name = fmt.Sprintf("%d KiB", frame>>10)
		}
		fmt.Printf("%-14s %8.1f MiB %8.1f MiB %12.1f %% %16.1f %%\n", name, mib(packed), mib(fetched), 100*mib(fetched)/mib(packed), 100*mib(fetched)/mib(int64(len(content))))
	}
	return nil
}

// updateOf is update with a partition of size bytes that it makes.
func updateOf(ctx context.Context, size int64) (err error) {
	dir, err := os.MkdirTemp("", "trident-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w := &world{size: size}
	if err := w.prepareRaw(ctx, dir); err != nil {
		return err
	}
	return update(ctx, dir, w.raw)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func head(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// updateOnce makes an image of content and updates old to it. It returns the size of the image,
// and how many bytes the server sent, with all headers.
func updateOnce(ctx context.Context, dir string, content, old []byte, frame int64) (packed, fetched int64, err error) {
	hash := &memory{}
	root, _, err := verity.Build(ctx, bytes.NewReader(content), int64(len(content)), nil, [16]byte{1}, hash)
	if err != nil {
		return 0, 0, err
	}
	cosi, err := writeVerified(ctx, dir, content, hash.b, root, frame)
	if err != nil {
		return 0, 0, err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	l := &counting{Listener: plain}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(cosi))
	})}
	go func() { _ = server.Serve(l) }() // ends with the server
	defer func() { err = errors.Join(err, server.Close()) }()
	img, err := image.Open(ctx, fetch.Source{URL: "http://" + l.Addr().String() + "/i.cosi"}, image.Ignored, image.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer img.Close()
	target := filepath.Join(dir, "slot")
	if err := os.WriteFile(target, make([]byte, len(content)), 0o600); err != nil {
		return 0, 0, err
	}
	dev, err := blockdev.Open(target, true)
	if err != nil {
		return 0, 0, err
	}
	defer dev.Close()
	data, hashes := img.Partitions()[1], img.Partitions()[2]
	if _, err := hashes.Check(ctx); err != nil { // a host writes them to its hash partition
		return 0, 0, err
	}
	tree, err := verity.OpenTree(ctx, bytes.NewReader(hash.b), int64(len(hash.b)), root)
	if err != nil {
		return 0, 0, err
	}
	if frame == 0 {
		_, err = data.Deploy(ctx, dev, image.Deployment{})
	} else {
		var b *image.Blocks
		if b, err = data.OpenBlocks(ctx, tree); err == nil {
			_, err = b.Update(ctx, dev, image.BlockUpdate{Old: bytes.NewReader(old), OldSize: int64(len(old))})
		}
	}
	if err != nil {
		return 0, 0, err
	}
	got, err := os.ReadFile(target)
	if err == nil && !bytes.Equal(got, content) {
		err = errors.New("the update made another content")
	}
	return int64(len(cosi)), l.sent.Load(), err
}

func writeVerified(ctx context.Context, dir string, content, hash []byte, root [32]byte, frame int64) ([]byte, error) {
	var parts []image.Part
	for i, name := range []string{"root", "root-verity"} {
		kind, _ := image.ParsePartType(name, image.AMD64)
		data := [][]byte{content, hash}[i]
		parts = append(parts, image.Part{Name: name, Type: kind, Content: bytes.NewReader(data), Size: int64(len(data))})
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = image.Write(ctx, &out, image.Spec{
		Arch: image.AMD64, OSRelease: "ID=bench\n", Disk: disk, DiskSize: size, Temp: dir, Bootloader: image.Bootloader{Type: image.GRUB}, FrameSize: frame,
		Mounts: []image.Mount{{Number: 1, MountPoint: "/", HashTree: 2, RootHash: fmt.Sprintf("%x", root)}},
	}, nil)
	return out.Bytes(), err
}

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p) - len(m.b); need > 0 {
		m.b = append(m.b, make([]byte, need)...)
	}
	return copy(m.b[off:], p), nil
}

// counting counts what its connections send.
type counting struct {
	net.Listener
	sent atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{c, l}, nil
}

type countedConn struct {
	net.Conn
	l *counting
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.l.sent.Add(int64(n))
	return n, err
}
