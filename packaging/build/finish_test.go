package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// makePackage writes a small package with the given pretrans scriptlet ("" for none)
// and returns its path.
func makePackage(t *testing.T, pretrans string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	p := pack{Name: "small", Meta: true, FileName: "{{ .ConventionalFileName }}", Maintainer: "A <a@example.org>", Description: "Small."}
	p.Contents = []content{{Src: write("file", "text"), Dst: "/usr/share/small/file"}}
	p.Contents[0].FileInfo.Mode = 0o644
	if pretrans != "" {
		p.RPM.Scripts.PreTrans = write("pretrans", pretrans)
	}
	p.RPM.Scripts.PostTrans = write("posttrans", "exit 0\n")
	name, err := project{cfg: &config{Dist: dir}, version: "1.0.0", epoch: time.Unix(0, 0).UTC()}.write(p, "all")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// headers are the signature header and the header of a package.
func headers(t *testing.T, pkg []byte) (sig, hdr header, raw []byte) {
	t.Helper()
	sig, err := readHeader(pkg[leadSize:])
	if err != nil {
		t.Fatal(err)
	}
	start := leadSize + (sig.size+7)/8*8
	if hdr, err = readHeader(pkg[start:]); err != nil {
		t.Fatal(err)
	}
	return sig, hdr, pkg[start : start+hdr.size]
}

func TestALuaScriptletIsRunByRpmsOwnLua(t *testing.T) {
	name := makePackage(t, "-- Lua.\nprint('x')\n")
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := finish(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sig, hdr, raw := headers(t, after)
	got := map[string]string{
		"interpreter": string(hdr.find(tagPreTransBin).text),
		"script":      string(hdr.find(tagPreTrans).text),
		"posttrans":   strings.TrimRight(string(hdr.find(tagPostTrans).text), "\n"),
		"digest":      string(sig.find(tagSHA256).text),
	}
	want := map[string]string{
		"interpreter": "<lua>",
		"script":      "-- Lua.\nprint('x')\n",
		"posttrans":   "exit 0",
		"digest":      fmt.Sprintf("%x", sha256.Sum256(raw)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("finished package (-want +got):\n%s", diff)
	}
	if len(before) != len(after) {
		t.Errorf("the package went from %d to %d bytes", len(before), len(after))
	}
	if err := finish(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(name); err != nil || !bytes.Equal(after, again) {
		t.Errorf("finishing twice changed the package again (%v)", err)
	}
	sum, err := os.ReadFile(name + ".sha256")
	if want := fmt.Sprintf("%x  %s\n", sha256.Sum256(after), filepath.Base(name)); err != nil || string(sum) != want {
		t.Errorf("checksum file %q, %v; want %q", sum, err, want)
	}
}

func TestOtherPackagesStayAsTheyAre(t *testing.T) {
	for name, script := range map[string]string{"none": "", "shell": "exit 0\n"} {
		t.Run(name, func(t *testing.T) {
			pkg, err := os.ReadFile(makePackage(t, script))
			if err != nil {
				t.Fatal(err)
			}
			old := bytes.Clone(pkg)
			changed, err := luaScriptlet(pkg)
			if err != nil || changed || !bytes.Equal(old, pkg) {
				t.Errorf("changed %v, error %v", changed, err)
			}
		})
	}
}

func TestABrokenPackageIsRefused(t *testing.T) {
	good, err := os.ReadFile(makePackage(t, "-- Lua.\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, pkg := range map[string][]byte{
		"empty":           nil,
		"a lead only":     good[:leadSize],
		"no magic":        make([]byte, 4096),
		"cut in a header": good[:leadSize+64],
		"cut after it":    good[:len(good)/8],
		"a huge count": func() []byte {
			b := bytes.Clone(good)
			binary.BigEndian.PutUint32(b[leadSize+8:], 1<<31)
			return b
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := luaScriptlet(bytes.Clone(pkg)); err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzLuaScriptlet(f *testing.F) {
	f.Add(make([]byte, 200))
	f.Add(append(make([]byte, leadSize), headerMagic+"\x00\x00\x00\x01\x00\x00\x00\x10aaaabbbbccccdddd"...))
	f.Fuzz(func(t *testing.T, pkg []byte) {
		size := len(pkg)
		if _, err := luaScriptlet(pkg); err == nil && len(pkg) != size {
			t.Error("the size changed")
		}
	})
}
