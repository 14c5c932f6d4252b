package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
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
	sig, hdr, payload, err := splitPackage(after)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"interpreter": string(hdr.find(tagPreTransProg).data),
		"script":      string(hdr.find(tagPreTrans).data),
		"rpm version": string(hdr.find(tagRPMVersion).data),
		"digest":      string(sig.find(tagSHA256).data),
		"size":        fmt.Sprint(binary.BigEndian.Uint32(sig.find(tagSize).data)),
	}
	raw := hdr.marshal()
	want := map[string]string{
		"interpreter": "<lua>\x00",
		"script":      "-- Lua.\nprint('x')\n\x00",
		"rpm version": "4.14.0\x00",
		"digest":      fmt.Sprintf("%x\x00", sha256.Sum256(raw)),
		"size":        fmt.Sprint(len(raw) + len(payload)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("finished package (-want +got):\n%s", diff)
	}
	if _, _, old, err := splitPackage(before); err != nil || !bytes.Equal(old, payload) {
		t.Errorf("the payload changed (%v)", err)
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
			got, err := luaScriptlet(pkg)
			if err != nil || !bytes.Equal(got, pkg) {
				t.Errorf("changed, error %v", err)
			}
		})
	}
}

func TestAHeaderThatIsReadAndWrittenIsTheSame(t *testing.T) {
	pkg, err := os.ReadFile(makePackage(t, "exit 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	sig, hdr, payload, err := splitPackage(pkg)
	if err != nil {
		t.Fatal(err)
	}
	if got := joinPackage(pkg[:leadSize], sig, hdr.marshal(), payload); !bytes.Equal(got, pkg) {
		t.Error("the package is another one")
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
	f.Add(append(make([]byte, leadSize), headerMagic+"\x00\x00\x00\x02\x00\x00\x00\x10aaaabbbbccccddddeeee\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x01"...))
	f.Fuzz(func(t *testing.T, pkg []byte) {
		old := bytes.Clone(pkg)
		if _, err := luaScriptlet(pkg); err != nil && !bytes.Equal(old, pkg) {
			t.Error("a refused package was changed")
		}
	})
}
