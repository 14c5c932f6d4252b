package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// maxAgain bounds how often a download discards its bytes and begins again, so that it
// transfers at most three times the size.
const maxAgain = 2

// download is one call of Download. Tests replace its functions.
type download struct {
	src       Source
	lim       Limits
	progress  func(done, total int64)
	log       func(string)
	transport http.RoundTripper
	wait      func(context.Context, time.Duration) error
	free      func(dir string) (int64, error)
	every     int64 // bytes between checkpoints
	touch     func(point string) error

	name         string       // of the source, for people
	registry     *layerSource // of an oci URL, else nil
	part         *part
	meter        *Meter
	received     int64     // bytes, by this call
	pace         *pace     // the rate of the source
	broke        error     // the last failure after which the download made another request
	lastProgress time.Time // of the last progress
}

func (d *download) run(ctx context.Context, path string) (_ Result, err error) {
	identity, err := d.identify(path)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		if err != nil {
			err = d.explain(ctx, err)
		}
	}()
	if d.pace, d.meter = new(pace), d.src.Meter; d.meter == nil && d.src.URL != "" && d.src.Path == "" {
		if d.meter, err = OpenMeter(path, d.src.MaxBytes); err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, d.meter.Close()) }()
	}
	if d.part, err = openPart(ctx, path, identity, d.every, d.touch); err != nil {
		return Result{}, err
	}
	defer func() {
		cerr := d.part.close()
		if full := errkind.NoSpace; errkind.Of(err) == full && errkind.Of(cerr) == full {
			cerr = nil // the next call fetches the bytes that had no space
		}
		err = errors.Join(err, cerr)
	}()
	if d.part.rec.Complete && d.part.size > d.lim.MaxSize {
		return Result{}, d.tooLarge(d.part.size)
	}
	if !d.part.rec.Complete || d.src.Upload != nil {
		if err := d.fetch(ctx); err != nil {
			return Result{}, err
		}
	}
	if announced := d.src.Size; announced > 0 && d.part.size != announced {
		return Result{}, errors.Join(d.otherSize(d.part.size), d.part.restart("", -1))
	}
	result, err := d.part.finish(cmp.Or(d.src.SHA256, d.layerSHA256()))
	if err == nil {
		d.lastProgress = time.Time{}
		d.reportProgress()
	}
	return result, err
}

func (d *download) fetch(ctx context.Context) error {
	switch {
	case d.src.Path != "":
		return d.fetchFile(ctx)
	case d.src.URL != "":
		return d.fetchURL(ctx)
	case d.src.Upload != nil:
		return d.fetchUpload(ctx)
	}
	return ErrUploadLost
}

// identify checks the source, sets its name, and returns its identity for the record.
// Neither has secrets of the URL.
func (d *download) identify(part string) (string, error) {
	kinds := 0
	for _, set := range []bool{d.src.URL != "", d.src.Path != "", d.src.Upload != nil || d.src.UploadSize > 0} {
		if set {
			kinds++
		}
	}
	if kinds != 1 || d.src.UploadSize < 0 {
		return "", errkind.Errorf(errkind.Invalid, "fetch: the source must be one of a URL, a path and an upload")
	}
	if sum, err := hex.DecodeString(d.src.SHA256); err != nil || len(sum) != 0 && len(sum) != sha256.Size {
		return "", errkind.Errorf(errkind.Invalid, "fetch: the expected SHA-256 must be %d hex digits", 2*sha256.Size)
	}
	path, err := d.src.file()
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", d.src, err)
	}
	switch d.src.Path = path; {
	case path != "":
		d.name = path
		return "path " + path, sameFile(path, part)
	case d.src.URL != "":
		u, err := d.parseSource()
		if err != nil {
			return "", err
		}
		d.name = redact(u)
		return fmt.Sprintf("url %s %x", d.name, sha256.Sum256([]byte(d.src.URL))), nil
	}
	d.name = "the upload"
	return fmt.Sprintf("upload %d", d.src.UploadSize), nil
}

// sameFile fails if the source is the part file, which the download would overwrite.
func sameFile(path, part string) error {
	a, errA := os.Stat(path)
	b, errB := os.Stat(part)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return errkind.Errorf(errkind.Invalid, "fetch %s: the source is the part file itself", path)
	}
	return nil
}

// explain adds the name of the source to err, and gives err the kind Timeout or Cancelled
// if ctx has ended.
func (d *download) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	err = fmt.Errorf("fetch %s: %w", d.name, err)
	switch {
	case ctx.Err() == nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errkind.With(errkind.Timeout, err)
	}
	return errkind.With(errkind.Cancelled, err)
}

// begin discards the bytes of the part, if it has any, for the given reason, and prepares
// the part for content of size bytes with that validator.
func (d *download) begin(validator string, size int64, reason error) error {
	if d.part.size > 0 {
		if d.part.rec.Again >= maxAgain {
			return reason
		}
		d.part.rec.Again++
		d.logf("begun again from the first byte, not from %d: %v", d.part.size, reason)
	}
	return d.part.restart(validator, size)
}

// admit fails if the limit or the free space does not allow the rest of a source of size
// bytes (-1: unknown).
func (d *download) admit(size int64) error {
	if size < 0 {
		return nil
	}
	switch {
	case size > d.lim.MaxSize:
		return d.tooLarge(size)
	case d.src.Size > 0 && size != d.src.Size:
		return d.otherSize(size)
	}
	if d.src.Path == "" {
		if err := d.meter.admit(size - d.part.size); err != nil {
			return err
		}
	}
	dir := filepath.Dir(d.part.path)
	free, err := d.free(dir)
	if err != nil {
		return err
	}
	if need := size - d.part.size; need > free {
		return errkind.WithHint(errkind.Errorf(errkind.NoSpace, "%d more bytes are needed in %s, %d are free", need, dir, free), spaceHint)
	}
	return nil
}

func (d *download) tooLarge(size int64) error {
	return errkind.Errorf(errkind.TooLarge, "the source has %d bytes, the limit is %d", size, d.lim.MaxSize)
}

func (d *download) otherSize(size int64) error {
	err := errkind.Errorf(errkind.Corrupt, "the source has %d bytes, and %d were announced", size, d.src.Size)
	return errkind.WithHint(err, "The server has another file than the feed or the request says. Try again later, or ask who publishes it.")
}

// sourceError is a failure of the source, after which another try may succeed.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

var errLonger = errors.New("the source sent more bytes than it had announced")

// copy appends r to the part, up to end bytes in all. If r has more, copy returns
// errLonger and does not store the last read.
func (d *download) copy(r io.Reader, end int64) error {
	buf := make([]byte, bufferSize)
	for {
		n, err := r.Read(buf)
		d.received += int64(n)
		if d.part.size+int64(n) > end {
			return sourceError{errLonger}
		}
		if n > 0 {
			if err := d.part.write(buf[:n]); err != nil {
				return err
			}
			d.reportProgress()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return sourceError{err}
		}
	}
}

func (d *download) reportProgress() {
	if d.progress != nil && time.Since(d.lastProgress) >= 200*time.Millisecond {
		d.lastProgress = time.Now()
		d.progress(d.part.size, max(0, d.part.rec.Size))
	}
}

func (d *download) logf(format string, args ...any) {
	if d.log != nil {
		d.log(fmt.Sprintf("fetch %s: ", d.name) + fmt.Sprintf(format, args...))
	}
}
