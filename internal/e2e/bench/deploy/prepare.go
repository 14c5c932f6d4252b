package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/trident-project/trident/internal/image"
)

// prepare makes the partition, an image of it, and what is in that.
func (w *world) prepare(ctx context.Context, dir string) (packed int64, err error) {
	w.packed, w.cosi = filepath.Join(dir, "packed.zst"), filepath.Join(dir, "image.cosi")
	if err := w.prepareRaw(ctx, dir); err != nil {
		return 0, err
	}
	raw, err := os.Open(w.raw)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	kind, _ := image.ParsePartType("root", image.AMD64)
	disk, diskSize, err := image.Assemble([]image.Part{{Name: "root", Type: kind, Content: raw, Size: w.size}})
	if err != nil {
		return 0, err
	}
	cosi, err := os.Create(w.cosi)
	if err != nil {
		return 0, err
	}
	defer cosi.Close()
	_, err = image.Write(ctx, cosi, image.Spec{
		Arch: image.AMD64, OSRelease: "ID=bench\n", Disk: disk, DiskSize: diskSize, Temp: dir,
		Bootloader: image.Bootloader{Type: image.GRUB}, Mounts: []image.Mount{{Number: 1, MountPoint: "/"}},
	}, nil)
	if err != nil {
		return 0, err
	}
	return w.extract(dir)
}

// prepareRaw makes the partition.
func (w *world) prepareRaw(ctx context.Context, dir string) error {
	w.raw = filepath.Join(dir, "raw")
	tree := filepath.Join(dir, "tree")
	if err := gather(tree, w.size/8*7); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"truncate", "-s", strconv.FormatInt(w.size, 10), w.raw},
		{"mkfs.ext4", "-q", "-F", "-m", "0", "-d", tree, w.raw},
		{"rm", "-rf", tree},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// extract puts the packed partition into a file, for the tools.
func (w *world) extract(dir string) (int64, error) {
	out, err := exec.Command("tar", "-xOf", w.cosi, "--occurrence=1", "images/partition-1.rawzst").Output()
	if err != nil {
		return 0, fmt.Errorf("tar: %w", err)
	}
	return int64(len(out)), errors.Join(os.WriteFile(w.packed, out, 0o600), exec.Command("sync", "-f", dir).Run())
}

// gather copies files of /usr, up to so many bytes.
func gather(tree string, most int64) error {
	errFull := errors.New("full")
	n := 0
	err := filepath.WalkDir("/usr", func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what cannot be read is no loss
		}
		info, err := d.Info()
		if err != nil || info.Size() > most/4 {
			return nil
		}
		if most -= (info.Size() + 4095) / 4096 * 4096; most < 0 {
			return errFull
		}
		n++
		dir := filepath.Join(tree, strconv.Itoa(n/500))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return copyFile(filepath.Join(dir, strconv.Itoa(n)), name)
	})
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return nil // what cannot be read is no loss
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// attach makes the target: a loop device, or a file where that is not allowed.
func (w *world) attach(ctx context.Context, dir string) (end func() error, err error) {
	w.target = filepath.Join(dir, "target")
	f, err := os.Create(w.target)
	if err != nil {
		return nil, err
	}
	// With its blocks, so that it costs nobody's time to find them.
	_, err = io.CopyN(f, zeros{}, w.size)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	none := func() error { return nil }
	if os.Getuid() != 0 {
		return none, nil
	}
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show", w.target).Output()
	if err != nil {
		return none, nil // a container without loop devices
	}
	w.target = string(bytes.TrimSpace(out))
	return func() error { return exec.Command("losetup", "-d", w.target).Run() }, nil
}
