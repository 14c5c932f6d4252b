// Package diagnose writes diagnostic bundles: archives with what an engineer needs to
// find out what happened on a host, without its secrets.
package diagnose

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/linux/outfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

const (
	// bundlePrefix is the folder in a bundle, by upstream's name.
	bundlePrefix = "trident-diagnostics"
	// MaxFile is the largest size of a file in a bundle, and maxBundle that of all files
	// together, in bytes.
	MaxFile   = 32 << 20
	maxBundle = 256 << 20
)

// Report is the report.json of a bundle, in upstream's shape.
type Report struct {
	Timestamp          string          `json:"timestamp"`
	Version            string          `json:"version"`
	HostDescription    HostDescription `json:"hostDescription"`
	HostStatus         any             `json:"hostStatus"`
	CollectedFiles     []collectedFile `json:"collectedFiles"`
	CollectionFailures []failedFile    `json:"collectionFailures"`
}

// HostDescription is what the tools of the host say about it.
type HostDescription struct {
	IsContainer       bool   `json:"isContainer"`
	IsVirtual         bool   `json:"isVirtual"`
	VirtType          string `json:"virtType,omitempty"`
	PlatformInfo      any    `json:"platformInfo"`
	BlockdevInfo      any    `json:"blockdevInfo"`
	MountInfo         any    `json:"mountInfo"`
	HealthCheckStatus any    `json:"healthCheckStatus"`
	PcrlockLog        any    `json:"pcrlockLog"`
	TridentService    any    `json:"tridentService"`
}

type collectedFile struct {
	Path      string `json:"path"` // in the bundle
	Source    string `json:"source"`
	Size      int    `json:"size"`
	Truncated bool   `json:"truncated,omitempty"`
}

type failedFile struct {
	Source string `json:"source"`
	Error  string `json:"error"`
}

// A Bundle is an archive that Write is writing.
type Bundle struct {
	tar    *tar.Writer
	now    time.Time
	size   int
	Report Report // Write adds it at the end
}

// Write writes what fill adds to a bundle, and the report. If fill fails, a regular
// file keeps its old content.
func Write(ctx context.Context, file outfile.File, now time.Time, fill func(*Bundle) error) error {
	return file.Stream(ctx, func(w io.Writer) error {
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		b := &Bundle{tar: tar.NewWriter(z), now: now, Report: Report{
			Timestamp: now.UTC().Format(time.RFC3339), CollectedFiles: []collectedFile{}, CollectionFailures: []failedFile{},
		}}
		err = fill(b)
		if err == nil {
			err = b.writeReport()
		}
		return errors.Join(err, b.tar.Close(), z.Close())
	})
}

// Add adds a file to the bundle, and to the list in the report; source says where the
// text is from. Of a text that is longer than MaxFile, and of one for which the bundle
// has no room, Add keeps the end.
func (b *Bundle) Add(name, source string, text []byte) error {
	most := min(MaxFile, maxBundle-b.size)
	truncated := len(text) > most
	if truncated {
		text = text[len(text)-most:]
	}
	b.Report.CollectedFiles = append(b.Report.CollectedFiles, collectedFile{path.Join(bundlePrefix, name), source, len(text), truncated})
	return b.write(name, text)
}

func (b *Bundle) write(name string, text []byte) error {
	b.size += len(text)
	h := tar.Header{Name: path.Join(bundlePrefix, name), Mode: 0o600, Size: int64(len(text)), ModTime: b.now, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(&h); err != nil {
		return err
	}
	_, err := b.tar.Write(text)
	return err
}

// Failed notes in the report that source could not be collected.
func (b *Bundle) Failed(source string, err error) {
	b.Report.CollectionFailures = append(b.Report.CollectionFailures, failedFile{source, WithoutSecrets(err.Error())})
}

func (b *Bundle) writeReport() error {
	text, err := json.MarshalIndent(b.Report, "", "  ")
	if err != nil {
		return err
	}
	return b.write("report.json", append(text, '\n'))
}

// Tail returns the end of a regular file: at most MaxFile bytes.
func Tail(name string) ([]byte, error) {
	f, err := regfile.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if over := info.Size() - MaxFile; over > 0 {
		if _, err := f.Seek(over, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, MaxFile))
}
