package ddi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

// listing describes every file below fsys, owner aside, with its content.
func listing(tb testing.TB, fsys fs.FS) []string {
	tb.Helper()
	var out []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s %d", info.Mode(), p, info.ModTime().Unix())
		switch d.Type() {
		case 0:
			b, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %.12q", len(b), b)
		case fs.ModeSymlink:
			target, err := fs.ReadLink(fsys, p)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestAnImageHoldsUsrAndOptOfTheTree(t *testing.T) {
	path, root := built(t, sample(t))
	m := openBytes(t, readFile(t, path))
	if m.RootHash() != root || m.Arch() != AMD64 || m.Signature() != nil {
		t.Errorf("opened as %s, %x, signature %v", m.Arch(), m.RootHash(), m.Signature())
	}
	if err := m.VerifyTree(t.Context(), nil); err != nil {
		t.Error(err)
	}
	want := []string{
		"drwxr-xr-x . 1700000000",
		"drwxr-xr-x opt 1700000000",
		"drwxr-xr-x opt/vendor 1700000000",
		"drwxr-xr-x usr 1700000000",
		"drwxr-xr-x usr/bin 1700000000",
		"Lrwxrwxrwx usr/bin/trident 1700000000 -> tridentd",
		`-rwxr-xr-x usr/bin/tridentd 1700000000 800000 "trident trid"`,
		"drwxr-xr-x usr/lib 1700000000",
		"drwxr-xr-x usr/lib/extension-release.d 1700000000",
		`-rw-r--r-- usr/lib/extension-release.d/extension-release.trident 1700000000 26 "ID=_any\nSYSE"`,
		"drwxr-xr-x usr/lib/systemd 1700000000",
		"drwxr-xr-x usr/lib/systemd/system 1700000000",
		"Lrwxrwxrwx usr/lib/systemd/system/masked.service 1700000000 -> /dev/null",
		"drwxr-xr-x usr/share 1700000000",
		`-rw-r--r-- usr/share/block 1700000000 4096 "trident trid"`,
		`-rw-r--r-- usr/share/empty 1700000000 0 ""`,
	}
	if diff := cmp.Diff(want, listing(t, mustFS(t, m))); diff != "" {
		t.Error(diff)
	}
}

func TestTheSameTreeMakesTheSameBytes(t *testing.T) {
	one, two := sample(t), sample(t)
	err := filepath.WalkDir(two, func(p string, d fs.DirEntry, err error) error {
		if d.Type() == fs.ModeSymlink {
			return err
		}
		return errors.Join(err, os.Chtimes(p, time.Now(), time.Unix(12345, 678)))
	})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := built(t, one)
	b, _ := built(t, two)
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("two builds of one tree differ")
	}
	path := filepath.Join(t.TempDir(), "later.raw")
	later, err := Build(t.Context(), path, BuildOptions{Tree: one, Arch: AMD64, Epoch: epoch.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if openBytes(t, readFile(t, a)).RootHash() == later {
		t.Error("another SOURCE_DATE_EPOCH made the same root hash")
	}
}

func TestEachImageHasItsOwnIdentity(t *testing.T) {
	a, _ := built(t, writeTree(t, map[string]string{"usr/a": "1"}))
	b, _ := built(t, writeTree(t, map[string]string{"usr/a": "2"}))
	one, two := openBytes(t, readFile(t, a)), openBytes(t, readFile(t, b))
	if one.Table().DiskID == two.Table().DiskID {
		t.Error("two images have one disk GUID")
	}
	uuid := func(path string) []byte { return readFile(t, path)[headSize+uuidInSB:][:16] }
	if bytes.Equal(uuid(a), uuid(b)) || bytes.Equal(uuid(a), make([]byte, 16)) {
		t.Errorf("file system UUIDs %x and %x", uuid(a), uuid(b))
	}
}

func TestABuildRefusesSpecialFiles(t *testing.T) {
	file := map[string]string{"usr/lib/x": "x"}
	tests := []struct {
		name  string
		files map[string]string
		spoil func(dir string) error
		want  string
	}{
		{"a setuid program", file, func(dir string) error { return os.Chmod(dir+"/usr/lib/x", 0o755|fs.ModeSetuid) }, "usr/lib/x has special permissions (u"},
		{"a setgid folder", file, func(dir string) error { return os.Chmod(dir+"/usr/lib", 0o755|fs.ModeSetgid) }, "usr/lib has special permissions (g"},
		{"a pipe", file, func(dir string) error { return syscall.Mkfifo(dir+"/usr/lib/p", 0o644) }, "usr/lib/p is a named pipe: an image can have only files"},
		{"a socket", file, func(dir string) error {
			l, err := net.Listen("unix", dir+"/usr/s")
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "usr/s is a socket"},
		{"an absolute link", map[string]string{"usr/lib/x": "-> /usr/lib/y"}, nil, "usr/lib/x is a link to the absolute path /usr/lib/y"},
		{"a link out of the tree", map[string]string{"usr/lib/x": "-> ../../../etc/passwd"}, nil, "usr/lib/x is a link to ../../../etc/passwd, which leaves the tree"},
		{"a tree of other folders", map[string]string{"etc/x": "x"}, nil, "has neither usr nor opt"},
		{"a link for usr", map[string]string{"system/x": "x", "usr": "-> system"}, nil, "usr is not a folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeTree(t, tt.files)
			if tt.spoil != nil {
				if err := tt.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(t.TempDir(), "x.raw")
			_, err := Build(t.Context(), path, BuildOptions{Tree: dir, Arch: AMD64, Epoch: epoch})
			if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Invalid {
				t.Errorf("got %v (%s), want %s", err, errkind.Of(err), tt.want)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestABuildRefusesOptionsItDoesNotKnow(t *testing.T) {
	dir := writeTree(t, map[string]string{"usr/x": "x"})
	for _, o := range []BuildOptions{
		{Tree: dir, Arch: "riscv64", Epoch: epoch},
		{Tree: dir, Arch: AMD64, Epoch: time.Unix(-1, 0)},
		{Tree: dir, Arch: AMD64, Epoch: epoch, Key: rsaKey(t)},
	} {
		if _, err := Build(t.Context(), filepath.Join(t.TempDir(), "x.raw"), o); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s, %s: %v", o.Arch, o.Epoch, err)
		}
	}
}

func TestABuildStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "x.raw")
	_, err := Build(ctx, path, BuildOptions{Tree: sample(t), Arch: AMD64, Epoch: epoch})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image is there: %v", err)
	}
}

func TestManyFilesNeedFewDescriptors(t *testing.T) {
	files := map[string]string{}
	for i := range 3000 {
		files[fmt.Sprintf("usr/share/many/%04d", i)] = fmt.Sprint(i)
	}
	dir := writeTree(t, files)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) })
	path, _ := built(t, dir)
	got, err := fs.ReadFile(mustFS(t, openBytes(t, readFile(t, path))), "usr/share/many/2999")
	if err != nil || string(got) != "2999" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCompressionNeedsMkfsErofs(t *testing.T) {
	missing := run.Func(func(context.Context, string, ...string) ([]byte, error) {
		return nil, errkind.Errorf(errkind.Precondition, "run mkfs.erofs: %w", exec.ErrNotFound)
	})
	_, err := Build(t.Context(), filepath.Join(t.TempDir(), "x.raw"), BuildOptions{Tree: sample(t), Arch: AMD64, Epoch: epoch, Compress: true, Tools: missing})
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(errkind.Hint(err), "erofs-utils") {
		t.Errorf("got %v, hint %q", err, errkind.Hint(err))
	}
}

func TestMkfsErofsGetsOnlyWhatGoesIn(t *testing.T) {
	var saw []string
	fake := run.Func(func(_ context.Context, _ string, args ...string) ([]byte, error) {
		stage, image := args[len(args)-1], args[len(args)-2]
		saw = listing(t, os.DirFS(stage))
		return nil, os.WriteFile(image, make([]byte, 5000), 0o600)
	})
	path := filepath.Join(t.TempDir(), "x.raw")
	if _, err := Build(t.Context(), path, BuildOptions{Tree: sample(t), Arch: ARM64, Epoch: epoch, Compress: true, Tools: fake}); err != nil {
		t.Fatal(err)
	}
	plain, _ := built(t, sample(t))
	if diff := cmp.Diff(listing(t, mustFS(t, openBytes(t, readFile(t, plain)))), saw); diff != "" {
		t.Error(diff)
	}
	m := openBytes(t, readFile(t, path))
	if err := m.VerifyTree(t.Context(), nil); err != nil || m.Arch() != ARM64 {
		t.Errorf("%s: %v", m.Arch(), err)
	}
}

func TestCompressedImagesAreReproducible(t *testing.T) {
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skip("mkfs.erofs is not installed")
	}
	image := func() []byte {
		path := filepath.Join(t.TempDir(), "x.raw")
		if _, err := Build(t.Context(), path, BuildOptions{Tree: sample(t), Arch: AMD64, Epoch: epoch, Compress: true}); err != nil {
			t.Fatal(err)
		}
		return readFile(t, path)
	}
	a, b := image(), image()
	if !bytes.Equal(a, b) {
		t.Error("two compressed builds of one tree differ")
	}
	if len(a) > 200_000 {
		t.Errorf("%d bytes are not compressed", len(a))
	}
	plain, _ := built(t, sample(t))
	if diff := cmp.Diff(listing(t, mustFS(t, openBytes(t, readFile(t, plain)))), listing(t, mustFS(t, openBytes(t, a)))); diff != "" {
		t.Errorf("the compressed files differ: %s", diff)
	}
}
