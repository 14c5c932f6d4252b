package ddi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

// overwrite is a file in memory that is written in place.
type overwrite []byte

func (o overwrite) WriteAt(p []byte, off int64) (int, error) { return copy(o[off:], p), nil }

// retable writes the image's table anew, changed.
func retable(tb testing.TB, b []byte, change func(*gpt.Table)) []byte {
	tb.Helper()
	table, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	change(table)
	if err := gpt.Write(overwrite(b), table); err != nil {
		tb.Fatal(err)
	}
	return b
}

// resign replaces the content of the signature partition.
func resign(tb testing.TB, b []byte, content string) []byte {
	tb.Helper()
	p := openBytes(tb, b).Table().Partitions[2]
	clear(b[p.Offset() : p.Offset()+p.Size()])
	copy(b[p.Offset():], content)
	return b
}

func mustID(tb testing.TB, t partType) gpt.GUID {
	tb.Helper()
	id, ok := idOf(t)
	if !ok {
		tb.Fatalf("%v has no UUID", t)
	}
	return id
}

func TestStructureThatIsNotOneImageIsRefused(t *testing.T) {
	whole, _ := signed(t, sample(t))
	sig := `{"rootHash":"` + HashString(openBytes(t, whole).RootHash()) + `","signature":"AAAA"`
	parts := func(change func(p []gpt.Partition) []gpt.Partition) func([]byte) []byte {
		return func(b []byte) []byte {
			return retable(t, b, func(t *gpt.Table) { t.Partitions = change(t.Partitions) })
		}
	}
	setType := func(n int, typ partType) func([]byte) []byte {
		return parts(func(p []gpt.Partition) []gpt.Partition { p[n].Type = mustID(t, typ); return p })
	}
	shorten := func(n int) func([]byte) []byte {
		return func(b []byte) []byte {
			return retable(t, b, func(t *gpt.Table) {
				p := &t.Partitions[n]
				clear(b[p.Offset()+p.Size()-4096 : p.Offset()+p.Size()])
				p.Last -= 8
			})
		}
	}
	text := func(content string) func([]byte) []byte {
		return func(b []byte) []byte { return resign(t, b, content) }
	}
	tests := []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"cut short", func(b []byte) []byte { return b[:len(b)-4096] }, "truncated: the partition table is for"},
		{"cut to the first half", func(b []byte) []byte { return b[:len(b)/1024*512] }, "truncated: the partition table is for"},
		{"bytes behind it", func(b []byte) []byte { return append(b, make([]byte, 512)...) }, "1 sectors after the end"},
		{"no partitions", parts(func([]gpt.Partition) []gpt.Partition { return nil }), "there is no data partition"},
		{"no data", parts(func(p []gpt.Partition) []gpt.Partition { return p[1:] }), "there is no data partition"},
		{"two trees", setType(2, partType{AMD64, false, roleHash}), "partition 3 is a second verity partition"},
		{"two architectures", setType(1, partType{ARM64, false, roleHash}), "partition 2 is for root-arm64, partition 1 for root-x86-64"},
		{"root and usr", setType(2, partType{AMD64, true, roleSig}), "partition 3 is for usr-x86-64, partition 1 for root-x86-64"},
		{"a partition that systemd would not see", parts(func(p []gpt.Partition) []gpt.Partition { p[2].Attributes = 1 << 63; return p }), "partition 3 has the attributes 0x8000000000000000"},
		{"a signature that is in no partition", parts(func(p []gpt.Partition) []gpt.Partition { return p[:2] }), "is set, but belongs to no partition"},
		{"another root hash in the table", parts(func(p []gpt.Partition) []gpt.Partition { p[0].ID[0]++; return p }), "the signature is for root hash"},
		{"a tree that is too short", shorten(1), "the verity tree has"},
		{"data that is too short", shorten(0), "bytes of data, and the partition has"},
		{"something before the first partition", func(b []byte) []byte { b[18000] = 1; return b }, "byte 18000 is set, but belongs to no partition"},
		{"something behind the last", func(b []byte) []byte { b[len(b)-gpt.OverheadBack-1] = 1; return b }, "belongs to no partition"},
		{"no JSON", text("x"), "it does not begin with a JSON object"},
		{"an array", text("[]"), "it does not begin with a JSON object"},
		{"nothing", text(""), "it does not begin with a JSON object"},
		{"half an object", text(sig), "read signature: "},
		{"no signature", text(`{"rootHash":"` + strings.Repeat("0", 64) + `"}`), "the signature is empty"},
		{"no root hash", text(`{"signature":"AAAA"}`), "root hash is not 64 hexadecimal digits"},
		{"a long root hash", text(`{"signature":"AAAA","rootHash":"` + strings.Repeat("0", 66) + `"}`), "root hash is not 64 hexadecimal digits"},
		{"upper case", text(`{"signature":"AAAA","rootHash":"` + strings.Repeat("A", 64) + `"}`), "root hash is not 64 hexadecimal digits"},
		{"a number", text(`{"rootHash":1}`), `member "rootHash" is not a string`},
		{"a member twice", text(sig + `,"signature":"BBBB"}`), `member "signature" occurs twice`},
		{"another spelling", text(`{"RootHash":"x"}`), `unknown member "RootHash"`},
		{"another member", text(sig + `,"more":"x"}`), `unknown member "more"`},
		{"no base64", text(strings.Replace(sig, "AAAA", "AA", 1) + "}"), "the signature is not in base64"},
		{"loose bits in base64", text(strings.Replace(sig, "AAAA", "AB==", 1) + "}"), "the signature is not in base64"},
		{"line breaks in base64", text(strings.Replace(sig, "AAAA", `AA\nAA`, 1) + "}"), "the signature has line breaks"},
		{"a short fingerprint", text(sig + `,"certificateFingerprint":"ab"}`), "fingerprint is not 64"},
		{"a second object", text(sig + "}{}"), "there is text after the JSON object"},
		{"junk behind the end", text(sig + "}\x00\x00x"), "there are bytes after the end of the signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.spoil(bytes.Clone(whole))
			_, err := Open(bytes.NewReader(b), int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Corrupt {
				t.Errorf("got %v (%s), want %q", err, errkind.Of(err), tt.want)
			}
		})
	}
}

// A sound image that Trident does not take is refused for what it is.
func TestAnImageThatIsNotDamagedIsNotCalledSo(t *testing.T) {
	whole, _ := signed(t, sample(t))
	m := openBytes(t, whole)
	table := func(edit func([]gpt.Partition) []gpt.Partition) []byte {
		return retable(t, bytes.Clone(whole), func(t *gpt.Table) { t.Partitions = edit(t.Partitions) })
	}
	typed := func(id string) func([]gpt.Partition) []gpt.Partition {
		return func(p []gpt.Partition) []gpt.Partition {
			p[1].Type, _ = gpt.ParseGUID(id)
			return p
		}
	}
	squashed := bytes.Clone(whole)
	copy(squashed[m.Table().Partitions[0].Offset()+1024:], make([]byte, 4))
	copy(squashed[m.Table().Partitions[0].Offset():], "hsqs")
	for name, c := range map[string]struct {
		data []byte
		want string
		kind errkind.Kind
	}{
		"no tree, or one in the partition of the data": {table(func(p []gpt.Partition) []gpt.Partition { return p[:1] }), "there is no verity partition", errkind.Invalid},
		"partitions for riscv64":                       {table(typed("72ec70a6-cf74-40e6-bd49-4bda08e8f224")), "partition 2 has type 72ec70a6", errkind.Incompatible},
		"a swap partition":                             {table(typed("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")), "which has no place in an extension image", errkind.Incompatible},
		"a disk of a system":                           {table(typed("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")), "a raw disk image of a whole system", errkind.Invalid},
		"a squashfs":                                   {squashed, "it is a squashfs, and only erofs is read without a mount", errkind.Unsupported},
	} {
		m, err := Open(bytes.NewReader(c.data), int64(len(c.data)))
		if err == nil {
			_, err = m.FS()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != c.kind || errkind.Hint(err) == "" {
			t.Errorf("%s: %v (%s, hint %q), want %q (%s)", name, err, errkind.Of(err), errkind.Hint(err), c.want, c.kind)
		}
	}
}

func TestPartitionsOfTheOtherKindsAreKnown(t *testing.T) {
	for _, arch := range []Arch{AMD64, ARM64} {
		for _, usr := range []bool{false, true} {
			whole, _ := signed(t, sample(t))
			b := retable(t, whole, func(table *gpt.Table) {
				for i, r := range []role{roleData, roleHash, roleSig} {
					table.Partitions[i].Type = mustID(t, partType{arch, usr, r})
				}
			})
			if m := openBytes(t, b); m.Arch() != arch {
				t.Errorf("%s is read as %s", arch, m.Arch())
			}
		}
	}
}

func TestAHugeGapIsNotRead(t *testing.T) {
	path, _ := built(t, sample(t))
	b := readFile(t, path)
	table := openBytes(t, b).Table()
	table.Size = 1 << 40
	sparse := &sparseFile{size: table.Size, start: b[:len(b)-gpt.OverheadBack]}
	if err := gpt.Write(sparse, table); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(sparse, table.Size); err == nil || !strings.Contains(err.Error(), "belong to no partition") {
		t.Errorf("got %v", err)
	}
}

// sparseFile holds its start and its end; what is between is zero.
type sparseFile struct {
	size       int64
	start, end []byte
}

func (s *sparseFile) WriteAt(p []byte, off int64) (int, error) {
	if off == 0 {
		return copy(s.start, p), nil
	}
	s.end = bytes.Clone(p)
	return len(p), nil
}

func (s *sparseFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.start)) {
		copy(p, s.start[off:])
	}
	if at := s.size - int64(len(s.end)); off >= at {
		copy(p, s.end[off-at:])
	}
	return len(p), nil
}

func TestADamagedBlockIsNamed(t *testing.T) {
	whole, _ := signed(t, sample(t))
	m := openBytes(t, whole)
	p := m.Table().Partitions
	whole[p[0].Offset()+17*verity.BlockSize+9]++
	if err := m.VerifyTree(t.Context(), nil); err == nil || err.Error() != "verify image: data block 17 does not match its hash" {
		t.Errorf("got %v", err)
	}
}

func TestTheFileSystemOfADamagedImageIsCorruptAndDoesNotPanic(t *testing.T) {
	path, _ := built(t, writeTree(t, map[string]string{
		"usr/a": "a", "usr/b": strings.Repeat("b", 5000), "usr/c": "-> a", "usr/d/e": "e", "opt/f": "f",
	}))
	b := readFile(t, path)
	data := openBytes(t, b).Table().Partitions[0]
	for at := data.Offset() + 1024; at < data.Offset()+data.Size(); at++ {
		old := b[at]
		b[at] = []byte{old ^ 0xff, old ^ 1, old + 1}[at%3]
		walk(t, openBytes(t, b))
		b[at] = old
	}
}

// walk reads all there is to read, as someone who trusts io/fs would.
func walk(tb testing.TB, m *Image) {
	tb.Helper()
	fsys, err := m.FS()
	if err == nil {
		err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if strings.Count(p, "/") > maxDepth {
				tb.Fatalf("walked down to %s", p)
			}
			if _, err := d.Info(); err != nil {
				return err
			}
			switch d.Type() {
			case 0:
				_, err = fs.ReadFile(fsys, p)
			case fs.ModeSymlink:
				_, err = fs.ReadLink(fsys, p)
			}
			return err
		})
	}
	if kind := errkind.Of(err); err != nil && kind != errkind.Corrupt && kind != errkind.Unsupported && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatalf("kind %s: %v", kind, err)
	}
}

func TestAMissingFileIsNotCorrupt(t *testing.T) {
	path, _ := built(t, sample(t))
	fsys := mustFS(t, openBytes(t, readFile(t, path)))
	for name, call := range map[string]func() error{
		"open":     func() error { _, err := fsys.Open("usr/none"); return err },
		"stat":     func() error { _, err := fs.Stat(fsys, "usr/none"); return err },
		"lstat":    func() error { _, err := fs.Lstat(fsys, "usr/none"); return err },
		"readlink": func() error { _, err := fs.ReadLink(fsys, "usr/none"); return err },
	} {
		if err := call(); !errors.Is(err, fs.ErrNotExist) || errkind.Of(err) == errkind.Corrupt {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		}
	}
}

func TestFoldersAreReadInPiecesToo(t *testing.T) {
	files := map[string]string{}
	for i := range 600 {
		files[fmt.Sprintf("usr/%03d", i)] = ""
	}
	path, _ := built(t, writeTree(t, files))
	f, err := mustFS(t, openBytes(t, readFile(t, path))).Open("usr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	var sizes []int
	for {
		entries, err := f.(fs.ReadDirFile).ReadDir(250)
		sizes = append(sizes, len(entries))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]int{250, 250, 100, 0}, sizes); diff != "" {
		t.Error(diff)
	}
}

func TestAFolderInItselfComesToAnEnd(t *testing.T) {
	fsys, err := mustFS(t, openBytes(t, loop(t))).Open("usr/d")
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := fsys.(fs.ReadDirFile).ReadDir(-1); err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	walk(t, openBytes(t, loop(t)))
	deep := "usr" + strings.Repeat("/d", maxDepth)
	if _, err := mustFS(t, openBytes(t, loop(t))).Open(deep); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("opening %d levels down: %v", maxDepth, err)
	}
}

// loop is an image in which usr/d/d is usr/d.
func loop(t *testing.T) []byte {
	t.Helper()
	path, _ := built(t, writeTree(t, map[string]string{"usr/d/d/": ""}))
	b := readFile(t, path)
	fsys := mustFS(t, openBytes(t, b))
	nid := func(name string) uint64 {
		info, err := fs.Stat(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		return info.(interface{ Ino() uint64 }).Ino()
	}
	// A directory entry begins with the number of its inode, 8 bytes.
	inner, outer := byte(nid("usr/d/d")), byte(nid("usr/d"))
	entry := []byte{inner, 0, 0, 0, 0, 0, 0, 0}
	found := 0
	for at := 0; at+12 < len(b); at += 4 {
		if bytes.Equal(b[at:at+8], entry) && b[at+10] == 2 {
			b[at], found = outer, found+1
		}
	}
	if found == 0 {
		t.Fatal("no entry to change")
	}
	return b
}
