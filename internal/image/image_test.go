package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/damage"
	"github.com/trident-project/trident/internal/linux/gpt"
)

func TestAnImageReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, small)
	i := mustOpen(t, path, sha384)
	if len(i.Warnings()) > 0 || i.SHA384() != sha384 || !i.Local() {
		t.Errorf("%v, %s", i.Warnings(), i.SHA384())
	}
	parts := i.Partitions()
	if len(parts) != 4 || parts[0].Type != PrimaryGPT || parts[3].Filesystem.MountPoint != "/" || !parts[3].HashTree {
		t.Fatalf("%+v", parts)
	}
	for n, p := range parts[1:] {
		s, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v, err := s.Verified(); err == nil || v.Of(p.File) {
			t.Error("verified before it was read")
		}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, content[n]) {
			t.Errorf("partition %d: %d bytes, %v", p.Number, len(got), err)
		}
		v, err := s.Verified()
		if err != nil || !v.Of(p.File) || v.Of(parts[0].File) || s.Progress() != p.File.Compressed {
			t.Errorf("partition %d: %+v, %v", p.Number, v, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if (Verified{}).Of(File{}) {
		t.Error("the zero value proves something")
	}
	findings, err := i.Verify(t.Context(), nil)
	if err != nil || len(findings) > 0 {
		t.Errorf("%v, %v", findings, err)
	}
	want := []Filesystem{
		{Image: parts[1].File, MountPoint: "/boot/efi", Type: "vfat", UUID: "C3D4-250D", PartType: partType(t, "esp")},
		{Image: parts[2].File, MountPoint: "/", Type: "ext4", UUID: strings.ReplaceAll("07070707-0707-0707-0707-070707070707", " ", ""), PartType: partType(t, "root"), Verity: &Verity{Image: parts[3].File, RootHash: digestA[:64]}},
	}
	if diff := cmp.Diff(want, i.Metadata().Filesystems); diff != "" {
		t.Error(diff)
	}
}

func TestTheSameSpecMakesTheSameBytes(t *testing.T) {
	t.Parallel()
	a, _, _ := build(t, small)
	b, _, _ := build(t, small)
	if !bytes.Equal(load(t, a), load(t, b)) {
		t.Error("they differ")
	}
}

func TestMountsAreFoundByTheTypesOfPartitions(t *testing.T) {
	t.Parallel()
	spec, _ := sample(t, small)
	got, err := FindMounts(spec.Disk, spec.DiskSize)
	want := []Mount{{Number: 1, MountPoint: "/boot/efi", Type: "vfat", UUID: "C3D4-250D"}, {Number: 2, MountPoint: "/", Type: "ext4", UUID: "07070707-0707-0707-0707-070707070707"}}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Error(err, cmp.Diff(want, got))
	}
}

func TestAWrongDigestOfTheMetadataIsRefused(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	for want, kind := range map[string]errkind.Kind{digestA: errkind.Corrupt, "": errkind.Invalid, "xyz": errkind.Invalid, sha384[2:]: errkind.Invalid} {
		_, err := open(t.Context(), t, "file://"+path, want)
		wantKind(t, err, kind)
	}
	mustOpen(t, path, Ignored)
	mustOpen(t, path, strings.ToUpper(sha384))
}

// Wherever an image is cut or changed, either it does not open, or the partition
// concerned is not verified; what is not touched is read.
func TestNoChangedByteIsEverVerified(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	whole := load(t, path)
	i := mustOpen(t, path, sha384)
	hit := func(at int64) bool {
		for _, p := range i.Partitions() {
			if at >= p.off && at < p.off+p.File.Compressed {
				return true
			}
		}
		return false
	}
	step := len(whole)/60 + 1
	for at := 0; at < len(whole); at += step {
		data := bytes.Clone(whole)
		data[at] ^= 0x10
		if err := readAll(t, save(t, data), sha384); err == nil && hit(int64(at)) {
			t.Errorf("byte %d changed, and nobody noticed", at)
		}
		wantKind(t, readAll(t, save(t, whole[:at]), sha384), map[bool]errkind.Kind{true: errkind.Invalid, false: errkind.Corrupt}[at == 0])
	}
}

func readAll(t *testing.T, path, sha384 string) error {
	t.Helper()
	i, err := open(t.Context(), t, "file://"+path, sha384)
	if err != nil {
		return err
	}
	for _, p := range i.Partitions() {
		if v, err := p.Check(t.Context()); err != nil {
			if v.Of(p.File) {
				t.Error("a proof and an error")
			}
			return err
		}
	}
	return nil
}

// member is a file of a handmade archive.
type member struct {
	name string
	data []byte
	kind byte
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Size: int64(len(m.data)), Mode: 0o600}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		} else {
			h.Size, h.Linkname = 0, "metadata.json"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.data[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(t testing.TB, content []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(content, nil)
}

// old is metadata of version 1.1 with one image, as it is packed.
func old(t testing.TB, image []byte, size int) []byte {
	t.Helper()
	v := document(1)
	set(v, v["images"].([]any)[:1], "images")
	f := map[string]any{"path": "images/esp.zst", "compressedSize": len(image), "uncompressedSize": size, "sha384": sum384(image)}
	set(v, f, "images", 0, "image")
	return encoded(t, v)
}

func TestImagesOfOlderVersionsAreRead(t *testing.T) {
	t.Parallel()
	content := noise(5, 1<<20)
	image := packed(t, content)
	data := archiveOf(t, member{"./metadata.json", old(t, image, len(content)), 0}, member{"./images/", nil, tar.TypeDir}, member{"./images/esp.zst", image, 0})
	i := mustOpen(t, save(t, append(data, "a footer"...)), Ignored)
	p := i.Partitions()[0]
	s, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, content) || p.Filesystem.MountPoint != "/boot/efi" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got := namesOf(i.Warnings()); got != "Layout ./metadata.json,Layout ./images/esp.zst" {
		t.Error(got)
	}
	if findings, err := i.Verify(t.Context(), nil); err != nil || len(findings) != 2 {
		t.Error(findings, err)
	}
}

func TestAnImageWithoutADigestIsNotRead(t *testing.T) {
	t.Parallel()
	image := packed(t, make([]byte, 4096))
	v := document(0)
	set(v, v["images"].([]any)[:1], "images")
	set(v, map[string]any{"path": "images/esp.zst", "compressedSize": len(image), "uncompressedSize": 4096}, "images", 0, "image")
	i := mustOpen(t, save(t, archiveOf(t, member{"metadata.json", encoded(t, v), 0}, member{"images/esp.zst", image, 0})), Ignored)
	_, err := i.Partitions()[0].Open(t.Context())
	wantKind(t, err, errkind.Untrusted)
}

func TestArchivesThatContradictTheirMetadataAreRefused(t *testing.T) {
	t.Parallel()
	content := noise(6, 1<<20)
	image := packed(t, content)
	meta, good := member{"metadata.json", old(t, image, len(content)), 0}, member{"images/esp.zst", image, 0}
	wide := packed(t, noise(7, 8<<20), zstd.WithWindowSize(8<<20))
	for name, c := range map[string]struct {
		data  []byte
		kind  errkind.Kind
		words string
	}{
		"no metadata":             {archiveOf(t, good), errkind.Invalid, "there is no metadata.json"},
		"nothing at all":          {make([]byte, 1024), errkind.Invalid, "there is no metadata.json"},
		"no tar":                  {noise(8, 100000), errkind.Corrupt, "cannot be read"},
		"no image":                {archiveOf(t, meta), errkind.Corrupt, "has no file"},
		"an image twice":          {archiveOf(t, meta, good, member{"./images/esp.zst", image, 0}), errkind.Corrupt, "twice"},
		"metadata twice":          {archiveOf(t, meta, meta, good), errkind.Corrupt, "twice"},
		"an image that is a link": {archiveOf(t, meta, member{"images/esp.zst", nil, tar.TypeLink}), errkind.Corrupt, "is not a regular file"},
		"metadata that is a link": {archiveOf(t, member{"metadata.json", nil, tar.TypeSymlink}, good), errkind.Corrupt, "is not a regular file"},
		"a shorter image":         {archiveOf(t, meta, member{"images/esp.zst", image[:100], 0}), errkind.Corrupt, "100 bytes in the archive"},
		"a longer image":          {archiveOf(t, meta, member{"images/esp.zst", append(bytes.Clone(image), 0), 0}), errkind.Corrupt, "bytes in the archive"},
		"unpacks to more":         {archiveOf(t, member{"metadata.json", old(t, image, len(content)-1), 0}, good), errkind.Corrupt, "unpacks to more than 1048575"},
		"unpacks to less":         {archiveOf(t, member{"metadata.json", old(t, image, len(content)+1), 0}, good), errkind.Corrupt, "unpacks to 1048576 bytes, not 1048577"},
		"unpacks to nothing":      {archiveOf(t, member{"metadata.json", old(t, nil, 1), 0}, member{"images/esp.zst", nil, 0}), errkind.Corrupt, "unpacks to 0 bytes"},
		"not packed":              {archiveOf(t, member{"metadata.json", old(t, content, len(content)), 0}, member{"images/esp.zst", content, 0}), errkind.Corrupt, "not compressed with zstd"},
		"garbage behind":          {archiveOf(t, member{"metadata.json", old(t, append(bytes.Clone(image), "garbage"...), len(content)), 0}, member{"images/esp.zst", append(bytes.Clone(image), "garbage"...), 0}), errkind.Corrupt, "cannot be unpacked"},
		"another digest":          {archiveOf(t, member{"metadata.json", bytes.Replace(meta.data, []byte(sum384(image)), []byte(digestA), 1), 0}, good), errkind.Corrupt, "its SHA-384 is"},
		"a large window":          {windowed(t, wide, 8<<20), errkind.Corrupt, "larger window"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := readAll(t, save(t, c.data), Ignored)
			wantKind(t, err, c.kind)
			if err != nil && !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v lacks %q", err, c.words)
			}
		})
	}
}

// windowed is an image of version 1.2 that says that it needs a window of 2^20.
func windowed(t testing.TB, image []byte, size int) []byte { return windowedAs(t, image, size, 20) }

// windowedAs is the same with a window of 2^log.
func windowedAs(t testing.TB, image []byte, size, log int) []byte {
	t.Helper()
	v := document(2)
	f := func(path string) map[string]any {
		return map[string]any{"path": path, "compressedSize": len(image), "uncompressedSize": size, "sha384": sum384(image)}
	}
	set(v, v["images"].([]any)[:1], "images")
	set(v, v["disk"].(map[string]any)["gptRegions"].([]any)[:2], "disk", "gptRegions")
	set(v, f("images/gpt.zst"), "disk", "gptRegions", 0, "image")
	set(v, f("images/esp.zst"), "disk", "gptRegions", 1, "image")
	set(v, f("images/esp.zst"), "images", 0, "image")
	set(v, log, "compression", "maxWindowLog")
	return archiveOf(t, member{"metadata.json", encoded(t, v), 0}, member{"images/gpt.zst", image, 0}, member{"images/esp.zst", image, 0})
}

func TestLayoutIsAWarning(t *testing.T) {
	t.Parallel()
	image := packed(t, make([]byte, 4096))
	data := windowed(t, image, 4096)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no marker": {data, "Layout cosi-marker"},
		"no end":    {data[:len(data)-1024], "Layout ,Layout cosi-marker"},
	} {
		if got := namesOf(mustOpen(t, save(t, c.data), Ignored).Warnings()); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	i := mustOpen(t, save(t, data), Ignored)
	findings, err := i.Verify(t.Context(), nil)
	if err != nil || namesOf(findings) != "Layout cosi-marker,PartitionTable images/gpt.zst" {
		t.Errorf("%s, %v", namesOf(findings), err)
	}
}

func TestReadingContinuesAtACheckpoint(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, large)
	p := mustOpen(t, path, sha384).Partitions()[2]
	var marks []Checkpoint
	s, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	buf, done := make([]byte, 1<<20), int64(0)
	for err == nil {
		var n int
		n, err = s.Read(buf)
		done += int64(n)
		if c := s.Checkpoint(done); c.Uncompressed > done {
			t.Fatalf("a checkpoint at %d, %d are durable", c.Uncompressed, done)
		} else if len(marks) == 0 || marks[len(marks)-1].Uncompressed != c.Uncompressed {
			marks = append(marks, c)
		}
	}
	if !errors.Is(err, io.EOF) || len(marks) < 3 {
		t.Fatalf("%d checkpoints, %v", len(marks), err)
	}
	for _, c := range marks {
		again := mustOpen(t, path, sha384).Partitions()[2]
		s, err := again.OpenAt(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(rest, content[1][c.Uncompressed:]) {
			t.Fatalf("from %d: %d bytes, %v", c.Uncompressed, len(rest), err)
		}
		if v, err := s.Verified(); err != nil || !v.Of(p.File) {
			t.Error(err)
		}
	}
	wrong := marks[1]
	wrong.Hash = marks[2].Hash
	s, err = p.OpenAt(t.Context(), wrong)
	if err == nil {
		_, err = io.Copy(io.Discard, s)
	}
	wantKind(t, err, errkind.Corrupt)
	wrong.SHA384 = digestA
	_, err = p.OpenAt(t.Context(), wrong)
	wantKind(t, err, errkind.Invalid)
}

func TestAStreamMayBeLeftAnywhere(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	p := mustOpen(t, path, sha384).Partitions()[2]
	for _, n := range []int{0, 1, 1 << 20} {
		s, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after it was closed: %v", err)
		}
		if _, err := s.Verified(); err == nil {
			t.Error("verified")
		}
	}
}

func TestATableThatContradictsTheMetadataIsFound(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, small)
	i := mustOpen(t, path, sha384)
	table, front, err := i.table(t.Context())
	if err != nil || len(i.compare(table, front)) > 0 {
		t.Fatal(err, i.compare(table, front))
	}
	d := i.meta.Disk
	d.Size += 512
	d.Regions[0].Image.Size--
	d.Regions[1], d.Regions[2] = d.Regions[2], d.Regions[1]
	d.Regions[3].Number = 9
	i.meta.Filesystems[0].PartType = gpt.GUID{1}
	want := "PartitionTable disk.size,PartitionTable disk.gptRegions[0].image.uncompressedSize,PartitionTable disk.gptRegions[2]," +
		"PartitionTable images[0].partType,PartitionTable disk.gptRegions[3].number,PartitionTable disk.gptRegions"
	if got := namesOf(i.compare(table, front)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestASpecThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Spec){
		"no arch":            func(s *Spec) { s.Arch = "" },
		"no partition":       func(s *Spec) { s.Mounts[0].Number = 9 },
		"no hash tree":       func(s *Spec) { s.Mounts[1].HashTree = 9 },
		"no file system":     func(s *Spec) { s.Mounts[1].Number = 3 },
		"one mount twice":    func(s *Spec) { s.Mounts[1].MountPoint = "/boot/efi" },
		"no boot loader":     func(s *Spec) { s.Bootloader = Bootloader{} },
		"a shorter disk":     func(s *Spec) { s.DiskSize -= 512 },
		"no partition table": func(s *Spec) { s.Disk = bytes.NewReader(make([]byte, 1<<20)) },
	} {
		spec, _ := sample(t, small)
		spoil(&spec)
		var b bytes.Buffer
		if _, err := Write(t.Context(), &b, spec, nil); err == nil || b.Len() > 0 {
			t.Errorf("%s: %d bytes, %v", name, b.Len(), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	image := packed(f, make([]byte, 4096))
	bases := [][]byte{archiveOf(f, member{"metadata.json", old(f, image, 4096), 0}, member{"images/esp.zst", image, 0}), windowed(f, image, 4096)}
	for base := range bases {
		f.Add(uint8(base), uint32(0), []byte{})
		f.Add(uint8(base), uint32(512), damage.At(512, ' '))
	}
	path := filepath.Join(f.TempDir(), "image.cosi")
	f.Fuzz(func(t *testing.T, base uint8, missing uint32, edits []byte) {
		data := damage.Apply(bases[int(base)%len(bases)], edits)
		data = data[:len(data)-int(missing)%len(data)]
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = readAll(t, path, Ignored)
	})
}

func sum384(b []byte) string { return fmt.Sprintf("%x", sha512.Sum384(b)) }
