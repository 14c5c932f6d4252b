package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// Pin identifies the content of a source. It has no secrets and may be stored. If the
// server gave no validator, Strong and Weak are empty and only the size is compared: the
// reader then has to check a digest.
type Pin struct {
	Size   int64  `json:"size"`
	Strong string `json:"strong,omitempty"` // a validator for If-Range, a digest, or a version of a file
	Weak   string `json:"weak,omitempty"`   // an ETag or date that only shows changes
}

// matches reports whether found may be the content of p. A weak validator of p may have
// become a strong one in found, because the file is older now.
func (p Pin) matches(found Pin) bool {
	if p.Strong != "" || p.Weak == "" {
		return p.Size == found.Size && p.Strong == found.Strong
	}
	return p.Size == found.Size && (matchWeakly(p.Weak, found.Weak) || matchWeakly(p.Weak, found.Strong))
}

// matchWeakly compares two validators by the weak comparison of RFC 9110, 8.8.3.2. Servers
// such as Apache call the ETag of a file weak as long as the file is younger than a second.
func matchWeakly(a, b string) bool {
	return strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// Ranges reads parts of one content. If the source changes, reads fail with ErrChanged.
// Several goroutines may use it.
type Ranges struct {
	name  string // for people
	pin   Pin
	lim   Limits
	meter *Meter
	log   func(string)
	wait  func(context.Context, time.Duration) error
	pace  pace

	several atomic.Int32 // ranges of one request; 0: not tried

	file      *os.File // or
	url       *url.URL
	registry  *registry // of an oci URL, else nil
	transport http.RoundTripper
}

// OpenRanges opens src. It fails, with errkind.Unsupported, if the server does not serve
// ranges, and with ErrChanged if the content is not that of pin; the zero pin accepts any
// content. lim.MaxSize bounds the content, Stall the wait for a byte, and Attempts the tries
// in a row that fetch less than 1 MiB each. meter and log (messages for people) may be nil.
func OpenRanges(ctx context.Context, src Source, pin Pin, lim Limits, meter *Meter, log func(string)) (*Ranges, error) {
	return openRanges(ctx, src, pin, &Ranges{lim: lim.withDefaults(), meter: meter, log: log, wait: interrupt.Sleep})
}

func openRanges(ctx context.Context, src Source, pin Pin, r *Ranges) (_ *Ranges, err error) {
	path, err := src.file()
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", src, err)
	}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	if path != "" {
		r.name = path
		return r, r.explain(ctx, r.openFile(path, pin))
	}
	if r.transport == nil {
		t := transportWith(src.Roots)
		t.DisableKeepAlives = false
		t.IdleConnTimeout = 30 * time.Second
		r.transport = t
	}
	r.name = Redact(src.URL)
	if u, err := url.Parse(src.URL); err == nil && u.Scheme == "oci" && len(src.URL) <= maxURL {
		return r, r.explain(ctx, r.openRegistry(ctx, u, src.Login, pin))
	}
	if r.url, err = parseURL(src.URL); err != nil {
		return nil, err
	}
	return r, r.explain(ctx, r.openURL(ctx, pin))
}

// explain is [download.explain] for r.
func (r *Ranges) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	d := download{name: r.name}
	return d.explain(ctx, err)
}

// Close releases the resources of r. Do not read sections after it.
func (r *Ranges) Close() error {
	if t, ok := r.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
	if r.file != nil {
		return r.file.Close()
	}
	return nil
}

// Size returns the size of the whole content in bytes.
func (r *Ranges) Size() int64 { return r.pin.Size }

// Pin returns the pin of this content. With it OpenRanges opens the same content or fails.
func (r *Ranges) Pin() Pin { return r.pin }

// Local reports whether the source is a file of this host.
func (r *Ranges) Local() bool { return r.file != nil }

// Name returns the source without its secrets.
func (r *Ranges) Name() string { return r.name }

// admit sets the pin of r to found. It fails if found is too large or does not match want.
func (r *Ranges) admit(found, want Pin) error {
	switch {
	case found.Size > r.lim.MaxSize:
		return errkind.Errorf(errkind.TooLarge, "the source has %d bytes, the limit is %d", found.Size, r.lim.MaxSize)
	case want != Pin{} && !want.matches(found):
		return ErrChanged
	}
	r.pin = found
	return nil
}

func (r *Ranges) openFile(path string, want Pin) error {
	f, err := openSource(path)
	if err != nil {
		return err
	}
	r.file = f
	size, version, err := fileVersion(f)
	if err != nil {
		return err
	}
	return r.admit(Pin{Size: size, Strong: version}, want)
}

// unchanged fails with ErrChanged if the file has changed since it was opened.
func (r *Ranges) unchanged() error {
	_, version, err := fileVersion(r.file)
	if err == nil && version != r.pin.Strong {
		err = ErrChanged
	}
	return err
}

// ReadAt reads len(p) bytes from byte off, in one request unless the connection breaks. If
// it returns fewer, it also returns an error: io.EOF at the end of the content.
func (r *Ranges) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(0, r.pin.Size-off))
	s, err := r.Section(ctx, off, n)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	got, err := io.ReadFull(s, p[:n])
	if err == nil && got < len(p) {
		err = io.EOF
	}
	return got, err
}

// Section returns a reader of n bytes from byte off on, which resumes after a broken
// connection. If it ends early, its error is not io.EOF.
func (r *Ranges) Section(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off > r.pin.Size || n > r.pin.Size-off {
		return nil, r.explain(ctx, errkind.Errorf(errkind.Corrupt, "cannot read bytes %d to %d of %d", off, off+n, r.pin.Size))
	}
	if r.file != nil {
		return &fileSection{ctx, r, io.NewSectionReader(r.file, off, n)}, nil
	}
	if err := r.meter.admit(n); err != nil {
		return nil, r.explain(ctx, err)
	}
	return &section{ctx: ctx, r: r, off: off, end: off + n, retries: retries{lim: r.lim, wait: r.wait, logf: r.logf, sourceHasSent: true}}, nil
}

type fileSection struct {
	ctx context.Context
	r   *Ranges
	*io.SectionReader
}

func (s *fileSection) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, s.r.explain(s.ctx, err)
	}
	n, err := s.SectionReader.Read(p)
	if errors.Is(err, io.EOF) {
		at, _ := s.Seek(0, io.SeekCurrent)
		if changed := s.r.unchanged(); changed != nil {
			return n, s.r.explain(s.ctx, changed)
		}
		if at < s.Size() {
			return n, s.r.explain(s.ctx, io.ErrUnexpectedEOF)
		}
		return n, io.EOF
	}
	return n, s.r.explain(s.ctx, err)
}

func (s *fileSection) Close() error { return nil }

func (r *Ranges) logf(format string, args ...any) {
	if r.log != nil {
		r.log(fmt.Sprintf("fetch %s: ", r.name) + fmt.Sprintf(format, args...))
	}
}

// retries counts the tries in a row that fetched little, and waits between them.
type retries struct {
	lim           Limits
	wait          func(context.Context, time.Duration) error
	logf          func(string, ...any)
	failed        failures
	received      int64 // bytes since the last failure
	sourceHasSent bool  // the source has answered an earlier request
	broke         error // the last failure
}

// after waits and returns nil if the caller should try again after err; otherwise it
// returns an error.
func (t *retries) after(ctx context.Context, err error) error {
	retry, ok := errors.AsType[retryError](err)
	if !ok || ctx.Err() != nil {
		return err
	}
	if t.received >= goodProgress {
		t.failed = failures{}
	}
	t.received, t.broke = 0, err
	if t.failed.add(retry, t.lim.Attempts, t.sourceHasSent) {
		return errkind.Errorf(errkind.Unavailable, "given up after %d tries: %w", t.failed.all, err)
	}
	pause := pauseAfter(t.failed.all, retry.after)
	t.logf("%v; next try in %s", err, pause.Round(time.Millisecond))
	return t.wait(ctx, pause)
}
