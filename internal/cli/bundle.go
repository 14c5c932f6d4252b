package cli

import (
	"archive/tar"
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
	// maxBundleFile bounds a file of a bundle, and maxBundle all of them.
	maxBundleFile = 32 << 20
	maxBundle     = 256 << 20
)

// report is the bundle's report.json; its shape is upstream's.
type report struct {
	Timestamp          string          `json:"timestamp"`
	Version            string          `json:"version"`
	HostDescription    hostDescription `json:"hostDescription"`
	HostStatus         any             `json:"hostStatus"`
	CollectedFiles     []collectedFile `json:"collectedFiles"`
	CollectionFailures []failedFile    `json:"collectionFailures"`
}

type hostDescription struct {
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

// bundle is an archive that is being written. What cannot be had is noted in the
// report, and is no error.
type bundle struct {
	tar    *tar.Writer
	now    time.Time
	size   int
	report report
}

// writeBundle writes a bundle. A regular file has the whole bundle or its old content.
func writeBundle(file outfile.File, now time.Time, fill func(*bundle) error) error {
	return file.Stream(func(w io.Writer) error {
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		b := &bundle{tar: tar.NewWriter(z), now: now, report: report{
			Timestamp: now.UTC().Format(time.RFC3339), CollectedFiles: []collectedFile{}, CollectionFailures: []failedFile{},
		}}
		err = fill(b)
		if err == nil {
			err = b.writeReport()
		}
		return errors.Join(err, b.tar.Close(), z.Close())
	})
}

// add puts a text into the bundle. The end of one that is too long counts most.
func (b *bundle) add(name, source string, text []byte) error {
	most := min(maxBundleFile, maxBundle-b.size)
	truncated := len(text) > most
	if truncated {
		text = text[len(text)-most:]
	}
	b.report.CollectedFiles = append(b.report.CollectedFiles, collectedFile{path.Join(bundlePrefix, name), source, len(text), truncated})
	return b.write(name, text)
}

func (b *bundle) write(name string, text []byte) error {
	b.size += len(text)
	h := tar.Header{Name: path.Join(bundlePrefix, name), Mode: 0o600, Size: int64(len(text)), ModTime: b.now, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(&h); err != nil {
		return err
	}
	_, err := b.tar.Write(text)
	return err
}

// failed notes what could not be had.
func (b *bundle) failed(source string, err error) {
	b.report.CollectionFailures = append(b.report.CollectionFailures, failedFile{source, withoutSecrets(lines(err.Error()))})
}

func (b *bundle) writeReport() error {
	text, err := json.MarshalIndent(b.report, "", "  ")
	if err != nil {
		return err
	}
	return b.write("report.json", append(text, '\n'))
}

// tailOf reads the end of a file: at most maxBundleFile bytes.
func tailOf(name string) ([]byte, error) {
	f, err := regfile.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if over := info.Size() - maxBundleFile; over > 0 {
		if _, err := f.Seek(over, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, maxBundleFile))
}
