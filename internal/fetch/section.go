package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// section reads a range of the content of an http server or a registry.
type section struct {
	retries
	ctx      context.Context
	r        *Ranges
	off, end int64 // the next byte, and the byte after the last

	body  io.Reader // nil: open requests it
	stop  func()
	ended error // the error of all later calls of Read
}

func (s *section) Read(p []byte) (int, error) {
	for s.ended == nil {
		if s.off == s.end {
			s.hangUp()
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := s.read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			s.hangUp()
			if err := s.after(s.ctx, err); err != nil {
				s.ended = s.r.explain(s.ctx, err)
			}
		}
	}
	return 0, s.ended
}

// read reads once from one answer. If it has bytes and an error, it returns the bytes first.
func (s *section) read(p []byte) (int, error) {
	if s.body == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	want, err := s.r.meter.reserve(s.ctx, int(min(int64(len(p)), s.end-s.off)))
	if err != nil {
		return 0, err
	}
	n, err := s.body.Read(p[:want])
	s.r.meter.settle(want, n)
	s.off += int64(n)
	s.received += int64(n)
	if n == 0 && err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, retryError{error: fmt.Errorf("read at byte %d: %w", s.off, err)}
	}
	return n, nil
}

// open requests the rest of the range, and accepts only an answer with that range.
func (s *section) open() error {
	if err := s.r.meter.admit(s.end - s.off); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.stop = func() { cancel(nil) }
	timer, asked := time.AfterFunc(s.r.lim.Stall, func() { cancel(errStalled) }), time.Now()
	resp, err := s.r.requestRange(ctx, s.off, s.end)
	timer.Stop()
	if err != nil {
		if ctx.Err() != nil && s.ctx.Err() == nil {
			err = retryError{error: context.Cause(ctx)}
		}
		return err
	}
	err = s.r.judge(resp, s.off, s.end, s.broke)
	if slow := s.r.pace.add(time.Since(asked), requestCredit); err == nil && slow != nil {
		err = retryError{error: slow}
	}
	if err != nil {
		_ = resp.Body.Close()
		return err
	}
	body := resp.Body
	s.stop = func() { _ = body.Close(); cancel(nil) }
	s.body = newWatched(ctx, cancel, s.r.lim.Stall, &s.r.pace, body)
	return nil
}

func (s *section) hangUp() {
	if s.stop != nil {
		s.stop()
	}
	s.body, s.stop = nil, nil
}

func (s *section) Close() error {
	s.hangUp()
	if s.ended == nil {
		s.ended = errors.New("read of a closed section")
	}
	return nil
}

func (r *Ranges) requestRange(ctx context.Context, off, end int64) (*http.Response, error) {
	return r.request(ctx, fmt.Sprintf("bytes=%d-%d", off, end-1))
}

// request sends a request with that header Range.
func (r *Ranges) request(ctx context.Context, ranges string) (*http.Response, error) {
	h := http.Header{}
	h.Set("Range", ranges)
	if r.registry != nil {
		return r.registry.get(ctx, r.url, h) // needs no validator: the digest names the content
	}
	if r.pin.Strong != "" {
		h.Set("If-Range", r.pin.Strong)
	}
	return get(ctx, r.transport, r.url, h)
}

// judge accepts the requested range of the pinned content, or the beginning of that range.
// broke is the failure that caused this request, or nil.
func (r *Ranges) judge(resp *http.Response, off, end int64, broke error) error {
	if err := checkCoding(resp); err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		if r.changed(resp) || resp.ContentLength >= 0 && resp.ContentLength != r.pin.Size {
			return ErrChanged
		}
		return errNoRanges(broke)
	case http.StatusRequestedRangeNotSatisfiable:
		return ErrChanged
	default:
		return statusError(resp)
	}
	from, to, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case ok && size != r.pin.Size || r.changed(resp):
		return ErrChanged
	case !ok || from != off || to >= end || resp.ContentLength >= 0 && resp.ContentLength != to-from+1:
		err := fmt.Errorf("the server sent another range (%.100q) than bytes %d to %d", resp.Header.Get("Content-Range"), off, end-1)
		return retryError{error: err}
	}
	return nil
}

// changed reports whether an answer is certainly from another content.
func (r *Ranges) changed(resp *http.Response) bool {
	if r.registry != nil {
		return false
	}
	if r.pin.Strong != "" {
		return otherContent(resp.Header, r.pin.Strong)
	}
	return r.pin.Weak != "" && !matchWeakly(weakValidator(resp.Header), r.pin.Weak)
}

// errNoRanges returns the error for a server that sends only whole files. broke is the
// failure that caused the request, or nil.
func errNoRanges(broke error) error {
	err := errkind.Errorf(errkind.Unsupported, "the server does not serve ranges: it sent the whole file in answer to a request for a part")
	if broke != nil {
		err = errkind.Errorf(errkind.Unsupported, "the connection broke (%v), and the server does not serve the rest: it sent the whole file in answer to a request for a part", broke)
	}
	return errkind.WithHint(err, "Serve the image from a server that supports range requests (Accept-Ranges: bytes), or give a file.")
}

// openURL reads size and validators of the content by requesting its first byte.
func (r *Ranges) openURL(ctx context.Context, want Pin) error {
	t := retries{lim: r.lim, wait: r.wait, logf: r.logf}
	for {
		found, err := r.probe(ctx)
		if err == nil && r.registry != nil {
			found.Strong, found.Weak = want.Strong, want.Weak // the digest
		}
		if err == nil {
			return r.admit(found, want)
		}
		if err := t.after(ctx, err); err != nil {
			return err
		}
	}
}

func (r *Ranges) probe(ctx context.Context) (Pin, error) {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(r.lim.Stall, func() { cancel(errStalled) })
	defer timer.Stop()
	resp, err := r.requestRange(ctx, 0, 1)
	if err != nil {
		if ctx.Err() != nil && outer.Err() == nil {
			err = retryError{error: context.Cause(ctx)}
		}
		return Pin{}, err
	}
	defer resp.Body.Close()
	if err := checkCoding(resp); err != nil {
		return Pin{}, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		return Pin{}, errNoRanges(nil)
	case http.StatusRequestedRangeNotSatisfiable:
		return Pin{}, errkind.Errorf(errkind.Corrupt, "the source is empty")
	default:
		return Pin{}, statusError(resp)
	}
	from, to, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
	if !ok || from != 0 || to != 0 {
		return Pin{}, errkind.Errorf(errkind.Unavailable, "the server answered a request for byte 0 with the range %.100q", resp.Header.Get("Content-Range"))
	}
	// Read the body, one byte, so that the connection can be used again.
	n, _ := io.Copy(io.Discard, io.LimitReader(resp.Body, 1))
	r.meter.settle(0, int(n))
	pin := Pin{Size: size, Strong: strongValidator(resp.Header)}
	if pin.Strong == "" && r.registry == nil {
		pin.Weak = weakValidator(resp.Header)
		r.logf("the server does not say reliably which version of the file it sends; only a digest can show a change")
	}
	return pin, nil
}

// weakValidator returns the ETag or date of an answer that has no strong validator.
func weakValidator(h http.Header) string {
	v := h.Get("ETag")
	if v == "" {
		v = h.Get("Last-Modified")
	}
	return strings.ToValidUTF8(v[:min(len(v), 256)], "?")
}
