package extension

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/volume"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/damage"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/gpt"
)

const goodText = "ID=debian\nVERSION_ID=13\nARCHITECTURE=x86-64\nSYSEXT_ID=app\n"

func withRelease(name, text string, more ...string) fstest.MapFS {
	files := fstest.MapFS{Sysext.releaseFile(name): {Data: []byte(text), Mode: 0o644}}
	for _, file := range more {
		files[file] = &fstest.MapFile{Mode: 0o644}
	}
	return files
}

// inspectBytes inspects an image on a Debian 13 for x86-64.
func inspectBytes(t testing.TB, class Class, data []byte, mount volume.Mounter) (inspection, error) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	return inspect(context.Background(), verified{File: f, whole: f}, class, amd64, mount)
}

// moved lets the second partition begin where the first does.
func moved(t *testing.T, image []byte) []byte {
	t.Helper()
	table, err := gpt.Read(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return rewritten(t, image, func(entries []byte) {
		binary.LittleEndian.PutUint64(entries[128+32:], table.Partitions[0].First)
	})
}

// rewritten edits the entries of the first table and makes its checksums right;
// the second table is left to contradict it.
func rewritten(t *testing.T, image []byte, edit func(entries []byte)) []byte {
	t.Helper()
	out := slices.Clone(image)
	edit(out[1024 : 1024+128*128])
	fixTable(out)
	return out
}

func TestAnImageIsReadByItsFormat(t *testing.T) {
	signed := gptOf(t, part{rootAMD64, erofsOf(t, withRelease("app", goodText))}, part{rootSigAMD64, []byte("{}")})
	got, err := inspectBytes(t, Sysext, signed, noMounter)
	if err != nil {
		t.Fatal(err)
	}
	if got.release.Name != "app" || got.release.SysextID != "app" || string(got.text) != goodText || got.facts != (Facts{"erofs", "", true}) {
		t.Errorf("got %+v", got)
	}
}

func TestAnImageWithATreeIsVerifiedWhole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tree", Sysext.releaseFile("app"))
	if err := errors.Join(hosttest.MkdirAll(filepath.Dir(file)), os.WriteFile(file, []byte(goodText), 0o644)); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "app.raw")
	hosttest.MakeReadable(t, filepath.Join(dir, "tree"))
	root, err := ddi.Build(t.Context(), image, ddi.BuildOptions{Tree: filepath.Join(dir, "tree"), Arch: ddi.AMD64, Epoch: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := inspectBytes(t, Sysext, data, noMounter)
	if err != nil || got.facts.RootHash != ddi.HashString(root) {
		t.Fatalf("got %+v, %v", got.facts, err)
	}
	at := bytes.Index(data, []byte(goodText))
	data[at+len(goodText)-2] ^= 1 // SYSEXT_ID is another one
	if _, err := inspectBytes(t, Sysext, data, noMounter); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "verify image") {
		t.Errorf("a changed byte: %v", err)
	}
}

func TestABrokenImageIsRefusedByName(t *testing.T) {
	good := erofsOf(t, withRelease("app", goodText))
	whole := gptOf(t, part{rootAMD64, good})
	two := gptOf(t, part{rootAMD64, good}, part{linuxHome, good})
	usr := erofsOf(t, fstest.MapFS{"lib/extension-release.d/extension-release.app": {Data: []byte(goodText), Mode: 0o644}})
	confText := "ID=_any\nCONFEXT_ID=app\n"
	confext := erofsOf(t, fstest.MapFS{Confext.releaseFile("app"): {Data: []byte(confText), Mode: 0o644}})
	linkTo := func(name, target string) fstest.MapFS {
		return fstest.MapFS{name: {Mode: fs.ModeSymlink | 0o777, Data: []byte(target)}, "usr/x": {Mode: 0o644}}
	}
	bare := func(files fstest.MapFS) []byte { return erofsOf(t, files) }
	claims := slices.Clone(good)
	binary.LittleEndian.PutUint32(claims[1024+36:], 1<<20)
	for _, c := range []struct {
		title string
		class Class
		image []byte
		want  string
		kind  errkind.Kind
	}{
		{"a good one", Sysext, whole, "", ""},
		{"a good one without partitions", Sysext, good, "", ""},
		{"for usr alone", Sysext, gptOf(t, part{usrAMD64, usr}), "", ""},
		{"a good confext", Confext, gptOf(t, part{rootAMD64, confext}), "", ""},

		{"empty", Sysext, nil, "it is an empty file, not an extension image", errkind.Invalid},
		{"a web page", Sysext, []byte("<html>404</html>"), "it is an HTML or XML page, not an extension image", errkind.Invalid},
		{"nothing that is known", Sysext, []byte{0x80, 1, 2, 3}, "no partition table and no file system", errkind.Corrupt},
		{"cut off in its partition", Sysext, whole[:24<<10], "a partition ends in sector", errkind.Corrupt},
		{"cut off in its table", Sysext, whole[:700], "damaged partition table", errkind.Corrupt},
		{"cut off without partitions", Sysext, good[:4096], "in a partition of 4096", errkind.Corrupt},
		{"a file system that claims more than there is", Sysext, gptOf(t, part{rootAMD64, claims}), "has a file system (erofs) of ", errkind.Corrupt},
		{"overlapping partitions", Sysext, moved(t, two), "partitions that overlap", errkind.Corrupt},
		{"two root partitions", Sysext, gptOf(t, part{rootAMD64, good}, part{rootAMD64, good}), "not exactly one partition for root or usr", errkind.Incompatible},
		{"no root partition", Sysext, gptOf(t, part{linuxHome, good}), "not exactly one partition", errkind.Incompatible},
		{"partitions of another architecture", Sysext, gptOf(t, part{rootARM64, good}), `the architecture "arm64" only`, errkind.Incompatible},
		{"encrypted", Sysext, append([]byte("LUKS\xba\xbe"), make([]byte, 4096)...), "it is an encrypted volume (LUKS), not an extension image", errkind.Invalid},
		{"an encrypted partition", Sysext, gptOf(t, part{rootAMD64, append([]byte("LUKS\xba\xbe"), make([]byte, 4090)...)}), "the image is encrypted", errkind.Unsupported},
		{"a disk that boots by its MBR", Sysext, append(make([]byte, 510), "\x55\xaa"...), "an MBR partition table", errkind.Invalid},
		{"a disk of a whole system", Sysext, gptOf(t, part{"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", good}, part{rootAMD64, good}, part{rootAMD64, good}), "a raw disk image of a whole system", errkind.Invalid},

		{"no extension-release", Sysext, bare(fstest.MapFS{"usr/bin/x": {Mode: 0o755}}), "has no usr/lib/extension-release.d/extension-release.NAME", errkind.Corrupt},
		{"a confext for a sysext", Sysext, confext, "is a confext, not a sysext: its extension-release is in etc/", errkind.Corrupt},
		{"a sysext for a confext", Confext, good, "is a sysext, not a confext", errkind.Corrupt},
		{"a confext for usr alone", Confext, gptOf(t, part{usrAMD64, usr}), "cannot be a confext", errkind.Corrupt},
		{"two of them", Sysext, bare(withRelease("app", goodText, Sysext.releaseFile("b"))), "has 2 files in usr/lib/extension-release.d (extension-release.app, extension-release.b", errkind.Corrupt},
		{"a folder in its place", Sysext, bare(fstest.MapFS{Sysext.releaseFile("app") + "/x": {}}), "extension-release.app is not a regular file", errkind.Corrupt},
		{"a link in its place", Sysext, bare(linkTo(Sysext.releaseFile("app"), "/etc/os-release")), "extension-release.app is not a regular file", errkind.Corrupt},
		{"a link on the way", Sysext, bare(linkTo("usr/lib", "/usr/lib")), "usr/lib is not a folder", errkind.Corrupt},
		{"no name", Sysext, bare(withRelease("", goodText)), `"" cannot be the name`, errkind.Corrupt},
		{"a name that systemd cuts", Sysext, bare(withRelease("app.sysext", goodText)), `"app.sysext" cannot be the name`, errkind.Corrupt},
		{"an open quote", Sysext, bare(withRelease("app", "ID='x\n")), "line 1: the quote is not closed", errkind.Corrupt},
		{"a long text", Sysext, bare(withRelease("app", strings.Repeat("#", maxRelease+1))), "more than 65536 bytes", errkind.Corrupt},
		{"no SYSEXT_ID", Sysext, bare(withRelease("app", "ID=_any\n")), "extension-release.app has no SYSEXT_ID", errkind.Corrupt},
		{"no CONFEXT_ID", Confext, bare(fstest.MapFS{Confext.releaseFile("app"): {Data: []byte("ID=_any\nSYSEXT_ID=app\n")}}), "has no CONFEXT_ID", errkind.Corrupt},
		{"a whole system", Sysext, bare(withRelease("app", goodText, osRelease)), "contains usr/lib/os-release", errkind.Forbidden},

		{"another system", Sysext, bare(withRelease("app", "ID=fedora\nVERSION_ID=13\nSYSEXT_ID=app\n")), `is for the system "fedora", this host is "debian"`, errkind.Incompatible},
		{"another version", Sysext, bare(withRelease("app", "ID=debian\nVERSION_ID=12\nSYSEXT_ID=app\n")), `VERSION_ID "12" of debian, this host has "13"`, errkind.Incompatible},
		{"another architecture", Sysext, bare(withRelease("app", "ID=_any\nARCHITECTURE=arm64\nSYSEXT_ID=app\n")), `architecture "arm64", this host is "x86-64"`, errkind.Incompatible},
		{"another scope", Sysext, bare(withRelease("app", "ID=_any\nSYSEXT_SCOPE=initrd\nSYSEXT_ID=app\n")), `for the scope "initrd"`, errkind.Incompatible},
		{"another scope of a confext", Confext, bare(fstest.MapFS{Confext.releaseFile("app"): {Data: []byte(confText + "CONFEXT_SCOPE=portable\n")}}), `for the scope "portable"`, errkind.Incompatible},
	} {
		t.Run(c.title, func(t *testing.T) {
			_, err := inspectBytes(t, c.class, c.image, noMounter)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != c.kind) {
				t.Errorf("got %v (%s), want %q (%s)", err, errkind.Of(err), c.want, c.kind)
			}
		})
	}
}

type nothingToClose struct{ fs.ReadLinkFS }

func (nothingToClose) Close() error { return nil }

// What our own code does not read the kernel is asked for.
func TestAFileSystemOfAnotherKindIsMounted(t *testing.T) {
	image := make([]byte, 64<<10)
	copy(image, "hsqs")
	tree := fstest.MapFS(withRelease("app", goodText))
	for _, c := range []struct {
		image  []byte
		offset int64
	}{{image, 0}, {gptOf(t, part{rootAMD64, image}), 20480}} {
		asked := ""
		got, err := inspectBytes(t, Sysext, c.image, func(_ *os.File, offset, size int64, fstype string) (volume.Tree, error) {
			asked = fmt.Sprint(fstype, " ", offset, " ", size)
			return nothingToClose{tree}, nil
		})
		if err != nil || got.release.Name != "app" || asked != fmt.Sprint("squashfs ", c.offset, " 65536") {
			t.Errorf("%+v, %v, asked for %s", got.release, err, asked)
		}
	}
	cut := slices.Clone(image)
	binary.LittleEndian.PutUint64(cut[40:], 1<<30)
	if _, err := inspectBytes(t, Sysext, cut, noMounter); err == nil || !strings.Contains(err.Error(), "has a file system (squashfs) of 1073741824 bytes") {
		t.Errorf("cut off: %v", err)
	}
}

func TestTheKernelShowsAnExt4(t *testing.T) {
	tool, err := exec.LookPath("mkfs.ext4")
	if _, loopErr := os.Stat("/dev/loop-control"); err != nil || loopErr != nil || os.Getuid() != 0 {
		t.Skip("needs root, loop devices and mkfs.ext4")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "tree", Sysext.releaseFile("renamed"))
	if err := errors.Join(hosttest.MkdirAll(filepath.Dir(file)), os.WriteFile(file, []byte(goodText), 0o644)); err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(dir, "fs")
	if out, err := exec.Command(tool, "-q", "-d", filepath.Join(dir, "tree"), raw, "4M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	mount := volume.KernelMount
	got, err := inspectBytes(t, Sysext, gptOf(t, part{rootAMD64, data}), mount)
	if errkind.Of(err) == errkind.Unsupported {
		t.Skip(err)
	}
	if err != nil || got.release.Name != "renamed" || got.facts.FileSystem != "ext4" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := inspectBytes(t, Sysext, data[:1<<20], mount); err == nil || !strings.Contains(err.Error(), "has a file system (ext4) of 4194304 bytes") {
		t.Errorf("cut off: %v", err)
	}
}

func TestAnImageIsPlacedByItsName(t *testing.T) {
	for _, c := range []struct {
		class Class
		lax   bool
		given string
		want  string // "/…" or the end of an error
	}{
		{Sysext, false, "", "/var/lib/extensions/app.raw"},
		{Confext, true, "", "/var/lib/confexts/app.raw"},
		{Sysext, false, "/etc/extensions/app.raw", "/etc/extensions/app.raw"},
		{Sysext, false, "/.extra/sysext/app.raw", "/.extra/sysext/app.raw"},
		{Confext, false, "/usr/local/lib/confexts/app.raw", "/usr/local/lib/confexts/app.raw"},
		{Sysext, true, "/var/lib/extensions/other.raw", "/var/lib/extensions/other.raw"},
		{Sysext, false, "/var/lib/extensions/other.raw", "has to be called app.raw"},
		{Sysext, false, "/var/lib/extensions/app_1.2.raw", "/var/lib/extensions/app_1.2.raw"},
		{Sysext, false, "/var/lib/extensions/app+3-0.raw", "/var/lib/extensions/app+3-0.raw"},
		{Sysext, false, "/var/lib/extensions/app-1.2.raw", "has to be called app.raw"},
		{Confext, false, "/var/lib/confexts/other_1.2.raw", "has to be called app.raw"},
		{Sysext, false, "/var/lib/extensions/app", "must be absolute and end in .raw"},
		{Sysext, false, "var/lib/extensions/app.raw", "must be absolute"},
		{Sysext, false, "/var/lib/extensions/../x/app.raw", "must be absolute"},
		{Sysext, false, "/run/extensions/app.raw", "not in one of the folders /var/lib/extensions, /etc/extensions, /.extra/sysext"},
		{Sysext, false, "/var/lib/confexts/app.raw", "not in one of the folders"},
		{Confext, false, "/var/lib/extensions/app.raw", "not in one of the folders"},
		{Sysext, true, "/var/lib/extensions/.raw", "cannot be the name"},
		{Sysext, true, "/var/lib/extensions/.hidden.raw", "cannot be the name"},
		{Sysext, true, "/var/lib/extensions/app.sysext.raw", "cannot be the name"},
	} {
		i := inspection{release: Release{Class: c.class, Name: "app"}, lax: c.lax}
		got, err := i.target(c.class, c.given)
		if got != c.want && (err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != errkind.Invalid) {
			t.Errorf("%s %q: got %q, %v, want %q", c.class, c.given, got, err, c.want)
		}
	}
}

func FuzzInspect(f *testing.F) {
	good := erofsOf(f, withRelease("app", goodText))
	bases := [][]byte{good, gptOf(f, part{rootAMD64, good}), gptOf(f, part{usrAMD64, good}, part{rootSigAMD64, []byte("{}")})}
	for _, m := range []struct {
		offset int
		mark   string
	}{
		{512, "EFI PART"}, {1024, "\xe2\xe1\xf5\xe0"}, {0, "hsqs"}, {0, "LUKS\xba\xbe"}, {0, "XFSB"}, {1024, "\x10\x20\xf5\xf2"},
		{1024 + 56, "\x53\xef"}, {0, ""}, {4096, "EFI PART"}, {510, "\x55\xaa"},
	} {
		b := make([]byte, 8<<10)
		copy(b[m.offset:], m.mark)
		bases = append(bases, b)
	}
	for base := range bases {
		f.Add(uint8(base), []byte{})
		f.Add(uint8(base), damage.At(1024+16, 0xff))
	}
	file, err := os.CreateTemp(f.TempDir(), "")
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		data := damage.Apply(bases[int(base)%len(bases)], edits)
		fixTable(data)
		_, werr := file.WriteAt(data, 0)
		if err := errors.Join(werr, file.Truncate(int64(len(data)))); err != nil {
			t.Fatal(err)
		}
		for _, class := range []Class{Sysext, Confext} {
			got, err := inspect(context.Background(), verified{File: file, whole: file}, class, amd64, noMounter)
			if err != nil {
				continue
			}
			if to, err := got.target(class, ""); err != nil || checkPath(class, to) != nil {
				t.Errorf("%q: %v", to, err)
			}
		}
	})
}
