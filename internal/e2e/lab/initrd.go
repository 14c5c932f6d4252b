package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// one returns the only file below tree that matches the pattern.
func one(tree, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(tree, pattern))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("find %s: %d files match, want 1", pattern, len(found))
	}
	return found[0], nil
}

// extractKernel writes the kernel of the tree twice: unchanged, for firmware, and as the
// plain ELF file that QEMU starts through its PVH entry, because the emulated guest takes
// long to decompress a kernel.
func extractKernel(ctx context.Context, tree, dir string) error {
	path, err := one(tree, "boot/vmlinuz-*")
	if err != nil {
		return err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, packedKernelFile), image, 0o600); err != nil {
		return err
	}
	payload, err := kernelPayload(image)
	if err != nil {
		return fmt.Errorf("read kernel %s: %w", filepath.Base(path), err)
	}
	out := filepath.Join(dir, kernelFile)
	packed := out + ".zst"
	if err := os.WriteFile(packed, payload, 0o600); err != nil {
		return err
	}
	if _, err := tool(ctx, false, "zstd", "-q", "-d", "-f", packed, "-o", out); err != nil {
		return err
	}
	return os.Remove(packed)
}

// kernelPayload finds the compressed kernel in a bzImage: the x86 boot
// protocol (Documentation/arch/x86/boot.rst), fields setup_sects, header,
// payload_offset and payload_length. The last four bytes of the payload are
// the length of what is inside, not part of the zstd frame.
func kernelPayload(image []byte) ([]byte, error) {
	if len(image) < 0x250 || string(image[0x202:0x206]) != "HdrS" {
		return nil, errkind.Errorf(errkind.Corrupt, "not a bzImage")
	}
	setup := (int64(image[0x1f1]) + 1) * 512
	begin := setup + int64(binary.LittleEndian.Uint32(image[0x248:]))
	end := begin + int64(binary.LittleEndian.Uint32(image[0x24c:])) - 4
	if begin >= end || end > int64(len(image)) {
		return nil, errkind.Errorf(errkind.Corrupt, "payload %d..%d lies outside the file of %d bytes", begin, end, len(image))
	}
	payload := image[begin:end]
	if !bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return nil, errkind.Errorf(errkind.Unsupported, "payload is not compressed with zstd")
	}
	return payload, nil
}

// makeInitrd packs busybox, mdadm and findfs with their libraries, the drivers and the init of
// the lab.
func makeInitrd(ctx context.Context, tree, out string) error {
	init, err := guest.ReadFile("guest/init")
	if err != nil {
		return err
	}
	busybox, err := os.ReadFile(filepath.Join(tree, "usr/bin/busybox"))
	if err != nil {
		return err
	}
	files := []cpioFile{
		{"bin", 0o40755, nil}, {"dev", 0o40755, nil}, {"lib", 0o40755, nil}, {"proc", 0o40755, nil}, {"root", 0o40755, nil}, {"run", 0o40755, nil}, {"sys", 0o40755, nil},
		{"init", 0o100755, init}, {"bin/busybox", 0o100755, busybox},
	}
	more, err := withLibraries(ctx, tree, map[string]string{"bin/mdadm": "usr/sbin/mdadm", "bin/findfs": "usr/sbin/findfs"})
	if err != nil {
		return err
	}
	files = append(files, more...)
	for _, module := range []string{
		"drivers/block/virtio_blk", "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net", "drivers/md/md-mod", "drivers/md/raid1",
	} {
		data, err := readModule(ctx, tree, module)
		if err != nil {
			return err
		}
		files = append(files, cpioFile{"lib/" + filepath.Base(module) + ".ko", 0o100644, data})
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := writeCPIO(f, files); err != nil {
		_ = f.Close()
		return fmt.Errorf("write the initrd: %w", err)
	}
	return f.Close()
}

// withLibraries returns programs of the tree by their new paths, and the libraries that they
// need under the paths that ldd(1) names.
func withLibraries(ctx context.Context, tree string, programs map[string]string) ([]cpioFile, error) {
	paths := maps.Clone(programs)
	for _, program := range programs {
		said, err := tool(ctx, true, "chroot", tree, "ldd", "/"+program)
		if err != nil {
			return nil, err
		}
		for word := range strings.FieldsSeq(string(said)) {
			if strings.HasPrefix(word, "/") {
				paths[strings.TrimPrefix(word, "/")] = word
			}
		}
	}
	var files []cpioFile
	folders := map[string]bool{"bin": true, "lib": true}
	for _, to := range slices.Sorted(maps.Keys(paths)) {
		data, err := os.ReadFile(filepath.Join(tree, paths[to]))
		if err != nil {
			return nil, err
		}
		for i, c := range to {
			if c == '/' && !folders[to[:i]] {
				folders[to[:i]] = true
				files = append(files, cpioFile{to[:i], 0o40755, nil})
			}
		}
		files = append(files, cpioFile{to, 0o100755, data})
	}
	return files, nil
}

// readModule returns a kernel module as the ELF file that busybox can load.
func readModule(ctx context.Context, tree, module string) ([]byte, error) {
	path, err := one(tree, "usr/lib/modules/*/kernel/"+module+".ko*")
	if err != nil {
		return nil, err
	}
	inside, err := filepath.Rel(tree, path)
	if err != nil {
		return nil, err
	}
	switch filepath.Ext(path) {
	case ".xz":
		return tool(ctx, true, "chroot", tree, "busybox", "xzcat", "/"+inside)
	case ".zst":
		return tool(ctx, false, "zstd", "-q", "-d", "-c", path)
	default:
		return os.ReadFile(path)
	}
}

type cpioFile struct {
	name string
	mode uint32 // with the type bits
	data []byte
}

// writeCPIO writes the "newc" archive that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func writeCPIO(w io.Writer, files []cpioFile) error {
	var buf bytes.Buffer
	pad := func() { buf.Write(make([]byte, (4-buf.Len()%4)%4)) }
	for i, f := range append(files, cpioFile{name: "TRAILER!!!"}) {
		buf.WriteString("070701")
		for _, field := range []uint32{
			uint32(i + 1), f.mode, 0, 0, 1, 0, uint32(len(f.data)), 0, 0, 0, 0, uint32(len(f.name) + 1), 0,
		} {
			fmt.Fprintf(&buf, "%08x", field)
		}
		buf.WriteString(f.name + "\x00")
		pad()
		buf.Write(f.data)
		pad()
	}
	_, err := w.Write(buf.Bytes())
	return err
}
