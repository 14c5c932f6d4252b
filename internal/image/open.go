package image

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// Ignored, in the place of a digest, accepts any metadata.
const Ignored = "ignored"

// Options of opening an image. The zero value of each means its default.
type Options struct {
	Relaxed      bool         // see [ParseMetadata]
	MaxWindowLog int          // largest zstd window that is unpacked, as a binary logarithm; 30 (1 GiB)
	Pin          fetch.Pin    // of an earlier opening: the content must be the same; the zero value accepts any
	Limits       fetch.Limits // the default of MaxSize is 1 PiB here
	Meter        *fetch.Meter // bandwidth and data budget; nil: no limits
	Log          func(string) // gets sentences for the log; may be nil
}

// Image is an open COSI file. Its metadata has the expected digest, and the file has all
// partitions in the length that the metadata says; their content is not verified yet.
// Several goroutines may use an Image.
type Image struct {
	meta     *Metadata
	raw      []byte
	sha384   string
	warnings []Finding
	parts    []Partition
	carried  []Carried
	src      *fetch.Ranges
	window   int   // the largest window of a frame by the metadata, as a binary logarithm
	atOnce   int   // frames that a stream decodes at the same time
	most     int64 // the largest window that the host has memory for, in bytes; 0: unknown
}

// Partition is a region of the disk in an image. The partitions of an image are in the
// order of the disk or, before version 1.2, of metadata.json.
type Partition struct {
	File       File
	Type       string      // PrimaryGPT or PartitionRegion
	Number     int         // in the partition table; 0: the table itself, or unknown (before version 1.2)
	Filesystem *Filesystem // the file system in it, or the one that its hash tree covers; nil: neither
	HashTree   bool        // a verity hash tree
	image      *Image
	off        int64
}

// Open reads the headers and the metadata of a COSI file. sha384 is the expected digest of
// metadata.json, as 96 hexadecimal digits, or Ignored. The error for metadata that breaks a
// rule is that of [ParseMetadata]; for a wrong digest, or an archive that does not match the
// metadata, its kind is Corrupt. Warnings has the harmless faults of the archive's layout.
func Open(ctx context.Context, source fetch.Source, sha384 string, opt Options) (_ *Image, err error) {
	if b, err := hex.DecodeString(sha384); sha384 != Ignored && (err != nil || len(b) != sha384Size) {
		return nil, errkind.Errorf(errkind.Invalid, "open image: the expected SHA-384 must be %d hexadecimal digits, or %q", 2*sha384Size, Ignored)
	}
	if opt.Limits.MaxSize <= 0 {
		opt.Limits.MaxSize = maxImage
	}
	if opt.MaxWindowLog <= 0 {
		opt.MaxWindowLog = 30
	}
	src, err := fetch.OpenRanges(ctx, source, opt.Pin, opt.Limits, opt.Meter, opt.Log)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	defer func() {
		if err != nil {
			_ = src.Close()
			err = fmt.Errorf("open image %s: %w", src.Name(), err)
		}
	}()
	i := &Image{src: src}
	a, err := scan(ctx, src, func(e entry) error {
		if e.name != metadataName {
			return nil
		}
		return i.readMetadata(ctx, e, sha384, opt.Relaxed)
	})
	if i.meta == nil && (err == nil || errkind.Of(err) == errkind.Corrupt) {
		other := filekind.Mistaken(inContext{ctx, src}, src.Size(), filekind.System)
		if other != nil && err == nil {
			other = fmt.Errorf("there is no %s in it: %w", metadataName, other)
		}
		if other != nil {
			return nil, errkind.WithName(other, errkind.NameLoadCosi)
		}
	}
	if err != nil {
		return nil, err
	}
	if i.meta == nil {
		return nil, loadError(fmt.Errorf("there is no %s in it", metadataName))
	}
	if err := i.place(a); err != nil {
		return nil, err
	}
	i.warnings = append(i.warnings, i.layout(a)...)
	return i, i.chooseWindow(opt.MaxWindowLog)
}

// inContext reads a source for one call.
type inContext struct {
	ctx context.Context
	src *fetch.Ranges
}

func (r inContext) ReadAt(p []byte, off int64) (int, error) { return r.src.ReadAt(r.ctx, p, off) }

func (i *Image) readMetadata(ctx context.Context, e entry, want string, relaxed bool) error {
	if !e.plain {
		return corrupt("%s is not a regular file", metadataName)
	}
	if e.size > maxMetadata {
		return errkind.Errorf(errkind.TooLarge, "%s has %d bytes, %d are read at most", metadataName, e.size, maxMetadata)
	}
	i.raw = make([]byte, e.size)
	if _, err := i.src.ReadAt(ctx, i.raw, e.off); err != nil {
		return fmt.Errorf("read %s: %w", metadataName, err)
	}
	i.sha384 = fmt.Sprintf("%x", sha512.Sum384(i.raw))
	if want != Ignored && !strings.EqualFold(want, i.sha384) {
		return corrupt("the SHA-384 of %s is %s, not %s", metadataName, i.sha384, strings.ToLower(want))
	}
	var err error
	i.meta, i.warnings, err = ParseMetadata(i.raw, relaxed)
	return err
}

// place finds the files of the metadata in the archive, and compares their sizes.
func (i *Image) place(a *archive) error {
	i.parts, i.carried = i.meta.partitions(), i.meta.carried()
	for _, p := range i.files() {
		e, err := a.find(p.File.Path)
		if err != nil {
			return err
		}
		if e.size != p.File.Compressed {
			return corrupt("%.128q has %d bytes in the archive, and %d by %s", e.name, e.size, p.File.Compressed, metadataName)
		}
		p.image, p.off = i, e.off
	}
	return nil
}

func (m *Metadata) partitions() []Partition {
	var out []Partition
	known := map[string]int{}
	add := func(p Partition) {
		if _, ok := known[p.File.Path]; !ok {
			known[p.File.Path] = len(out)
			out = append(out, p)
		}
	}
	if m.Disk != nil {
		for _, r := range m.Disk.Regions {
			if r.Type == PrimaryGPT || r.Type == PartitionRegion {
				add(Partition{File: r.Image, Type: r.Type, Number: r.Number})
			}
		}
	}
	for n := range m.Filesystems {
		for k, f := range m.files(n) {
			add(Partition{File: f.File, Type: PartitionRegion})
			p := &out[known[f.Path]]
			p.Filesystem, p.HashTree = &m.Filesystems[n], k > 0
		}
	}
	return out
}

func (i *Image) chooseWindow(most int) error {
	i.window = defaultWindowLog
	if c := i.meta.Compression; c != nil {
		i.window = c.MaxWindowLog
	}
	if i.window > most {
		if i.meta.Compression == nil {
			i.window = most
			return nil
		}
		return errkind.Errorf(errkind.TooLarge, "it is packed with a window of 2^%d bytes, the limit is 2^%d", i.window, most)
	}
	return nil
}

// Close closes the source; all streams of the image fail afterwards.
func (i *Image) Close() error { return i.src.Close() }

// Metadata returns the parsed metadata.json. All callers share it: do not change it.
func (i *Image) Metadata() *Metadata { return i.meta }

// RawMetadata returns the bytes of metadata.json. All callers share them: do not change them.
func (i *Image) RawMetadata() []byte { return i.raw }

// SHA384 returns the actual digest of metadata.json, in lower case, which identifies the
// image, also if the expected digest was Ignored.
func (i *Image) SHA384() string { return i.sha384 }

// Warnings returns the findings that did not make Open fail.
func (i *Image) Warnings() []Finding { return i.warnings }

// Partitions returns the regions; the partition table, if there is one, is the first.
func (i *Image) Partitions() []Partition { return i.parts }

// Pin returns the Pin for [Options] with which Open accepts only the same file again, for
// example after a restart.
func (i *Image) Pin() fetch.Pin { return i.src.Pin() }

// Local reports whether the source is on this host, so that reading it twice is cheap.
func (i *Image) Local() bool { return i.src.Local() }

// Size returns the size of the whole file in bytes.
func (i *Image) Size() int64 { return i.src.Size() }
