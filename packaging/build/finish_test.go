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
	name, err := project{cfg: &config{Dist: dir}, version: "1.0.0", epoch: time.Unix(0, 0).UTC()}.write(p, "rpm", "all", dir)
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
			got, err := completeHeader(pkg)
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
	sig, _, _, err := splitPackage(good)
	if err != nil {
		t.Fatal(err)
	}
	start := leadSize + (len(sig.marshal())+7)/8*8
	// with is the package with another number in an entry of the header's index.
	with := func(entry, field int, number uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[start+indexSize*(1+entry)+4*field:], number)
		return b
	}
	for name, pkg := range map[string][]byte{
		"no region":             with(0, 0, tagSize),
		"a region that is less": with(0, 2, 0),
		"an unknown type":       with(3, 1, 77),
		"a value in another":    with(3, 2, 0),
		"a value outside":       with(3, 2, 1<<31),
		"a value too long":      with(3, 3, 1<<31),
		"empty":                 nil,
		"a lead only":           good[:leadSize],
		"no magic":              make([]byte, 4096),
		"cut in a header":       good[:leadSize+64],
		"cut after it":          good[:len(good)/8],
		"a huge count": func() []byte {
			b := bytes.Clone(good)
			binary.BigEndian.PutUint32(b[leadSize+8:], 1<<31)
			return b
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := completeHeader(bytes.Clone(pkg)); err == nil {
				t.Error("no error")
			}
		})
	}
}

// The signature would no longer be that of the header, and nobody would notice here.
func TestAPackageThatIsSignedAlreadyIsNotRewritten(t *testing.T) {
	pkg, err := os.ReadFile(makePackage(t, "-- Lua.\n"))
	if err != nil {
		t.Fatal(err)
	}
	sig, hdr, payload, err := splitPackage(pkg)
	if err != nil {
		t.Fatal(err)
	}
	const rsaOfHeader = 268
	sig.set(rsaOfHeader, "a signature")
	_, err = completeHeader(joinPackage(pkg[:leadSize], sig, hdr.marshal(), payload))
	if err == nil || !strings.Contains(err.Error(), "tag 268") {
		t.Errorf("error %v does not name the tag", err)
	}
}

func FuzzCompleteHeader(f *testing.F) {
	f.Add(make([]byte, 200))
	f.Add(append(make([]byte, leadSize), headerMagic+"\x00\x00\x00\x02\x00\x00\x00\x10aaaabbbbccccddddeeee\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x01"...))
	sig := header{region: 62}
	sig.set(tagSHA256, "")
	sig.entries = append(sig.entries, entry{tag: tagSize, kind: typeInt32, count: 1, data: make([]byte, 4)})
	hdr := header{region: 63}
	hdr.set(tagPreTrans, "--")
	hdr.set(tagPreTransProg, "/bin/sh")
	f.Add(joinPackage(make([]byte, leadSize), &sig, hdr.marshal(), []byte("payload")))
	f.Fuzz(func(t *testing.T, pkg []byte) {
		once, err := completeHeader(pkg)
		if err != nil {
			return
		}
		if twice, err := completeHeader(once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("what was made is changed again, or refused: %v", err)
		}
	})
}
