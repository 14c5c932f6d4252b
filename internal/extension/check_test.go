package extension

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/damage"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// check judges an image called NAME.raw.
func check(t *testing.T, name string, image []byte, certs ...*x509.Certificate) error {
	t.Helper()
	root := tree(t, map[string]string{"var/lib/extensions/" + name + ".raw": string(image)})
	found, err := search(root)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	return verdict(found[0], root, certs...)
}

// verdict judges f on a host for x86-64 that trusts certs.
func verdict(f discovered, root string, certs ...*x509.Certificate) error {
	return checker{inroot.FS(root), amd64, certs, false}.verdict(f)
}

func wantFault(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want) || errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == ""):
		t.Errorf("got %v (%s, hint %q), want %q", err, errkind.Of(err), errkind.Hint(err), want)
	}
}

func TestARawImageThatSystemdCannotReadIsFound(t *testing.T) {
	good := erofsOf(t, releaseNamed("foo"))
	withMark := func(offset int, mark string) []byte {
		b := make([]byte, 128<<10)
		copy(b[offset:], mark)
		return b
	}
	twoNames := fstest.MapFS{}
	for _, name := range []string{"foo", "bar"} {
		twoNames["usr/lib/extension-release.d/extension-release."+name] = &fstest.MapFile{Mode: 0o644}
	}
	withOS := releaseNamed("foo")
	withOS["usr/lib/os-release"] = &fstest.MapFile{Mode: 0o644}
	confext := fstest.MapFS{"etc/extension-release.d/extension-release.foo": {Mode: 0o644}}
	folder := fstest.MapFS{"usr/lib/extension-release.d/extension-release.foo/x": {Mode: 0o644}}
	for _, c := range []struct {
		title, name string
		image       []byte
		want        string
	}{
		{"a good one", "foo", good, ""},
		{"an empty file", "foo", nil, "extension foo (/var/lib/extensions/foo.raw) keeps systemd-sysext from merging any: it is empty"},
		{"zeros", "foo", make([]byte, 1<<20), "no partition table and no file system"},
		{"text", "foo", []byte("404 not found"), "no partition table and no file system"},
		{"squashfs", "foo", withMark(0, "hsqs"), ""},
		{"LUKS", "foo", withMark(0, "LUKS\xba\xbe"), ""},
		{"ext4", "foo", withMark(1080, "\x53\xef"), ""},
		{"btrfs", "foo", withMark(65600, "_BHRfS_M"), ""},
		{"an erofs of which nothing can be read", "foo", withMark(1024, "\xe2\xe1\xf5\xe0"), ""},
		{"a wrong name", "foo-1.0", good, `has no extension-release.foo-1.0, but one for "foo": give the image that name`},
		{"a version in the name", "foo_1.0", good, ""},
		{"a counter in the name", "foo+3-0", good, ""},
		{"no extension-release", "foo", erofsOf(t, fstest.MapFS{"usr/bin/x": {Mode: 0o755}}), "has no usr/lib/extension-release.d/extension-release.foo"},
		{"an empty folder of them", "foo", erofsOf(t, fstest.MapFS{"usr/lib/extension-release.d/x": {}}), "has no usr/lib"},
		{"the right name and another", "foo", erofsOf(t, twoNames), ""},
		{"a folder in its place is not judged", "foo", erofsOf(t, folder), ""},
		{"a whole system", "foo", erofsOf(t, withOS), "contains usr/lib/os-release"},
		{"the tree of a system without extension-release", "foo", erofsOf(t, fstest.MapFS{"etc/os-release": {Mode: 0o644}}), ""},
		{"a confext", "foo", erofsOf(t, confext), ""},
	} {
		t.Run(c.title, func(t *testing.T) { wantFault(t, check(t, c.name, c.image), c.want) })
	}
}

func TestADiscoverableImageThatSystemdCannotMountIsFound(t *testing.T) {
	good := erofsOf(t, releaseNamed("foo"))
	usr := erofsOf(t, fstest.MapFS{"lib/extension-release.d/extension-release.foo": {Mode: 0o644}})
	whole := gptOf(t, part{rootAMD64, good})
	flipped := func(offsets ...int) []byte {
		b := slices.Clone(whole)
		for _, o := range offsets {
			b[(o+len(b))%len(b)] ^= 1
		}
		return b
	}
	for _, c := range []struct {
		title string
		image []byte
		want  string
	}{
		{"unsigned", whole, ""},
		{"padded, so that the second table is not at the end", append(slices.Clone(whole), make([]byte, 1<<20)...), ""},
		{"the first header is damaged", flipped(512 + 60), ""},
		{"the second header is damaged", flipped(-512 + 60), ""},
		{"both headers are damaged", flipped(512+60, -512+60), "damaged partition table"},
		{"the entries are damaged", flipped(1024, -512-32*512), "damaged partition table"},
		{"cut off in the data", whole[:24<<10], "a partition ends in sector"},
		{"another architecture", gptOf(t, part{rootARM64, good}), `has partitions for the architecture "arm64" only`},
		{"both architectures", gptOf(t, part{rootARM64, good}, part{rootAMD64, good}), ""},
		{"no partition that we know", gptOf(t, part{linuxHome, good}), ""},
		{"two of a kind", gptOf(t, part{rootAMD64, good}, part{rootAMD64, nil2k}), ""},
		{"no file system", gptOf(t, part{rootAMD64, []byte("x")}), "no partition table and no file system"},
		{"for usr alone", gptOf(t, part{usrAMD64, usr}), ""},
		{"for usr alone, with the tree of a root", gptOf(t, part{usrAMD64, good}), "has no usr/lib/extension-release.d"},
		{"misnamed", gptOf(t, part{rootAMD64, erofsOf(t, releaseNamed("bar"))}), `but one for "bar"`},
	} {
		t.Run(c.title, func(t *testing.T) { wantFault(t, check(t, "foo", c.image), c.want) })
	}
}

var nil2k = make([]byte, 2048)

func TestASignatureThatSystemdRefusesIsFound(t *testing.T) {
	good := erofsOf(t, releaseNamed("foo"))
	cert, key := newCert(t, "vendor")
	other, _ := newCert(t, "vendor") // the same name and serial number
	sig := signatureOf(t, cert, key)
	edit := func(f func([]byte) []byte) []byte { return f(slices.Clone(sig)) }
	replace := func(old, new string) []byte {
		return edit(func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) })
	}
	for _, c := range []struct {
		title string
		sig   []byte
		certs []*x509.Certificate
		want  string
	}{
		{"by a known key", sig, []*x509.Certificate{other, cert}, ""},
		{"by an unknown key", sig, []*x509.Certificate{other}, "is not signed by a certificate in verity.d"},
		{"without any certificate", sig, nil, "is not signed by a certificate in verity.d"},
		{"of another root hash", replace("010203", "010204"), []*x509.Certificate{cert}, "is not signed by"},
		{"no JSON", make([]byte, 16<<10), []*x509.Certificate{cert}, "corrupt signature partition"},
		{"a short root hash", replace("010203", "01020"), []*x509.Certificate{cert}, "the root hash is not 64"},
		{"no PKCS#7", replace(`"signature":"`, `"signature":"AAAA`), []*x509.Certificate{cert}, "is not signed by"},
		{"more behind the end", edit(func(b []byte) []byte { b[len(b)-1] = 1; return b }), []*x509.Certificate{cert}, "more after its end"},
		{"too large", make([]byte, maxSigPartition+4096), []*x509.Certificate{cert}, "signature partition of more than"},
	} {
		t.Run(c.title, func(t *testing.T) {
			image := gptOf(t, part{rootAMD64, good}, part{rootSigAMD64, c.sig})
			wantFault(t, check(t, "foo", image, c.certs...), c.want)
		})
	}
	t.Run("of a partition for usr", func(t *testing.T) {
		image := gptOf(t, part{usrAMD64, good}, part{usrSigAMD64, sig})
		wantFault(t, check(t, "foo", image, other), "is not signed by")
	})
}

func TestASignatureByAnUnknownKeyIsAcceptedWhileItsImageIsMerged(t *testing.T) {
	cert, key := newCert(t, "in the kernel")
	image := gptOf(t, part{rootAMD64, erofsOf(t, releaseNamed("foo"))}, part{rootSigAMD64, signatureOf(t, cert, key)})
	root := tree(t, map[string]string{"var/lib/extensions/foo.raw": string(image), Sysext.facts().merged: "foo\n"})
	foo := discovered{Class: Sysext, Name: "foo", Path: "/var/lib/extensions/foo.raw", Kind: formRaw}
	merged := func(at time.Time) {
		if err := os.Chtimes(filepath.Join(root, Sysext.facts().merged), at, at); err != nil {
			t.Fatal(err)
		}
	}
	merged(time.Now().Add(time.Hour))
	wantFault(t, verdict(foo, root), "")
	merged(time.Now().Add(-time.Hour)) // the file was changed after the merge
	wantFault(t, verdict(foo, root), "is not signed by")
}

func TestAFolderIsAFaultOnlyWhenItHoldsASystem(t *testing.T) {
	root := tree(t, map[string]string{
		"run/extensions/bare/usr/bin/x":                                          "",
		"run/extensions/good/usr/lib/extension-release.d/extension-release.good": "ID=_any\n",
		"run/extensions/os/usr/lib/os-release":                                   "",
		"run/extensions/dangling/usr/lib/os-release":                             "->/etc/os-release",
		"run/extensions/mask/":                                                   "",
		"run/extensions/linked":                                                  "->/var/lib/store/linked",
		"var/lib/store/linked/usr/lib/os-release":                                "",
		"etc/os-release":                                                         "ID=debian",
	})
	found, err := search(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		wantFault(t, verdict(f, root), map[string]string{"os": osRelease, "linked": osRelease}[f.Name])
	}
	if len(found) != 6 {
		t.Errorf("found %v", found)
	}
}

func TestAVersionedFolderIsAFaultWhenEveryVersionIs(t *testing.T) {
	good := string(erofsOf(t, releaseNamed("foo")))
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"foo.raw.v/foo_1.raw": good, "foo.raw.v/foo_2.raw": ""}, ""},
		{map[string]string{"foo.raw.v/foo_1.raw": "", "foo.raw.v/foo_2.raw": "text"}, "only faulty versions; foo_2.raw holds no"},
		{map[string]string{"foo.raw.v/bar_1.raw": "", "foo.raw.v/notes": ""}, ""},
		{map[string]string{"foo.v/foo_1/usr/lib/os-release": ""}, "only faulty versions; foo_1 contains"},
		{map[string]string{"foo.v/foo_1.raw": ""}, ""},
	} {
		files := map[string]string{}
		for name, content := range c.files {
			files["var/lib/extensions/"+name] = content
		}
		root := tree(t, files)
		found, err := search(root)
		if err != nil || len(found) != 1 {
			t.Fatalf("found %v, %v", found, err)
		}
		wantFault(t, verdict(found[0], root), c.want)
	}
}

func TestAnExtensionReleaseMayDisableTheNameCheck(t *testing.T) {
	one, two := releaseNamed("foo"), releaseNamed("foo")
	two["usr/lib/extension-release.d/extension-release.bar"] = &fstest.MapFile{Mode: 0o644}
	for _, c := range []struct {
		files  fstest.MapFS
		strict string
		want   string
	}{
		{one, "0", ""},
		{one, "No", ""},
		{one, "1", `but one for "foo"`},
		{one, "perhaps", `but one for "foo"`},
		{two, "false", "has 2 files in usr/lib/extension-release.d that could be its extension-release"},
	} {
		err := checkReleaseName(hosttest.AttrFS{FS: c.files, Attrs: map[string]string{"user.extension-release.strict": c.strict}}, Sysext, "other")
		if c.want == "" != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("strict=%s: got %v, want %q", c.strict, err, c.want)
		}
	}
}

func TestAMissingImageIsNotAFault(t *testing.T) {
	foo := discovered{Class: Sysext, Name: "foo", Path: "/run/extensions/foo.raw", Kind: formRaw}
	wantFault(t, verdict(foo, t.TempDir()), "")
}

func TestTheCertificatesOfSystemdAreTheFirstOfEachFile(t *testing.T) {
	a, _ := newCert(t, "a")
	b, _ := newCert(t, "b")
	text := func(certs ...*x509.Certificate) (s string) {
		for _, c := range certs {
			s += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		return s
	}
	root := tree(t, map[string]string{
		"etc/verity.d/1.crt": "words\n" + text(a, b), "usr/lib/verity.d/1.crt": text(b),
		"usr/local/lib/verity.d/2.crt": text(b), "run/verity.d/3.crt": "no certificate", "run/verity.d/4.pem": text(b),
		"etc/verity.d/5.crt": "", "usr/lib/verity.d/5.crt": text(b),
	})
	got, err := verityCerts(root)
	if err != nil || len(got) != 2 || !got[0].Equal(a) || !got[1].Equal(b) {
		t.Errorf("got %d certificates, %v", len(got), err)
	}
}

func TestOnlyExtensionsOfOthersAreJudgedBeforeAMerge(t *testing.T) {
	good := string(erofsOf(t, releaseNamed("foo")))
	files := map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=13\n", "var/lib/extensions/trident.raw": "words", "var/lib/extensions/foo.raw": good,
	}
	if err := CheckMergeable(tree(t, files)); err != nil {
		t.Errorf("with a damaged image of Trident: %v", err)
	}
	files["run/extensions/bar.raw"] = "words"
	err := CheckMergeable(tree(t, files))
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "extension bar (/run/extensions/bar.raw)") || !strings.Contains(errkind.Hint(err), "/run/extensions/bar.raw; nothing was changed") {
		t.Errorf("%s: %v (hint %q)", errkind.Of(err), err, errkind.Hint(err))
	}
}

// Whatever the bytes are, the answer is nil or a Precondition, and it comes.
func FuzzCheck(f *testing.F) {
	good := erofsOf(f, releaseNamed("foo"))
	bases := [][]byte{good, erofsOf(f, releaseNamed("bar")), gptOf(f, part{rootAMD64, good}, part{rootSigAMD64, []byte("{}")}), {}}
	for base := range bases {
		f.Add(uint8(base), []byte{})
		f.Add(uint8(base), damage.At(1024+16, 0xff))
	}
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		image := damage.Apply(bases[int(base)%len(bases)], edits)
		fixTable(image)
		if err := os.WriteFile(filepath.Join(root, "foo.raw"), image, 0o644); err != nil {
			t.Fatal(err)
		}
		err := verdict(discovered{Class: Sysext, Name: "foo", Path: "/foo.raw", Kind: formRaw}, root)
		if err != nil && errkind.Of(err) != errkind.Precondition {
			t.Errorf("kind %s: %v", errkind.Of(err), err)
		}
	})
}
