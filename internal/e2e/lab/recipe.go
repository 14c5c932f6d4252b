package lab

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// guest has the files that the lab adds to a debootstrapped tree: tree/ is copied over it,
// masked lists the units and generators that guests do not have, and init is the first
// process.
//
//go:embed all:guest
var guest embed.FS

// Recipe says what a base image is made of.
type Recipe struct {
	Name     string   // of the image, and in messages
	Suite    string   // of Debian
	Packages []string // besides the essential ones
	SizeMB   int      // of the root file system; 0 for one that is only taken as a tree
	Fstab    bool     // what /etc/fstab says is mounted; the guests' own says nothing
}

// Trixie is Debian 13: systemd 257. Every scenario runs on it.
func Trixie() Recipe {
	return Recipe{Name: "trixie", Suite: "trixie", Packages: append(packages(), forTPM()...), SizeMB: 2048}
}

// Forky is Debian testing, which has the newest systemd of Debian.
func Forky() Recipe {
	return Recipe{Name: "forky", Suite: "forky", Packages: packages(), SizeMB: 2048}
}

// Networked is Debian 13 with netplan. It is a recipe of its own because netplan's generator
// slows every reload of systemd down, and because the other scenarios need a host without
// netplan.
func Networked() Recipe {
	// debootstrap does not resolve virtual packages, so the list has real packages only.
	more := []string{"netplan.io", "python3-cffi-backend"}
	return Recipe{Name: "networked", Suite: "trixie", Packages: append(packages(), more...), SizeMB: 2048}
}

// Podman is Debian 13 with podman, which runs containers without a daemon of its own.
func Podman() Recipe {
	// netavark and golang-github-containers-image stand for a virtual package each.
	more := []string{"podman", "crun", "conmon", "netavark", "golang-github-containers-common", "golang-github-containers-image"}
	return Recipe{Name: "podman", Suite: "trixie", Packages: append(packages(), more...), SizeMB: 2048}
}

// Shares is Debian 13 with the servers and the clients of NFS and SMB.
func Shares() Recipe {
	more := []string{"nfs-kernel-server", "nfs-common", "samba", "cifs-utils"}
	return Recipe{Name: "shares", Suite: "trixie", Packages: append(packages(), more...), SizeMB: 2048}
}

// Installed is Debian 13 as the tests install it: with a boot loader, besides the packages
// of a guest.
func Installed() Recipe {
	more := []string{"systemd-boot-efi", "systemd-ukify", "python3-pefile", "python3-cffi-backend", "netplan-generator", "dracut-core", "cpio"}
	return Recipe{Name: "installed", Suite: "trixie", Packages: slices.Concat(packages(), forTPM(), more), Fstab: true}
}

// forTPM returns the packages of Debian 13 that unlock a volume with a TPM. systemd loads the
// libraries by name, so no package depends on them.
func forTPM() []string {
	return []string{"systemd-cryptsetup", "libtss2-esys-3.0.2-0t64", "libtss2-mu-4.0.1-0t64", "libtss2-rc0t64", "libtss2-tcti-device0t64"}
}

func packages() []string {
	return []string{
		"systemd", "systemd-sysv", "systemd-container", "systemd-repart", "dbus", "udev", "kmod", "dmsetup",
		"cryptsetup-bin", "openssh-server", "rpm", "iproute2", "util-linux", "e2fsprogs", "zstd", "busybox-static",
		"dosfstools", "xfsprogs", "fdisk", "efibootmgr", "gpg", "mdadm",
		"linux-image-cloud-amd64",
	}
}

// maskedGenerators returns generators that only cost time at each boot and daemon-reload.
func (r Recipe) maskedGenerators() []string {
	list := strings.Fields("debug getty gpt-auto hibernate-resume import rc-local run ssh system-update sysv tpm2")
	if !r.Fstab {
		list = append(list, "fstab")
	}
	return list
}

func maskedUnits() []string {
	list, err := guest.ReadFile("guest/masked")
	if err != nil {
		return nil // the list is compiled in
	}
	return strings.Fields(string(list))
}

// key returns the name of an image in the cache. The name changes with the content.
func (r Recipe) key() (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(r); err != nil {
		return "", err
	}
	fmt.Fprintln(h, r.maskedGenerators())
	err := fs.WalkDir(guest, "guest", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := guest.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(data), data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash the recipe %s: %w", r.Name, err)
	}
	return r.Name + "-" + hex.EncodeToString(h.Sum(nil))[:12], nil
}

func sortedUnique(words []string) string {
	words = slices.Clone(words)
	slices.Sort(words)
	return strings.Join(slices.Compact(words), " ")
}
