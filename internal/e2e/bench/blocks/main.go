// Command blocks measures how many bytes travel when a host that has an image fetches a newer
// one: an upgrade of Trident from an earlier commit by a patch, and an extension of which some
// blocks changed by ranges. It compares the extension with a full download, and with casync(1) if
// that is installed, at 100 Mbit/s.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/big"
	rand2 "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/fetch/blocks"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/patch"
)

// rate is 100 Mbit/s, in bytes a second.
const rate = 100e6 / 8

func main() {
	sizeMB := flag.Int("size", 256, "size of the extension, in MiB")
	from := flag.String("from", "HEAD~12", "the commit of the Trident that the host has")
	flag.Parse()
	if err := bench(context.Background(), *sizeMB<<20, *from); err != nil {
		fmt.Fprintln(os.Stderr, "bench blocks:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, size int, from string) (err error) {
	dir, err := os.MkdirTemp("", "trident-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bencher{dir: dir, files: map[string][]byte{}}
	if err := b.serve(); err != nil {
		return err
	}
	fmt.Printf("%-39s %12s %8s %8s   %s\n", "Small downloads:", "bytes", "of all", "time", "expected")
	if err := b.extension(ctx, size); err != nil {
		return fmt.Errorf("extension: %w", err)
	}
	if err := b.upgrade(ctx, from); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	return nil
}

type bencher struct {
	dir, url string
	files    map[string][]byte
	sent     atomic.Int64
}

func (b *bencher) serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.url = "http://" + l.Addr().String()
	go func() { _ = http.Serve(l, b) }() // until the command ends
	return nil
}

func (b *bencher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"1"`)
	if file, ok := b.files[r.URL.Path]; ok {
		http.ServeContent(counted{w, &b.sent}, r, "", time.Time{}, bytes.NewReader(file))
		return
	}
	http.FileServer(http.Dir(b.dir)).ServeHTTP(counted{w, &b.sent}, r)
}

type counted struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// row fetches, checks that the result is image, and prints what travelled.
func (b *bencher) row(name, expected string, image []byte, get func(part string) error) error {
	part := filepath.Join(b.dir, "part")
	b.sent.Store(0)
	begun := time.Now()
	if err := get(part); err != nil {
		return err
	}
	took := time.Since(begun)
	got, err := os.ReadFile(part)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, image) {
		return errors.New("the result is another image")
	}
	n := b.sent.Load()
	fmt.Printf("%-39s %12d %7.2f%% %7.2fs   %s\n", name, n, 100*float64(n)/float64(len(image)), took.Seconds(), expected)
	return fetch.Remove(part)
}

func (b *bencher) extension(ctx context.Context, size int) error {
	content := make([]byte, size)
	_, _ = rand2.NewChaCha8([32]byte{}).Read(content)
	old, oldPath, err := b.image(ctx, "old", content)
	if err != nil {
		return err
	}
	random := rand2.New(rand2.NewPCG(1, 2))
	for _, block := range random.Perm(size / 4096)[:size/4096/20] {
		content[block*4096+random.IntN(4096)] ^= 0xff
	}
	image, newPath, err := b.image(ctx, "new", content)
	if err != nil {
		return err
	}
	b.files["/new"] = image
	src := fetch.Source{URL: b.url + "/new"}
	name := fmt.Sprintf("extension of %d MiB, 5 %% changed", len(old)>>20)
	err = b.row(name+", blocks", "at most 6.5 %, not slower than the full download", image, func(part string) error {
		src.Meter = fetch.NewMeter(rate, 0, 0)
		_, err := blocks.Download(ctx, blocks.Want{Source: src, Old: []blocks.Old{{Name: "old", Path: oldPath}}}, part, nil, nil)
		return err
	})
	if err != nil {
		return err
	}
	err = b.row("the same, full download at 100 Mbit/s", "", image, func(part string) error {
		src.Meter = fetch.NewMeter(rate, 0, 0)
		_, err := fetch.Download(ctx, src, part, fetch.Limits{}, nil, nil)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(b.casync(ctx, oldPath, newPath, image), b.desync(ctx, oldPath, newPath, image))
}

// desync fetches the same image with desync, in the same two sizes of chunks. desync needs an
// index of its seed, and has no limit of the rate, so that only its bytes can be compared.
func (b *bencher) desync(ctx context.Context, oldPath, newPath string, image []byte) error {
	if _, err := exec.LookPath("desync"); err != nil {
		fmt.Println("the same, desync: not installed")
		return nil
	}
	for average, chunks := range map[string]string{"65536": "16:64:256", "4096": "1:4:16"} { // KiB
		store := filepath.Join(b.dir, "desync-"+average)
		index, seed := filepath.Join(store, "new.caibx"), oldPath+".caibx"
		if err := os.Mkdir(store, 0o755); err != nil {
			return err
		}
		for _, args := range [][]string{{"make", "-m", chunks, "-s", store, index, newPath}, {"make", "-m", chunks, seed, oldPath}} {
			if out, err := exec.CommandContext(ctx, "desync", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("desync make: %w\n%s", err, out)
			}
		}
		err := b.row("the same, desync, chunks of "+average+", without a limit of the rate", "", image, func(part string) error {
			url := b.url + "/" + filepath.Base(store)
			out, err := exec.CommandContext(ctx, "desync", "extract", "-s", url, "--seed", seed, url+"/new.caibx", part).CombinedOutput()
			if err != nil {
				return fmt.Errorf("desync extract: %w\n%s", err, out)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// casync fetches the same image with casync(1), which has the old image as its seed, with the
// chunks of its default size and with the smallest that it makes of blocks of 4 KiB.
func (b *bencher) casync(ctx context.Context, oldPath, newPath string, image []byte) error {
	if _, err := exec.LookPath("casync"); err != nil {
		fmt.Println("the same, casync: not installed")
		return nil
	}
	for _, chunks := range []string{"16384:65536:262144", "1024:4096:16384"} {
		store := "/" + chunks + "/"
		if err := os.Mkdir(filepath.Join(b.dir, chunks), 0o755); err != nil {
			return err
		}
		index := filepath.Join(b.dir, store, "new.caibx")
		if out, err := exec.CommandContext(ctx, "casync", "make", "--chunk-size="+chunks, index, newPath).CombinedOutput(); err != nil {
			return fmt.Errorf("casync make: %w\n%s", err, out)
		}
		_, average, _ := strings.Cut(chunks, ":")
		average, _, _ = strings.Cut(average, ":")
		err := b.row("the same, casync, chunks of "+average, "", image, func(part string) error {
			out, err := exec.CommandContext(ctx, "casync", "extract", "--chunk-size="+chunks, fmt.Sprintf("--rate-limit-bps=%d", int(rate)), "--seed="+oldPath, b.url+store+"new.caibx", part).CombinedOutput()
			if err != nil {
				return fmt.Errorf("casync extract: %w\n%s", err, out)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// image builds a signed image with one file of that content.
func (b *bencher) image(ctx context.Context, name string, content []byte) (image []byte, path string, err error) {
	tree := filepath.Join(b.dir, name)
	err = errors.Join(os.MkdirAll(filepath.Join(tree, "usr/lib"), 0o755), os.WriteFile(filepath.Join(tree, "usr/lib/content"), content, 0o644))
	if err != nil {
		return nil, "", err
	}
	return b.build(ctx, tree)
}

func (b *bencher) build(ctx context.Context, tree string) (image []byte, path string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, "", err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, "", err
	}
	path = tree + ".raw"
	if _, err := ddi.Build(ctx, path, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1e9, 0), Key: key, Cert: cert}); err != nil {
		return nil, "", err
	}
	image, err = os.ReadFile(path)
	return image, path, err
}

// upgrade measures the patch between the programs of two commits.
func (b *bencher) upgrade(ctx context.Context, from string) error {
	old, oldPath, err := b.programs(ctx, from)
	if err != nil {
		return err
	}
	image, _, err := b.programs(ctx, "HEAD")
	if err != nil {
		return err
	}
	var p bytes.Buffer
	begun := time.Now()
	if err := patch.Make(ctx, old, image, &p, nil); err != nil {
		return err
	}
	fmt.Printf("%-39s %12d %8s %7.2fs\n", "make the patch from "+from, p.Len(), "", time.Since(begun).Seconds())
	b.files["/next"], b.files["/patch"] = image, p.Bytes()
	sum := sha256.Sum256(p.Bytes())
	want := blocks.Want{
		Source: fetch.Source{URL: b.url + "/next", Patches: []fetch.Patch{{From: from, URL: b.url + "/patch", Size: int64(p.Len()), SHA256: hex.EncodeToString(sum[:])}}},
		Old:    []blocks.Old{{Name: from, Path: oldPath}},
	}
	return b.row(fmt.Sprintf("trident, %d MiB, by the patch", len(image)>>20), "at most 6 % of the uncompressed image", image, func(part string) error {
		_, err := blocks.Download(ctx, want, part, nil, nil)
		return err
	})
}

// programs builds Trident's programs of a commit, and an image of them.
func (b *bencher) programs(ctx context.Context, commit string) (image []byte, path string, err error) {
	sources, tree := filepath.Join(b.dir, "src-"+commit), filepath.Join(b.dir, "tree-"+commit)
	if err := os.MkdirAll(sources, 0o755); err != nil {
		return nil, "", err
	}
	script := `git archive "$1" | tar -x -C "$2" && cd "$2" && go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags '-s -w' -o "$3/usr/bin/" ./cmd/...`
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", commit, sources, tree)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("build the programs of %s: %w\n%s", commit, err, out)
	}
	return b.build(ctx, tree)
}
