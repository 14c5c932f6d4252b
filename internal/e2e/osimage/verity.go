package osimage

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

// usr is the verified /usr of an image; the zero value is that of an image without one.
type usr struct {
	rootHash   string
	data, hash gpt.GUID // UUIDs of the file system and of the superblock of the hash tree
}

// arguments returns the arguments of the kernel with which the initrd opens and mounts /usr
// (systemd-veritysetup-generator(8)).
func (u usr) arguments() string {
	if u.rootHash == "" {
		return ""
	}
	return " usrhash=" + u.rootHash + " systemd.verity_usr_data=UUID=" + u.data.String() + " systemd.verity_usr_hash=UUID=" + u.hash.String() +
		" systemd.verity_usr_options=panic-on-corruption mount.usr=/dev/mapper/usr mount.usrfstype=ext4 mount.usrflags=ro"
}

// network is what the initrd of the lab does in other images.
const network = `[Unit]
DefaultDependencies=no
After=systemd-udev-settle.service
Wants=systemd-udev-settle.service
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link set lo up
ExecStart=ip address add 10.0.2.15/24 dev eth0
ExecStart=ip link set eth0 up
[Install]
WantedBy=sysinit.target
`

// verifyUsr makes the file system of /usr and its hash tree, and an initrd that opens it.
func (b *build) verifyUsr(ctx context.Context, data, hash gpt.GUID) (initrd string, err error) {
	unit := filepath.Join(b.tree, "usr/lib/systemd/system/lab-network.service")
	if err := os.WriteFile(unit, []byte(network), 0o644); err != nil {
		return "", err
	}
	if err := ignoring(inTree(ctx, b.tree, "systemctl", "enable", filepath.Base(unit))); err != nil {
		return "", err
	}
	if err := b.findKernel(); err != nil {
		return "", err
	}
	initrd = filepath.Join(b.dir, "initrd")
	err = ignoring(inTree(ctx, b.tree, "dracut", "--force", "--no-hostonly", "--no-early-microcode", "--kver", b.kernel, "--zstd",
		"--add", "systemd systemd-veritysetup", "--add-drivers", "virtio_blk dm-verity ext4", "/tmp/verified-initrd"))
	if err != nil {
		return "", err
	}
	tree := filepath.Join(b.dir, "usr")
	for _, c := range [][]string{
		{"mv", filepath.Join(b.tree, "tmp/verified-initrd"), initrd},
		{"mkdir", tree},
		{"cp", "-a", "--reflink=auto", filepath.Join(b.tree, "usr"), tree},
	} {
		if err := run(ctx, c[0], c[1:]...); err != nil {
			return "", err
		}
	}
	if err := removeAll(tree, forUkify()...); err != nil {
		return "", err
	}
	size, err := sizeOf(tree)
	if err != nil {
		return "", err
	}
	path, id := filepath.Join(b.dir, "usr.img"), data.String()
	if err := makeFile(path, round(size+size/6+32<<20)); err != nil {
		return "", err
	}
	err = run(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", "-U", id, "-E", "hash_seed="+id+",root_owner=0:0", "-m", "0", "-d", filepath.Join(tree, "usr"), path)
	if err != nil {
		return "", err
	}
	b.usr = usr{data: data, hash: hash}
	b.usr.rootHash, err = hashTree(ctx, path, filepath.Join(b.dir, "usr-verity.img"), hash)
	return initrd, errors.Join(err, os.RemoveAll(tree))
}

// hashTree writes the hash tree of a file, in whole MiB, and returns its root hash.
func hashTree(ctx context.Context, path, to string, id gpt.GUID) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return "", err
	}
	out, err := os.Create(to)
	if err != nil {
		return "", err
	}
	sum, size, err := verity.Build(ctx, in, info.Size(), []byte("salt of the test"), [16]byte(id), out)
	return hex.EncodeToString(sum[:]), errors.Join(err, out.Truncate(round(size)), out.Close())
}
