// Command images measures how fast images are verified and built, side by side
// with the tools that do the same: veritysetup and systemd-repart.
//
// Trident and the tool run alternately in one run, three times, and the command compares the
// medians. The ratio counts; the seconds are those of this machine. Both read from the page
// cache. If a tool is not installed, its columns are empty. TRIDENT_TRIXIE_TREE may name a
// root folder of Debian 13; systemd-repart then runs inside it, which needs root.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	rand2 "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/linux/verity"
)

const rounds = 3

func main() {
	verifyMB := flag.Int64("verify", 1024, "size of the image to verify, in MiB")
	buildMB := flag.Int64("build", 64, "size of the tree to build an image of, in MiB")
	flag.Parse()
	if err := bench(context.Background(), *verifyMB<<20, *buildMB<<20); err != nil {
		fmt.Fprintln(os.Stderr, "bench images:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, verifySize, buildSize int64) (err error) {
	dir, err := os.MkdirTemp("", "trident-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Printf("%-31s %10s %10s %8s   %s\n", "Images:", "ours", "theirs", "ratio", "expected")
	if err := benchVerify(ctx, dir, verifySize); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := benchBuild(ctx, dir, buildSize); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	return nil
}

// row measures the two alternately and prints the medians. A nil theirs is a
// tool that is not here.
func row(name, expected string, ours, theirs func() error) error {
	var took [2][]time.Duration
	for range rounds {
		for i, f := range []func() error{ours, theirs} {
			if f == nil {
				continue
			}
			begun := time.Now()
			if err := f(); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	if theirs == nil {
		fmt.Printf("%-31s %9.3fs %10s %8s   %s\n", name, median(took[0]), "-", "-", expected)
		return nil
	}
	a, b := median(took[0]), median(took[1])
	fmt.Printf("%-31s %9.3fs %9.3fs %7.2fx   %s\n", name, a, b, b/a, expected)
	return nil
}

func benchVerify(ctx context.Context, dir string, size int64) error {
	dataPath, treePath := filepath.Join(dir, "data"), filepath.Join(dir, "tree")
	if err := noise(dataPath, size); err != nil {
		return err
	}
	data, err := os.Open(dataPath)
	if err != nil {
		return err
	}
	defer data.Close()
	tree, err := os.Create(treePath)
	if err != nil {
		return err
	}
	defer tree.Close()
	salt := make([]byte, 32) // as long as that of the usual tools
	root, treeSize, err := verity.Build(ctx, data, size, salt, [16]byte{1}, tree)
	if err != nil {
		return err
	}
	ours := func() error { return verity.Verify(ctx, data, size, tree, treeSize, root, nil) }
	var theirs func() error
	if _, err := exec.LookPath("veritysetup"); err == nil {
		theirs = tool(ctx, "veritysetup", "verify", dataPath, treePath, ddi.HashString(root))
	}
	return row(fmt.Sprintf("verify %d MiB / veritysetup", size>>20), "at least 1.8x as fast on 2 cores", ours, theirs)
}

func benchBuild(ctx context.Context, dir string, size int64) error {
	tree := filepath.Join(dir, "tree.d")
	if err := os.MkdirAll(filepath.Join(tree, "usr/bin"), 0o755); err != nil {
		return err
	}
	if err := noise(filepath.Join(tree, "usr/bin/tridentd"), size); err != nil {
		return err
	}
	key, cert, err := makeKey(dir)
	if err != nil {
		return err
	}
	raw := filepath.Join(dir, "ours.raw")
	ours := func() error {
		_, err := ddi.Build(ctx, raw, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(0, 0), Key: key, Cert: cert})
		return err
	}
	return row(fmt.Sprintf("build %d MiB / systemd-repart", size>>20), "at least 2x as fast", ours, repart(ctx, dir))
}

// repart is nil where there is no systemd-repart that makes an image.
func repart(ctx context.Context, dir string) func() error {
	args := func(dir string) []string {
		return []string{
			"--offline=yes", "--make-ddi=sysext", "--copy-source=" + dir + "/tree.d", "--architecture=x86-64",
			"--private-key=" + dir + "/key", "--certificate=" + dir + "/crt", dir + "/theirs.raw",
		}
	}
	again := func(f func() error) func() error {
		return func() error {
			_ = os.Remove(filepath.Join(dir, "theirs.raw"))
			return f()
		}
	}
	help, err := run.Output(ctx, run.Command{Path: "systemd-repart", Args: []string{"--help"}})
	if err == nil && strings.Contains(string(help), "--make-ddi") {
		return again(tool(ctx, "systemd-repart", args(dir)...))
	}
	root := os.Getenv("TRIDENT_TRIXIE_TREE")
	if root == "" || os.Getuid() != 0 {
		return nil
	}
	const script = `set -e
mount --bind "$2" "$1/mnt"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1
shift 2
exec chroot "$root" env TMPDIR=/mnt systemd-repart "$@"`
	return again(tool(ctx, "unshare", append([]string{"--mount", "sh", "-c", script, "sh", root, dir}, args("/mnt")...)...))
}

func tool(ctx context.Context, name string, args ...string) func() error {
	return func() error {
		_, err := run.Output(ctx, run.Command{Path: name, Args: args})
		return err
	}
}

// noise writes bytes that do not compress, the same each time.
func noise(path string, size int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := io.CopyN(w, rand2.NewChaCha8([32]byte{}), size); err != nil {
		return err
	}
	return w.Flush()
}

func makeKey(dir string) (*rsa.PrivateKey, *x509.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Benchmark"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	for name, block := range map[string]*pem.Block{
		"key": {Type: "PRIVATE KEY", Bytes: pkcs8}, "crt": {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, nil, err
		}
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}
