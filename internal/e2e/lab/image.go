package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/trident-project/trident/internal/errkind"
)

// Base is a base image in the cache. Guests never write to it.
type Base struct {
	dir string
	key string
}

// The files of a base image's folder.
const (
	diskFile   = "disk.img"
	kernelFile = "vmlinux"
	initrdFile = "initrd.img"
	clientKey  = "client_key"
	hostKey    = "host_key.pub"
)

func (b *Base) path(name string) string { return filepath.Join(b.dir, name) }

// Image returns the base image of a recipe, which it makes unless this machine
// has it. Making one takes root and about a minute and a half.
func Image(ctx context.Context, r Recipe) (*Base, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	dir, err := once(ctx, key, func(dir string) error { return makeImage(ctx, r, dir) })
	if err != nil {
		return nil, fmt.Errorf("make lab image %s: %w", r.Name, err)
	}
	return &Base{dir: dir, key: key}, nil
}

func makeImage(ctx context.Context, r Recipe, dir string) error {
	if os.Geteuid() != 0 {
		err := errkind.Errorf(errkind.Denied, "debootstrap makes device nodes and changes its root folder, which only root may do")
		return errkind.WithHint(err, "run it once as root (or with sudo); the image is kept for later")
	}
	err := needTools(map[string]string{"debootstrap": "debootstrap", "mkfs.ext4": "e2fsprogs", "zstd": "zstd"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	tree := filepath.Join(dir, "tree")
	if err := debootstrap(ctx, r, tree); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return layTree(tree) },
		func() error { return trim(ctx, tree) },
		func() error { return installKeys(tree, dir) },
		func() error { return extractKernel(ctx, tree, filepath.Join(dir, kernelFile)) },
		func() error { return makeInitrd(ctx, tree, filepath.Join(dir, initrdFile)) },
		func() error { return settleStamps(tree) },
		func() error { return makeExt4(ctx, tree, filepath.Join(dir, diskFile), int64(r.SizeMB)<<20) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return os.RemoveAll(tree)
}

func debootstrap(ctx context.Context, r Recipe, tree string) error {
	args := []string{
		"--variant=minbase", "--include=" + strings.Join(r.Packages, ","),
		r.Suite, tree, mirror(os.DirFS("/etc/apt")),
	}
	const scripts = "/usr/share/debootstrap/scripts/"
	if _, err := os.Stat(scripts + r.Suite); err != nil {
		args = append(args, scripts+"sid") // a suite newer than this machine's debootstrap
	}
	_, err := tool(ctx, true, "debootstrap", args...)
	return err
}

// layTree puts the lab's own configuration over the tree.
func layTree(tree string) error {
	laid, err := fs.Sub(guest, "guest/tree")
	if err != nil {
		return err
	}
	err = fs.WalkDir(laid, ".", func(path string, d fs.DirEntry, err error) error {
		target := filepath.Join(tree, path)
		if err != nil || d.IsDir() {
			return cmpErr(err, func() error { return os.MkdirAll(target, 0o755) })
		}
		data, err := fs.ReadFile(laid, path)
		return cmpErr(err, func() error { return os.WriteFile(target, data, 0o644) })
	})
	if err != nil {
		return fmt.Errorf("lay the lab's configuration over the tree: %w", err)
	}
	masks := map[string][]string{"etc/systemd/system": maskedUnits()}
	for _, g := range maskedGenerators() {
		masks["etc/systemd/system-generators"] = append(masks["etc/systemd/system-generators"], "systemd-"+g+"-generator")
	}
	for folder, names := range masks {
		if err := os.MkdirAll(filepath.Join(tree, folder), 0o755); err != nil {
			return err
		}
		for _, name := range names {
			path := filepath.Join(tree, folder, name)
			_ = os.Remove(path)
			if err := os.Symlink("/dev/null", path); err != nil {
				return fmt.Errorf("mask %s: %w", name, err)
			}
		}
	}
	return nil
}

func cmpErr(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// trim enables what Debian's presets would and drops what a guest never reads.
func trim(ctx context.Context, tree string) error {
	if _, err := tool(ctx, true, "chroot", tree, "systemctl", "enable", "systemd-sysext.service", "ssh.service"); err != nil {
		return err
	}
	for _, pattern := range []string{
		"var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "usr/share/doc", "usr/share/man", "usr/share/locale",
		"etc/init.d/*", "etc/ssh/ssh_host_*", "boot/initrd.img*",
	} {
		found, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("trim the tree: %w", err)
			}
		}
	}
	return os.MkdirAll(filepath.Join(tree, "var/log/journal"), 0o755)
}

// installKeys makes the pair of keys that a guest and this machine know each other by.
func installKeys(tree, dir string) error {
	hostPublic, hostPrivate, err := newKey()
	if err != nil {
		return err
	}
	clientPublic, clientPrivate, err := newKey()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(tree, "root/.ssh"), 0o700); err != nil {
		return err
	}
	for path, data := range map[string][]byte{
		filepath.Join(tree, "etc/ssh/ssh_host_ed25519_key"): hostPrivate,
		filepath.Join(tree, "root/.ssh/authorized_keys"):    clientPublic,
		filepath.Join(dir, hostKey):                         hostPublic,
		filepath.Join(dir, clientKey):                       clientPrivate,
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("install the guest's keys: %w", err)
		}
	}
	return nil
}

func newKey() (public, private []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, nil, err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return ssh.MarshalAuthorizedKey(sshPub), pem.EncodeToMemory(block), nil
}

// settleStamps tells systemd that /etc and /var are in step with /usr
// (systemd-update-done.service(8)), so that no boot rebuilds caches.
func settleStamps(tree string) error {
	at := time.Now().Add(24 * time.Hour)
	for _, name := range []string{"etc/.updated", "var/.updated"} {
		path := filepath.Join(tree, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(path, at, at); err != nil {
			return err
		}
	}
	return nil
}

// makeExt4 makes a file system of a folder without mounting anything.
func makeExt4(ctx context.Context, tree, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = tool(ctx, false, "mkfs.ext4", "-q", "-F", "-d", tree, path)
	return err
}
