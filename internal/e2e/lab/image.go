package lab

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Base is a base image in the cache. Guests never write to it.
type Base struct {
	dir string
	key string
}

// The files of a base image's folder.
const (
	diskFile         = "disk.img"
	kernelFile       = "vmlinux"
	packedKernelFile = "vmlinuz"
	initrdFile       = "initrd.img"
	treeFolder       = "tree"
)

func (b *Base) path(name string) string { return filepath.Join(b.dir, name) }

// Image returns the base image of a recipe. It makes the image unless the cache has it,
// which needs root and takes about a minute and a half.
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

// Tree is the tree of a recipe in the cache, and an initrd that mounts the root by the UUID
// on the kernel's command line. Both are read-only for callers.
type Tree struct {
	Dir    string
	Initrd string
}

// TreeOf returns the tree of a recipe, as [Image] does the image.
func TreeOf(ctx context.Context, r Recipe) (Tree, error) {
	key, err := r.key()
	if err != nil {
		return Tree{}, err
	}
	dir, err := once(ctx, key+"-tree", func(dir string) error { return makeTree(ctx, r, dir) })
	if err != nil {
		return Tree{}, fmt.Errorf("make lab tree %s: %w", r.Name, err)
	}
	return Tree{filepath.Join(dir, treeFolder), filepath.Join(dir, initrdFile)}, nil
}

func makeImage(ctx context.Context, r Recipe, dir string) error {
	if err := makeTree(ctx, r, dir); err != nil {
		return err
	}
	tree := filepath.Join(dir, treeFolder)
	if err := extractKernel(ctx, tree, dir); err != nil {
		return err
	}
	if err := makeExt4(ctx, tree, filepath.Join(dir, diskFile), int64(r.SizeMB)<<20); err != nil {
		return err
	}
	return os.RemoveAll(tree)
}

func makeTree(ctx context.Context, r Recipe, dir string) error {
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
	known, err := keys(ctx)
	if err != nil {
		return err
	}
	tree := filepath.Join(dir, treeFolder)
	if err := debootstrap(ctx, r, tree); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return layTree(r, tree) },
		func() error { return trim(ctx, tree) },
		func() error { return installKeys(known, tree, dir) },
		func() error { return makeInitrd(ctx, tree, filepath.Join(dir, initrdFile)) },
		func() error { return settleStamps(tree) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
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

// layTree copies the configuration of the lab into the tree.
func layTree(r Recipe, tree string) error {
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
	for _, g := range r.maskedGenerators() {
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

// trim enables the units that Debian's presets enable, and removes files that a guest never
// reads.
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

// makeExt4 makes a file system from a folder without a mount.
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
