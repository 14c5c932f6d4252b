package disks

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// UnpackBoot unpacks and verifies the image of the ESP, for OpenESP.
func (d *Disks) UnpackBoot(ctx context.Context, r *record.Run, e *record.Examined) error {
	p := &r.State.Parts[slices.IndexFunc(r.State.Parts, func(p record.Part) bool { return p.ESP })]
	from, err := p.In(e.Image)
	if err != nil {
		return err
	}
	v, content, err := d.unpackESP(ctx, from, func(packed int64) { r.Progress(packed, p.Size) })
	if err != nil {
		name := errkind.NameDeployESPImages
		if errkind.Of(err) == errkind.Corrupt {
			name = errkind.NameCorruptOsImage
		}
		return errkind.WithName(fmt.Errorf("read the image: %w", err), name)
	}
	p.Content = content
	return p.Verified(v, from.File)
}

// unpackESP unpacks the image of an ESP into the file espImage. It returns the proof of the
// image, and the SHA-256 of the file.
func (d *Disks) unpackESP(ctx context.Context, from image.Partition, progress func(packed int64)) (v image.Verified, content string, err error) {
	in, err := from.Open(ctx)
	if err != nil {
		return v, "", err
	}
	defer in.Close()
	err = d.Touch("unpack boot files", func() error {
		if err := os.MkdirAll(d.StagedDir(), 0o700); err != nil {
			return err
		}
		sum := sha256.New()
		var copied error
		// WriteFunc names the file only if all bytes were right.
		err := atomicfile.WriteFunc(d.espImage(), 0o600, func(out io.Writer) error {
			_, copied = io.Copy(io.MultiWriter(out, sum), notifyingReader{in, func() { progress(in.Progress()) }})
			return copied
		})
		if copied != nil || err != nil {
			return cmp.Or(copied, err) // the source fails more often than the file
		}
		content = hex.EncodeToString(sum.Sum(nil))
		v, err = in.Verified()
		return err
	})
	return v, content, err
}

// notifyingReader calls notify after each read.
type notifyingReader struct {
	io.Reader
	notify func()
}

func (r notifyingReader) Read(p []byte) (int, error) {
	defer r.notify()
	return r.Reader.Read(p)
}

// espImage returns the path of the verified image of the ESP.
func (d *Disks) espImage() string { return filepath.Join(d.StagedDir(), "esp.img") }

// OpenESP opens the unpacked image of the ESP.
func (d *Disks) OpenESP(r *record.Run) (*os.File, error) {
	f, err := os.Open(d.espImage())
	if err != nil {
		return nil, err
	}
	if err := sameESP(&r.State, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sameESP fails if the unpacked image of the ESP has changed since it was verified, perhaps
// by an earlier process. It accepts any image if an older release made the record.
func sameESP(r *record.Record, f io.Reader) error {
	i := slices.IndexFunc(r.Parts, func(p record.Part) bool { return p.ESP && p.Content != "" })
	if i < 0 {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.Parts[i].Content {
		err := errkind.Errorf(errkind.Corrupt, "the copy of the image's boot files has changed since it was verified")
		return errkind.WithHint(errkind.WithName(err, errkind.NameDeployESPImages), "Stage the image again; look for faults of the disk or of the memory.")
	}
	return nil
}
