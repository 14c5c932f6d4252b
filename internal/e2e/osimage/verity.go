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

// verifyingInitrd makes an initrd of dracut that opens verified file systems, with the
// modules more. It also moves what the initrd of the lab does for the network to a unit.
func (b *build) verifyingInitrd(ctx context.Context, more string) (initrd string, err error) {
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
		"--add", "systemd systemd-veritysetup "+more, "--add-drivers", "virtio_blk dm-verity ext4 overlay", "/tmp/verified-initrd"))
	if err != nil {
		return "", err
	}
	return initrd, run(ctx, "mv", filepath.Join(b.tree, "tmp/verified-initrd"), initrd)
}

// overlayModule is a module of dracut that mounts an overlay as that of Azure Linux does:
// read-only, with the upper and the work folder in the file system of the volume.
var overlayModule = map[string]string{
	"module-setup.sh": `#!/bin/bash
check() { return 0; }
installkernel() { instmods overlay; }
install() {
	inst_multiple mount mkdir
	inst_hook pre-pivot 10 "$moddir/mount-etc.sh"
}
`,
	"mount-etc.sh": `#!/bin/sh
type getarg >/dev/null 2>&1 || . /lib/dracut-lib.sh
lab_overlay=$(getarg rd.overlayfs=)
if [ -n "$lab_overlay" ]; then
	IFS=, read -r lower upper work volume <<END
$lab_overlay
END
	mkdir -p /run/lab-overlay
	mount "$volume" /run/lab-overlay || die "cannot mount $volume"
	mkdir -p "/run/lab-overlay/$upper" "/run/lab-overlay/$work"
	mount -t overlay overlay -o "ro,lowerdir=$NEWROOT/$lower,upperdir=/run/lab-overlay/$upper,workdir=/run/lab-overlay/$work" "$NEWROOT/$lower" || die "cannot mount an overlay on $lower"
fi
`,
}

// prepareRoot makes an initrd that opens a verified root, and the folders that such a root
// cannot make later.
func (b *build) prepareRoot(ctx context.Context) (initrd string, err error) {
	const module = "lab-overlay"
	dir := filepath.Join(b.tree, "usr/lib/dracut/modules.d/90"+module)
	for _, name := range []string{dir, filepath.Join(b.tree, "var/lib/trident-overlay")} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return "", err
		}
	}
	// Trident cannot remove it later, and every host would have the ID in it.
	if err := removeAll(b.tree, "var/lib/dbus/machine-id"); err != nil {
		return "", err
	}
	for name, text := range overlayModule {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return "", err
		}
	}
	return b.verifyingInitrd(ctx, module)
}

// verifyUsr makes the file system of /usr and its hash tree, and an initrd that opens it.
func (b *build) verifyUsr(ctx context.Context, data, hash gpt.GUID) (initrd string, err error) {
	if initrd, err = b.verifyingInitrd(ctx, ""); err != nil {
		return "", err
	}
	tree := filepath.Join(b.dir, "usr")
	for _, c := range [][]string{
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
