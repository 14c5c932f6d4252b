//go:build root

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/linux/ddi"
)

func TestSfdiskFindsOurTableInOrder(t *testing.T) {
	i := makeImages(t, false)
	if out := command(t, "sfdisk", "--verify", i.raw); !strings.Contains(out, "No errors detected") {
		t.Error(out)
	}
	var dump struct {
		PartitionTable struct {
			ID         string
			Partitions []struct {
				Start, Size             uint64
				Type, UUID, Name, Attrs string
			}
		}
	}
	must(t, json.Unmarshal([]byte(command(t, "sfdisk", "--json", i.raw)), &dump))
	table := i.image.Table()
	if got := dump.PartitionTable.ID; !strings.EqualFold(got, table.DiskID.String()) {
		t.Errorf("disk %s, not %s", got, table.DiskID)
	}
	var want, got []string
	for _, p := range table.Partitions {
		want = append(want, fmt.Sprintf("%s %s %s %d %d GUID:60", p.Type, p.ID, p.Name, p.First, p.Last-p.First+1))
	}
	for _, p := range dump.PartitionTable.Partitions {
		got = append(got, fmt.Sprintf("%s %s %s %d %d %s", strings.ToLower(p.Type), strings.ToLower(p.UUID), p.Name, p.Start, p.Size, p.Attrs))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVeritysetupVerifiesOurTree(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%v", compress), func(t *testing.T) {
			i := makeImages(t, compress)
			data, hash := i.part(t, 0), i.part(t, 1)
			command(t, "veritysetup", "verify", data, hash, ddi.HashString(i.image.RootHash()))
			info, err := os.Stat(data)
			must(t, err)
			dump := command(t, "veritysetup", "dump", hash)
			for _, want := range []string{
				"Hash type: 1", "Data block size: 4096", "Hash block size: 4096", "Hash algorithm: sha256",
				fmt.Sprintf("Data blocks: %d", info.Size()/4096),
			} {
				if !strings.Contains(strings.Join(strings.Fields(dump), " "), want) {
					t.Errorf("%q is not in\n%s", want, dump)
				}
			}
		})
	}
}

func TestOpensslVerifiesOurSignatureAsSystemdDoes(t *testing.T) {
	i := makeImages(t, false)
	sig, hash := filepath.Join(i.dir, "sig"), filepath.Join(i.dir, "hash")
	must(t, os.WriteFile(sig, i.image.Signature().PKCS7, 0o600))
	must(t, os.WriteFile(hash, []byte(ddi.HashString(i.image.RootHash())), 0o600))
	command(t, "openssl", "smime", "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", hash,
		"-nointern", "-noverify", "-certfile", filepath.Join(i.dir, "mkosi.crt"), "-out", os.DevNull)
}

func TestSystemdDissectSeesASignedExtension(t *testing.T) {
	i := makeImages(t, false)
	out := command(t, "systemd-dissect", "--no-pager", i.raw)
	for _, want := range []string{"SYSEXT_ID=trident", "✓ extension for system", "✗ extension for initrd"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 6 && f[1] == "root" && !strings.Contains(line, " signed ") {
			t.Errorf("the root partition is not called signed:\n%s", out)
		}
	}
}

func TestTheKernelMountsOurFileSystem(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%v", compress), func(t *testing.T) {
			i := makeImages(t, compress)
			data := i.part(t, 0)
			command(t, "fsck.erofs", data)
			if diff := cmp.Diff(expected(t, i.tree), mounted(t, data)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// mounted lists what the kernel finds in a file system.
func mounted(t *testing.T, data string) []string {
	t.Helper()
	dir := t.TempDir()
	command(t, "mount", "-t", "erofs", "-o", "loop,ro", data, dir)
	defer command(t, "umount", dir)
	return files(t, dir)
}

// expected lists a tree as it has to look in an image.
func expected(t *testing.T, tree string) []string {
	t.Helper()
	var out []string
	for _, line := range files(t, tree) {
		f := strings.Fields(line)
		if f[0] == "." || f[0] == "usr" || strings.HasPrefix(f[0], "usr/") {
			f[2], f[3] = "0:0", fmt.Sprint(epoch)
			out = append(out, strings.Join(f, " "))
		}
	}
	return out
}

// files describes each file: name, kind and permissions, owner, time, content.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %s %d:%d %d", name, info.Mode(), owner.Uid, owner.Gid, info.ModTime().Unix())
		switch d.Type() {
		case 0:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		out = append(out, line)
		return nil
	}))
	return out
}

// trixie runs a command in a tree of Debian 13, in which the test's folder is
// /mnt. Nothing is left of the mounts, and the tree is not written to.
func (i *images) trixie(t *testing.T, args ...string) {
	t.Helper()
	tree := os.Getenv("TRIDENT_TRIXIE_TREE")
	if tree == "" {
		t.Skip("TRIDENT_TRIXIE_TREE names no tree of Debian 13 with systemd-repart and erofs-utils")
	}
	if _, err := os.Stat(filepath.Join(tree, "usr/bin", args[0])); err != nil {
		t.Skipf("there is no %s in %s", args[0], tree)
	}
	script := `set -e
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
mount --bind "$work" "$root/mnt"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/var/tmp"
exec chroot "$root" sh -c 'cd /mnt && exec "$@"' sh "$@"`
	command(t, "unshare", append([]string{"--mount", "sh", "-c", script, "sh", tree, i.dir}, args...)...)
}

func TestOtherBuildersMakeTheSameImage(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, i *images) string
	}{
		{"systemd-repart with the recipe", func(t *testing.T, i *images) string {
			must(t, os.CopyFS(filepath.Join(i.dir, "repart"), os.DirFS("../../sysext/repart")))
			i.trixie(t, "systemd-repart", "--offline=yes", "--empty=create", "--size=auto", "--definitions=/mnt/repart",
				"--copy-source=/mnt/tree", "--seed=9d1c1d5c-2a3b-4c39-9a0e-3b8a5b1f7c11", "--architecture=x86-64",
				"--private-key=/mnt/mkosi.key", "--certificate=/mnt/mkosi.crt", "/mnt/theirs.raw")
			return "theirs.raw"
		}},
		{"systemd-repart with its own", func(t *testing.T, i *images) string {
			i.trixie(t, "systemd-repart", "--offline=yes", "--make-ddi=sysext", "--copy-source=/mnt/tree",
				"--private-key=/mnt/mkosi.key", "--certificate=/mnt/mkosi.crt", "/mnt/theirs.raw")
			return "theirs.raw"
		}},
		{"mkosi", func(t *testing.T, i *images) string {
			conf, err := os.ReadFile("../../sysext/mkosi/mkosi.conf")
			must(t, err)
			must(t, os.WriteFile(filepath.Join(i.dir, "mkosi.conf"), conf, 0o644))
			must(t, os.RemoveAll(filepath.Join(i.tree, "etc")))
			must(t, os.Rename(i.raw, filepath.Join(i.dir, "ours.raw")))
			i.raw = filepath.Join(i.dir, "ours.raw")
			i.trixie(t, "mkosi", fmt.Sprintf("--source-date-epoch=%d", epoch), "build")
			return "trident.raw"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SOURCE_DATE_EPOCH", fmt.Sprint(epoch))
			i := makeImages(t, false)
			must(t, os.Lchown(filepath.Join(i.tree, "usr/share/doc/empty"), 0, 0)) // which the others keep
			compareImages(t, i, filepath.Join(i.dir, tt.make(t, i)))
		})
	}
}

func compareImages(t *testing.T, i *images, raw string) {
	t.Helper()
	theirs := openImage(t, raw)
	must(t, theirs.VerifyTree(t.Context(), nil))
	kinds := func(m *ddi.Image) (out []string) {
		for _, p := range m.Table().Partitions {
			out = append(out, p.Type.String()+" "+p.Name)
		}
		return out
	}
	if diff := cmp.Diff(kinds(theirs), kinds(i.image)); diff != "" {
		t.Errorf("partitions: %s", diff)
	}
	data := filepath.Join(i.dir, "theirs.erofs")
	must(t, os.WriteFile(data, content(t, raw, theirs.Table().Partitions[0]), 0o600))
	if diff := cmp.Diff(mounted(t, data), mounted(t, i.part(t, 0))); diff != "" {
		t.Errorf("files: %s", diff)
	}
	// Signed by us, their image must be the one that they signed.
	before, err := os.ReadFile(raw)
	must(t, err)
	sig, err := ddi.SignRootHash(theirs.RootHash(), i.cert, i.key)
	must(t, err)
	must(t, ddi.Attach(raw, sig, i.cert))
	after, err := os.ReadFile(raw)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("our signature has other bytes than theirs")
	}
}
