//go:build outside

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
)

// This file is about images, and keys, that were made by the tools of others.

// imagePrograms builds trident and tridentd once for the tests of this file, and returns
// the folder that they are in.
var imagePrograms = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../dist/test-outside-images")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false", "-o", dir+"/",
		"-ldflags", "-X github.com/trident-project/trident/internal/version.current=1.0.0", "./cmd/trident", "./cmd/tridentd")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// A workshop is a folder in which images are made, by the tools of this machine and by
// those of a tree of Debian 13, and looked at by trident.
type workshop struct {
	t             *testing.T
	dir, bin      string
	debian        string // the tree
	tridentSocket string // of the host, see serve
	hostRoot      string
}

// lacks skips a test for want of a tool; where all tools have to be there, it fails.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not there", what)
	}
	t.Skipf("%s is not there", what)
}

func newWorkshop(t *testing.T, tools ...string) *workshop {
	t.Helper()
	if os.Geteuid() != 0 {
		lacks(t, "the right to mount (root)")
	}
	for _, tool := range append(tools, "openssl", "unshare") {
		if _, err := exec.LookPath(tool); err != nil {
			lacks(t, tool)
		}
	}
	w := &workshop{t: t, dir: t.TempDir(), debian: os.Getenv("TRIDENT_TRIXIE_TREE")}
	if w.debian == "" {
		lacks(t, "a tree of Debian 13, named by TRIDENT_TRIXIE_TREE,")
	}
	for _, tool := range []string{"systemd-repart", "mkosi", "mkfs.erofs", "mksquashfs"} {
		if _, err := os.Stat(filepath.Join(w.debian, "usr/bin", tool)); err != nil {
			lacks(t, tool+" of Debian 13")
		}
	}
	var err error
	if w.bin, err = imagePrograms(); err != nil {
		t.Fatal(err)
	}
	return w
}

// run runs a program in the folder, and returns its exit code and all that it printed.
func (w *workshop) run(name string, args ...string) (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "PATH="+w.bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		w.t.Fatalf("%s %v: %v", name, args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (w *workshop) trident(args ...string) (int, string) {
	w.t.Helper()
	return w.run(filepath.Join(w.bin, "trident"), args...)
}

// sh runs a script of this machine's tools.
func (w *workshop) sh(script string, args ...string) {
	w.t.Helper()
	if code, out := w.run("sh", append([]string{"-ec", script, "sh"}, args...)...); code != 0 {
		w.t.Fatalf("%s\n%s", script, out)
	}
}

// debian13 runs a script of Debian 13's tools, for which the folder is /mnt.
func (w *workshop) debian13(script string) (int, string) {
	w.t.Helper()
	return w.run("unshare", "--mount", "sh", "-ec", `root=$1
mount --bind "$root" "$root"
mount --bind . "$root/mnt"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/var/tmp"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" sh -ec "cd /mnt; $2"`, "sh", w.debian, script)
}

func (w *workshop) write(name, text string, mode fs.FileMode) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		w.t.Fatal(err)
	}
}

// extensionTree makes the tree of an extension with a program of this machine in it.
func (w *workshop) extensionTree() {
	w.t.Helper()
	w.write("tree/usr/lib/extension-release.d/extension-release.tool", "ID=_any\nSYSEXT_ID=tool\nSYSEXT_VERSION_ID=1.2\n", 0o644)
	w.write("tree/usr/share/tool/data", strings.Repeat("compressible ", 40_000), 0o644)
	w.sh("mkdir -p tree/usr/bin && cp /bin/true tree/usr/bin/tool && chmod 755 tree/usr/bin/tool && chown -R 0:0 tree")
}

// tridentTree makes the tree of an image of Trident 2.0.0, whose daemon only answers a
// probe.
func (w *workshop) tridentTree() {
	w.t.Helper()
	w.write("own/usr/bin/tridentd", "#!/bin/sh\necho '{\"version\":\"2.0.0\",\"ok\":true}'\n", 0o755)
	w.write("own/usr/bin/trident", "trident", 0o755)
	w.write("own/usr/lib/trident/trident-rescue", "rescuer", 0o755)
	w.write("own/usr/lib/extension-release.d/extension-release.trident",
		"ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=2.0.0\nEXTENSION_RELOAD_MANAGER=1\n", 0o644)
	w.sh("chown -R 0:0 own")
}

// serve starts a daemon for a host below a folder, on which systemd does not run.
func (w *workshop) serve() {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "outside-")
	if err != nil {
		w.t.Fatal(err)
	}
	w.hostRoot, w.tridentSocket = filepath.Join(dir, "host"), filepath.Join(dir, "socket")
	for _, name := range []string{"srv", "etc", "usr/lib/trident/trust.d", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(w.hostRoot, name), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.hostRoot, "etc/os-release"), []byte("ID=debian\nVERSION_ID=13\n"), 0o644); err != nil {
		w.t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(w.bin, "tridentd"), "--root", w.hostRoot, "--socket", w.tridentSocket, "--log-level", "error")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("the daemon:\n%s", log.String())
		}
		_ = os.RemoveAll(dir)
	})
	for deadline := time.Now().Add(time.Minute); ; {
		if code, _ := w.trident("--socket", w.tridentSocket, "version"); code == 0 {
			if _, err := os.Stat(w.tridentSocket); err == nil {
				return
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the daemon does not answer:\n%s", log.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// merge has the host stage a configuration with an extension, under a name with a
// version. What the host says of the image is the result; an image that it takes is ""
// because it then looks for the systemd that is not there.
func (w *workshop) merge(image string) string {
	w.t.Helper()
	w.sh(`cp "$1" "$2/srv/x.raw"
printf 'os:\n  sysexts:\n    - url: file:///srv/x.raw\n      sha384: %s\n      path: /var/lib/extensions/tool_1.2.raw\n' "$(sha384sum "$1" | cut -d' ' -f1)" > hc.yaml`, image, w.hostRoot)
	code, out := w.trident("--socket", w.tridentSocket, "update", "hc.yaml", "--allowed-operations", "stage")
	if strings.Contains(out, "trident: update the host: check: ask for the version of systemd") {
		return ""
	}
	if code == 0 {
		w.t.Errorf("%s: staged on a host without systemd:\n%s", image, out)
	}
	return out
}

// stage has the host judge an image of Trident that a certificate vouches for, "" for one
// that it takes.
func (w *workshop) stage(image, cert string) string {
	w.t.Helper()
	w.sh(`cp "$1" "$2/usr/lib/trident/trust.d/one.crt"`, cert, w.hostRoot)
	code, out := w.trident("--socket", w.tridentSocket, "self", "stage", image)
	if code != 0 {
		return out
	}
	if code, out := w.trident("--socket", w.tridentSocket, "self", "remove", "2.0.0"); code != 0 {
		w.t.Fatalf("remove the staged image: %s", out)
	}
	return ""
}

// oneFault is how every command says why it failed.
var oneFault = regexp.MustCompile(`(?m)^trident: \S.*$`)

// judge compares what a command said with what it should say; "" is that it succeeds. No
// sound file may be called damaged.
func (w *workshop) judge(what string, code int, out, want string) {
	w.t.Helper()
	switch {
	case want == "":
		if code != 0 {
			w.t.Errorf("%s: refused:\n%s", what, out)
		}
	case code == 0 || !regexp.MustCompile(want).MatchString(out):
		w.t.Errorf("%s: exit code %d, want %q:\n%s", what, code, want, out)
	case len(oneFault.FindAllString(out, -1)) != 1:
		w.t.Errorf("%s: not one error:\n%s", what, out)
	case regexp.MustCompile(`(?i)damaged|corrupt|panic|goroutine`).MatchString(out):
		w.t.Errorf("%s: called damaged:\n%s", what, out)
	}
}

const repart = `systemd-repart --offline=yes --empty=create --size=auto --copy-source=/mnt/tree --architecture=x86-64 --private-key=k.pem --certificate=c.pem `

// repartition writes definitions for systemd-repart.
func (w *workshop) repartition(dir, root, hash string) {
	w.write(dir+"/10-root.conf", "[Partition]\nType=root\nCopyFiles=/usr/\nVerity=data\nVerityMatchKey=root\n"+root, 0o644)
	w.write(dir+"/20-hash.conf", "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n"+hash, 0o644)
	w.write(dir+"/30-sig.conf", "[Partition]\nType=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n", 0o644)
}

func TestExtensionsOfOtherBuildersAreTakenOrRefusedForWhatTheyAre(t *testing.T) {
	w := newWorkshop(t)
	w.extensionTree()
	w.serve()
	w.sh(`openssl req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN=outside -keyout k.pem -out c.pem`)
	const best = "Minimize=best\n"
	w.repartition("erofs", "Format=erofs\n"+best, "")
	w.repartition("blocks", "Format=erofs\n"+best, "VerityDataBlockSizeBytes=4096\nVerityHashBlockSizeBytes=4096\n")
	w.repartition("zstd", "Format=erofs\nCompression=zstd\n"+best, "")
	w.repartition("lz4hc", "Format=erofs\nCompression=lz4hc\n"+best, "")
	w.repartition("lzma", "Format=erofs\nCompression=lzma\n"+best, "")
	w.repartition("squashfs", "Format=squashfs\n"+best, "")
	w.repartition("squashfs-xz", "Format=squashfs\nCompression=xz\n"+best, "")
	w.repartition("ext4", "Format=ext4\nMinimize=guess\n", "")
	w.write("plain/10-root.conf", "[Partition]\nType=root\nFormat=erofs\nCopyFiles=/usr/\n", 0o644)
	w.write("mkosi/mkosi.conf", "[Distribution]\nDistribution=custom\n[Output]\nFormat=sysext\nOutput=tool\n[Content]\nExtraTrees=../tree\n", 0o644)
	const (
		bare     = "file system without a partition table"
		sectors  = "sectors of %d bytes(?s:.*)hint: .*without --sector-size"
		unsigned = "the image is not signed"
		noTree   = "there is no verity partition(?s:.*)hint: Build it with one"
		blocks   = "data blocks of 512 and hash blocks of 512 bytes, not 4096(?s:.*)hint: .*VerityDataBlockSizeBytes=4096"
		arch     = "architecture|has no place in an extension image for x86-64 or arm64"
	)
	for _, c := range []struct {
		name, script          string
		inspect, verify, host string // errors
	}{
		{"repart", repart + "--definitions=erofs x.raw", "", "", ""},
		{"repart with its own definitions", "systemd-repart --offline=yes --make-ddi=sysext --copy-source=/mnt/tree --private-key=k.pem --certificate=c.pem x.raw", "", "", ""},
		{"repart for 512", repart + "--sector-size=512 --definitions=erofs x.raw", blocks, blocks, ""},
		{"repart for 512 with blocks of 4096", repart + "--sector-size=512 --definitions=blocks x.raw", "", "", ""},
		{"repart for 2048", repart + "--sector-size=2048 --definitions=erofs x.raw", fmt.Sprintf(sectors, 2048), fmt.Sprintf(sectors, 2048), fmt.Sprintf(sectors, 2048)},
		{"repart for 4096", repart + "--sector-size=4096 --definitions=erofs x.raw", fmt.Sprintf(sectors, 4096), fmt.Sprintf(sectors, 4096), fmt.Sprintf(sectors, 4096)},
		{"repart, unsigned", strings.Replace(repart, "--private-key=k.pem --certificate=c.pem", "", 1) + "--definitions=unsigned x.raw", "", unsigned, ""},
		{"repart, without verity", repart + "--definitions=plain x.raw", noTree, noTree, ""},
		{"repart, zstd", repart + "--definitions=zstd x.raw", "", "", ""},
		{"repart, lzma", repart + "--definitions=lzma x.raw", "", "", ""},
		{"repart, lz4hc", repart + "--definitions=lz4hc x.raw", "", "", ""},
		{"repart, squashfs", repart + "--definitions=squashfs x.raw", "", "", ""},
		{"repart, squashfs with xz", repart + "--definitions=squashfs-xz x.raw", "", "", ""},
		{"repart, ext4", repart + "--definitions=ext4 x.raw", "", "", ""},
		{"repart for arm64", strings.Replace(repart, "x86-64", "arm64", 1) + "--definitions=erofs x.raw", "", "is a program for amd64, and the image is for arm64", arch},
		{"repart for riscv64", strings.Replace(repart, "x86-64", "riscv64", 1) + "--definitions=erofs x.raw", arch, arch, arch},
		{"a split image, whole", repart + "--split=yes --definitions=erofs x.raw", "", "", ""},
		{"a split image, its data", "mv x.root-x86-64.raw x.raw", bare, bare, ""},
		{"a split image, its tree", "mv x.root-x86-64-verity.raw x.raw", "a dm-verity hash tree.*\nhint: .*without --split", "a dm-verity hash tree", "a dm-verity hash tree"},
		{"a split image, its signature", "mv x.root-x86-64-verity-sig.raw x.raw", "the signature of a dm-verity root hash", "the signature of", "the signature of"},
		{"mkosi", "cd mkosi; mkosi --force build >/dev/null; mv tool.raw ../x.raw", noTree, noTree, ""},
		{"mkosi with verity", "cd mkosi; mkosi --force --verity=yes --verity-key=../k.pem --verity-certificate=../c.pem build >/dev/null; mv tool.raw ../x.raw", "", "", ""},
		{"mkosi for 4096", "cd mkosi; mkosi --force --sector-size=4096 build >/dev/null; mv tool.raw ../x.raw", fmt.Sprintf(sectors, 4096), fmt.Sprintf(sectors, 4096), fmt.Sprintf(sectors, 4096)},
		{"squashfs, gzip", "mksquashfs tree x.raw -comp gzip -quiet -no-progress", bare, bare, ""},
		{"squashfs, xz", "mksquashfs tree x.raw -comp xz -quiet -no-progress", bare, bare, ""},
		{"squashfs, zstd", "mksquashfs tree x.raw -comp zstd -quiet -no-progress", bare, bare, ""},
		{"erofs", "mkfs.erofs --quiet x.raw tree", bare, bare, ""},
		{"erofs, lz4", "mkfs.erofs --quiet -zlz4 x.raw tree", bare, bare, ""},
		{"erofs, lz4hc", "mkfs.erofs --quiet -zlz4hc,12 x.raw tree", bare, bare, ""},
		{"erofs, zstd", "mkfs.erofs --quiet -zzstd x.raw tree", bare, bare, ""},
		{"ext4", "truncate -s 4M x.raw; mkfs.ext4 -q -d tree x.raw", bare, bare, ""},
		{"erofs with its tree behind it", "mkfs.erofs --quiet x.raw tree; s=$(stat -c %s x.raw); veritysetup format --hash-offset=$s --data-blocks=$((s/4096)) x.raw x.raw >/dev/null", bare, bare, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.repartition("unsigned", "Format=erofs\nMinimize=best\n", "")
			_ = os.Remove(filepath.Join(w.dir, "unsigned/30-sig.conf"))
			if c.script == "" || !strings.HasPrefix(c.script, "mv ") {
				_ = os.Remove(filepath.Join(w.dir, "x.raw"))
			}
			make := w.debian13
			if strings.Contains(c.script, "veritysetup") { // which that tree lacks
				make = func(script string) (int, string) { return w.run("sh", "-ec", script) }
				if _, err := exec.LookPath("veritysetup"); err != nil {
					lacks(t, "veritysetup")
				}
			}
			if code, out := make(c.script); code != 0 {
				t.Fatalf("%s\n%s", c.script, out)
			}
			code, out := w.trident("sysext", "inspect", "x.raw")
			w.judge("inspect", code, out, c.inspect)
			code, out = w.trident("sysext", "verify", "x.raw", "--trust", "c.pem")
			w.judge("verify", code, out, c.verify)
			out = w.merge("x.raw")
			code = 0
			if out != "" {
				code = 1
			}
			w.judge("the host", code, out, c.host)
		})
	}
}

// Whoever has signed an image of Trident may have made it with any tool: the host reads it
// itself, or has the kernel mount it.
func TestAnImageOfTridentMayBeCompressedOrOfAnotherFileSystem(t *testing.T) {
	w := newWorkshop(t, "mkfs.erofs")
	w.tridentTree()
	w.write("own/usr/bin/trident", strings.Repeat("compressible ", 40_000), 0o755)
	w.serve()
	w.sh(`openssl req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN=outside -keyout k.pem -out c.pem`)
	for name, format := range map[string]string{
		"erofs": "erofs\n", "lz4": "erofs\nCompression=lz4\n", "zstd": "erofs\nCompression=zstd\n", "lzma": "erofs\nCompression=lzma\n",
		"squashfs": "squashfs\n", "squashfs-zstd": "squashfs\nCompression=zstd\n",
	} {
		w.repartition(name, "Minimize=best\nFormat="+format, "")
	}
	w.repartition("ext4", "Format=ext4\nMinimize=guess\n", "")
	w.write("mkosi/mkosi.conf", "[Distribution]\nDistribution=custom\n[Output]\nFormat=sysext\nOutput=trident\n[Content]\nExtraTrees=../own\n", 0o644)
	own := strings.Replace(repart, "/mnt/tree", "/mnt/own", 1)
	for _, c := range []struct{ name, script, want string }{
		{"erofs", own + "--definitions=erofs x.raw", ""},
		{"lz4", own + "--definitions=lz4 x.raw", ""},
		{"zstd", own + "--definitions=zstd x.raw", ""},
		{"lzma", own + "--definitions=lzma x.raw", ""},
		{"squashfs", own + "--definitions=squashfs x.raw", ""},
		{"squashfs with zstd", own + "--definitions=squashfs-zstd x.raw", ""},
		{"ext4", own + "--definitions=ext4 x.raw", ""},
		{"mkosi", "cd mkosi; mkosi --force --verity=yes --verity-key=../k.pem --verity-certificate=../c.pem build >/dev/null; mv trident.raw ../x.raw", ""},
		{"sectors of 4096 bytes", own + "--sector-size=4096 --definitions=erofs x.raw", "sectors of 4096 bytes(?s:.*)hint: .*without --sector-size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			_ = os.Remove(filepath.Join(w.dir, "x.raw"))
			if code, out := w.debian13(c.script); code != 0 {
				t.Fatalf("%s\n%s", c.script, out)
			}
			w.judgeOwn("x.raw", c.want)
		})
	}
	t.Run("trident sysext build --compress lz4hc", func(t *testing.T) {
		w := *w
		w.t = t
		w.sh(`trident sysext build --tree own --arch x86-64 --output ours.raw --key k.pem --cert c.pem --compress lz4hc`)
		w.judgeOwn("ours.raw", "")
	})
}

// judgeOwn has the tools and the host judge an image of Trident that c.pem vouches for.
func (w *workshop) judgeOwn(image, want string) {
	w.t.Helper()
	code, out := w.trident("sysext", "verify", image, "--trust", "c.pem")
	w.judge("verify", code, out, want)
	out, code = w.stage(image, "c.pem"), 0
	if out != "" {
		code = 1
	}
	w.judge("the host", code, out, want)
}

func TestFilesOfAnotherKindAreNamedByEveryCommand(t *testing.T) {
	w := newWorkshop(t, "qemu-img", "sfdisk", "xz", "zstd", "mkfs.vfat", "mkfs.ext4", "mcopy")
	w.extensionTree()
	w.serve()
	for name, file := range boottest.ESP(boot.AMD64, "6.12") {
		w.write("esp/"+name, string(file.Data), 0o644)
	}
	w.write("os-release", "ID=debian\nVERSION_ID=13\n", 0o644)
	w.sh(`truncate -s 40M esp.vfat && mkfs.vfat esp.vfat && mcopy -s -i esp.vfat esp/EFI ::
truncate -s 16M root.ext4 && mkfs.ext4 -q root.ext4
trident image build os.cosi --arch x86_64 --os-release os-release --partition name=esp,type=esp,file=esp.vfat,mount=/boot/efi --partition name=root,type=root,file=root.ext4,mount=/
truncate -s 64M disk.raw && printf 'label: gpt\nsize=40M,type=uefi\ntype=linux\n' | sfdisk -q disk.raw
truncate -s 64M dos.raw && printf 'label: dos\nsize=20M,type=83\n' | sfdisk -q dos.raw
for f in qcow2 vhdx vpc vmdk vdi; do qemu-img convert -O $f disk.raw disk.$f; done
qemu-img convert -O vpc -o subformat=fixed disk.raw fixed.vpc
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw stream.vmdk
trident sysext build --tree tree --arch amd64 --output tool.raw
for f in disk.raw os.cosi tool.raw; do gzip -k $f; xz -k $f; zstd -q -k $f; done
tar -cf tree.tar tree
head -c 70000 /dev/zero > zeros
: > empty
echo '<!DOCTYPE html><title>404</title>' > page.html
cp /bin/true elf
mkdir folder`)
	commands := map[string][]string{
		"an extension":         {"sysext", "inspect", "FILE"},
		"an extension, judged": {"sysext", "verify", "FILE"},
		"an extension, signed": {"sysext", "sign", "FILE", "--print-root-hash"},
		"trident itself":       {"--socket", w.tridentSocket, "self", "stage", "FILE"},
		"a system":             {"image", "inspect", "FILE"},
		"a system, judged":     {"image", "verify", "FILE"},
		"a disk":               {"image", "build", "out.cosi", "--arch", "x86_64", "--os-release", "os-release", "--disk", "FILE"},
		"os-release":           {"image", "build", "out.cosi", "--arch", "x86_64", "--os-release", "FILE", "--disk", "disk.raw"},
		"a configuration":      {"validate", "FILE"},
	}
	for file, c := range map[string]struct {
		name string   // how it is called
		good []string // the commands that take it, or have other reasons to refuse it
	}{
		"disk.qcow2":                {"a qcow2 image", nil},
		"disk.vhdx":                 {"a VHDX image", nil},
		"disk.vpc":                  {"a VHD image", nil},
		"fixed.vpc":                 {"a VHD image", nil},
		"disk.vmdk":                 {"a VMDK image", nil},
		"stream.vmdk":               {"a VMDK image", nil},
		"disk.vdi":                  {"a VDI image", nil},
		"disk.raw.gz":               {"compressed with gzip", nil},
		"os.cosi.xz":                {"compressed with xz", nil},
		"tool.raw.zst":              {"compressed with zstd", nil},
		"tree.tar":                  {"a tar archive", nil},
		"os.cosi":                   {"a COSI image of an operating system", []string{"a system", "a system, judged"}},
		"disk.raw":                  {"a raw disk image of a whole system|a disk image with a GUID partition table", []string{"a disk"}},
		"dos.raw":                   {"an MBR partition table", nil},
		"tool.raw":                  {"a disk image with a GUID partition table", []string{"an extension", "an extension, judged", "an extension, signed", "a disk", "trident itself"}},
		"root.ext4":                 {"ext4 file system without a partition table", nil},
		"zeros":                     {"nothing but zeros", nil},
		"empty":                     {"empty", []string{"a configuration"}},
		"page.html":                 {"an HTML", nil},
		"elf":                       {"a program \\(ELF\\)", nil},
		"folder":                    {"is a folder, not a regular file", nil},
		"https://example.com/x.raw": {"hint: Name a file, not a URL. Download the file first|no such host|dial|lookup|proxy", nil},
		"file:///srv/x.raw":         {"hint: .*[Nn]ame /srv/x.raw|no such file", nil},
	} {
		for title, args := range commands {
			args = append([]string{}, args...)
			for i, a := range args {
				args[i] = strings.Replace(a, "FILE", file, 1)
			}
			if strings.HasPrefix(file, "https:") && (args[0] == "image" && args[1] != "build" || strings.Contains(title, "itself")) {
				continue // which take URLs
			}
			code, out := w.trident(args...)
			taken := false
			for _, g := range c.good {
				taken = taken || g == title
			}
			if !taken {
				w.judge(fmt.Sprintf("%s in place of %s", file, title), code, out, c.name)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(w.dir, "out.cosi")); err == nil {
		t.Error("an image was made of what is none")
	}
}

// A disk of systemd-repart becomes an image, for sectors of either size, and not for
// another architecture.
func TestDisksOfRepartBecomeImages(t *testing.T) {
	w := newWorkshop(t)
	for name, file := range boottest.ESP(boot.AMD64, "6.12") {
		w.write("tree/efi/"+name, string(file.Data), 0o644)
	}
	w.write("tree/root/usr/lib/os-release", "ID=debian\nVERSION_ID=13\n", 0o644)
	w.write("defs/10-esp.conf", "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=300M\nSizeMaxBytes=300M\n", 0o644)
	w.write("defs/20-root.conf", "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/root:/\nSizeMinBytes=64M\n", 0o644)
	for _, sector := range []string{"512", "4096"} {
		t.Run(sector, func(t *testing.T) {
			w := *w
			w.t = t
			_ = os.Remove(filepath.Join(w.dir, "disk.raw"))
			if code, out := w.debian13("systemd-repart --offline=yes --empty=create --size=auto --definitions=defs --copy-source=/mnt/tree --architecture=x86-64 --sector-size=" + sector + " disk.raw"); code != 0 {
				t.Fatal(out)
			}
			args := []string{"image", "build", "x.cosi", "--arch", "x86_64", "--os-release", "tree/root/usr/lib/os-release", "--disk", "disk.raw"}
			code, out := w.trident(args...)
			w.judge("build", code, out, "")
			code, out = w.trident("image", "verify", "x.cosi")
			w.judge("verify", code, out, "")
			code, out = w.trident("image", "inspect", "x.cosi")
			w.judge("inspect", code, out, "")
			if !strings.Contains(out, "sectors of "+sector+" bytes") || strings.Contains(out, "Warning") {
				t.Error(out)
			}
			args[4] = "arm64"
			code, out = w.trident(args...)
			w.judge("build for arm64", code, out, "is a program for amd64, and the image is for arm64")
		})
	}
}

// key is a kind of key, or of certificate, or a form of either.
type kindOfKey struct {
	name   string
	script string // makes key and cert; the authority's are ca.key and ca.crt
	want   string // what build, sign, verify and the host say; "": they take it
	// form is about how the files are written, so that only who signs sees it; trust is
	// the certificate for the others then.
	form bool
	// repart is true where systemd-repart can sign with the key.
	repart bool
}

const (
	selfSigned = `openssl req -x509 -key key -days 30 -subj /CN=outside -out cert`
	aGoodKey   = `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; ` + selfSigned
)

func kindsOfKeys() []kindOfKey {
	rsa := func(bits string) string {
		return `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:` + bits + ` -out key; ` + selfSigned
	}
	ec := func(curve string) string {
		return `openssl ecparam -name ` + curve + ` -genkey -noout -out key; ` + selfSigned
	}
	of := func(options string) string { // the authority's leaf
		return `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -new -key key -subj /CN=leaf -out csr
openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -out cert ` + options
	}
	dated := func(from, to string) string {
		return `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -new -key key -subj /CN=dated -out csr
rm -rf db; mkdir db; : > db/index; echo 01 > db/serial; printf '[ca]\ndefault_ca=d\n[d]\ndatabase=db/index\nserial=db/serial\nnew_certs_dir=db\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' > ca.cnf
openssl ca -batch -config ca.cnf -in csr -keyfile ca.key -cert ca.crt -startdate ` + from + ` -enddate ` + to + ` -out cert -notext`
	}
	return []kindOfKey{
		{name: "RSA 1024", script: rsa("1024"), want: "RSA with 1024 bits", repart: true},
		{name: "RSA 2047", script: rsa("2047"), want: "RSA with 2047 bits", repart: true},
		{name: "RSA 2048", script: rsa("2048"), repart: true},
		{name: "RSA 3072", script: rsa("3072"), repart: true},
		{name: "RSA 4096", script: rsa("4096"), repart: true},
		{name: "RSA in PKCS#1", script: rsa("2048") + `; openssl rsa -in key -traditional -out pkcs1; mv pkcs1 key`},
		{name: "RSA-PSS", script: `openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out key; ` + selfSigned, want: "RSA-PSS, neither RSA nor ECDSA"},
		{name: "P-224", script: ec("secp224r1"), want: "ECDSA with 224 bits", repart: true},
		{name: "P-256", script: ec("prime256v1"), repart: true},
		{name: "P-384", script: ec("secp384r1"), repart: true},
		{name: "P-521", script: ec("secp521r1"), repart: true},
		{name: "P-256 with its parameters before it", script: `openssl ecparam -name prime256v1 -genkey -out key; ` + selfSigned},
		{name: "secp256k1", script: ec("secp256k1"), want: "curve"},
		{name: "brainpool", script: ec("brainpoolP256r1"), want: "curve"},
		{name: "Ed25519", script: `openssl genpkey -algorithm ED25519 -out key; ` + selfSigned, want: "Ed25519, neither RSA nor ECDSA"},
		{name: "Ed448", script: `openssl genpkey -algorithm ED448 -out key; ` + selfSigned, want: "Ed448, neither RSA nor ECDSA"},
		{name: "DSA", script: `openssl genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048 -out param; openssl genpkey -paramfile param -out key; ` + selfSigned, want: "DSA, neither RSA nor ECDSA", repart: true},

		{name: "an authority", script: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -x509 -key key -days 30 -subj /CN=ca -addext basicConstraints=critical,CA:TRUE -out cert`, repart: true},
		{name: "a certificate by an authority", script: of("-days 30"), repart: true},
		{name: "expired", script: dated("20200101000000Z", "20200201000000Z"), want: "was valid until 2020-02-01", repart: true},
		{name: "not yet valid", script: dated("20900101000000Z", "20910101000000Z"), want: "is not valid before 2090-01-01", repart: true},
		{name: "a certificate signed with SHA-1", script: of("-days 30 -sha1"), repart: true},
		{name: "for servers", script: `echo extendedKeyUsage=serverAuth > ext; ` + of("-days 30 -extfile ext"), repart: true},
		{name: "for encryption only", script: `echo keyUsage=critical,keyEncipherment > ext; ` + of("-days 30 -extfile ext"), repart: true},
		{name: "a subject in UTF-8", script: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -x509 -key key -days 30 -utf8 -subj '/CN=Zoë Müller 日本/O=Ünion' -out cert`, repart: true},
		{name: "no subject", script: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -x509 -key key -days 30 -subj / -out cert`, repart: true},
		{name: "serial number 0", script: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -x509 -key key -days 30 -set_serial 0 -subj /CN=zero -out cert`, repart: true},
		{name: "a serial number of 20 bytes", script: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key; openssl req -x509 -key key -days 30 -set_serial 0x7fffffffffffffffffffffffffffffffffffffff -subj /CN=long -out cert`, repart: true},

		{name: "text before the key and the certificate", script: aGoodKey + `; (echo Bag Attributes; echo; cat key) > k2; openssl x509 -in cert -text > c2; mv k2 key; mv c2 cert`},
		{name: "line ends of Windows", script: aGoodKey + `; sed -i 's/$/\r/' key cert`},
		{name: "a chain, the leaf first", script: of("-days 30") + `; cat ca.crt >> cert`},
		{name: "a chain, the authority first", script: of("-days 30") + `; cat ca.crt cert > c2; mv c2 cert`, want: "key|certificate", form: true},
		{name: "the key and the certificate in one file", script: aGoodKey + `; cat cert key > both; cp both key; openssl x509 -in cert -out trust; cp both cert`, form: true},
		{name: "an encrypted key in PKCS#8", script: aGoodKey + `; openssl pkcs8 -topk8 -in key -passout pass:x -out k2; mv k2 key`, want: "the key is encrypted\nhint: .*openssl pkey", form: true},
		{name: "an encrypted key in the old form", script: aGoodKey + `; openssl rsa -in key -aes128 -traditional -passout pass:x -out k2; mv k2 key`, want: "the key is encrypted\nhint: .*openssl pkey", form: true},
		{name: "PKCS#12", script: aGoodKey + `; openssl pkcs12 -export -in cert -inkey key -passout pass:x -out k2; cp k2 key`, want: "hint: .*openssl pkcs12", form: true},
		{name: "PKCS#12 for the certificate", script: aGoodKey + `; openssl pkcs12 -export -in cert -inkey key -passout pass:x -out k2; cp k2 cert`, want: "hint: .*openssl pkcs12", form: true},
		{name: "a key in DER", script: aGoodKey + `; openssl pkey -in key -outform der -out k2; mv k2 key`, want: "hint: .*openssl pkey -inform der", form: true},
		{name: "a certificate in DER", script: aGoodKey + `; openssl x509 -in cert -outform der -out k2; mv k2 cert`, want: "hint: .*openssl x509 -inform der", form: true},
		{name: "a certificate in PKCS#7", script: aGoodKey + `; openssl crl2pkcs7 -nocrl -certfile cert -out k2; mv k2 cert`, want: "hint: .*openssl pkcs7 -print_certs", form: true},
		{name: "a public key", script: aGoodKey + `; openssl pkey -in key -pubout -out k2; mv k2 key`, want: "hint: It is a public key", form: true},
		{name: "a request for a certificate", script: aGoodKey + `; openssl req -new -key key -subj /CN=x -out cert`, want: "hint: It is a request", form: true},
		{name: "the key of another certificate", script: aGoodKey + `; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key`, want: "key|certificate", form: true},
		{name: "an empty certificate", script: aGoodKey + `; : > cert`, want: "no PEM block", form: true},
	}
}

// Whoever builds, signs and verifies an image and the host that gets it go by one policy:
// a key that one of them refuses is refused by all, and for one reason.
func TestEveryKindOfKeyHasOneVerdict(t *testing.T) {
	w := newWorkshop(t)
	w.tridentTree()
	w.serve()
	w.write("own-repart/10-root.conf", "[Partition]\nType=root\nFormat=erofs\nCopyFiles=/usr/\nVerity=data\nVerityMatchKey=root\nMinimize=best\n", 0o644)
	w.write("own-repart/20-hash.conf", "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n", 0o644)
	w.write("own-repart/30-sig.conf", "[Partition]\nType=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n", 0o644)
	w.sh(`openssl req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN=authority -keyout ca.key -out ca.crt
trident sysext build --tree own --arch x86-64 --output unsigned.raw`)
	for _, c := range kindsOfKeys() {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.sh("rm -f key cert trust built.raw signed.raw theirs.raw\n" + c.script + "\ncp unsigned.raw signed.raw")
			code, out := w.trident("sysext", "build", "--tree", "own", "--arch", "x86-64", "--output", "built.raw", "--key", "key", "--cert", "cert")
			w.judge("build", code, out, c.want)
			code, out = w.trident("sysext", "sign", "signed.raw", "--key", "key", "--cert", "cert")
			w.judge("sign", code, out, c.want)
			if c.want != "" {
				w.sh(`test ! -e built.raw && cmp unsigned.raw signed.raw`)
			}
			trust := "cert"
			if _, err := os.Stat(filepath.Join(w.dir, "trust")); err == nil {
				trust = "trust"
			}
			var images []string
			if c.want == "" {
				images = []string{"built.raw", "signed.raw"}
			}
			if c.repart { // which signs with every key
				code, out := w.debian13("systemd-repart --offline=yes --empty=create --size=auto --definitions=own-repart --copy-source=/mnt/own --architecture=x86-64 --private-key=key --certificate=cert theirs.raw")
				if code != 0 {
					t.Fatalf("systemd-repart: %s", out)
				}
				images = append(images, "theirs.raw")
			}
			for _, image := range images {
				code, out := w.trident("sysext", "verify", image, "--trust", trust)
				w.judge("verify "+image, code, out, c.want)
				out, code = w.stage(image, trust), 0
				if out != "" {
					code = 1
				}
				w.judge("the host gets "+image, code, out, c.want)
			}
			if len(images) == 0 && !c.form { // nobody can sign with it here, but it can be named
				code, out := w.trident("sysext", "verify", "unsigned.raw", "--trust", trust)
				w.judge("verify", code, out, c.want+"|the image is not signed")
			}
		})
	}
}
