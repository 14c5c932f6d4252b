package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Span is a part of a content: Len bytes from byte Off on.
type Span struct{ Off, Len int64 }

const (
	// maxSeveral is the most ranges of one request. 100 have a header of about 2 kB: nginx
	// accepts 8 kB, and Apache 200 ranges.
	maxSeveral = 100
	// largeSpan is the size from which a span has a request of its own.
	largeSpan = 1 << 20
)

// errSeveral says that a server does not answer several ranges as asked.
var errSeveral = errors.New("several ranges are not served")

// ReadSpans reads spans, which must neither overlap nor touch, and gives their bytes to got in
// pieces. The pieces of a span come in their order; spans may come in any order. If got fails,
// ReadSpans returns that error.
//
// It asks a server for two ranges at once first, and for up to 100 if it gets both. It accepts
// fewer than it asked for, in any order, each by its own Content-Range only. A server that
// answers with the whole file, or with something else, is asked for single ranges from then on.
func (r *Ranges) ReadSpans(ctx context.Context, spans []Span, got func(off int64, p []byte) error) error {
	rest := slices.Clone(spans)
	t := retries{lim: r.lim, wait: r.wait, logf: r.logf, sourceHasSent: true}
	for len(rest) > 0 {
		n := r.batch(rest)
		if n == 1 {
			if err := r.readSpan(ctx, rest[0], got); err != nil {
				return err
			}
			rest = rest[1:]
			continue
		}
		a := &spanAnswer{r: r, left: slices.Clone(rest[:n]), got: got, t: &t}
		err := a.ask(ctx)
		rest = append(a.left, rest[n:]...)
		r.learn(n, a.parts, err)
		if errors.Is(err, errSeveral) {
			r.logf("%v; one range a request from now on", err)
			continue
		}
		if err != nil {
			if err := t.after(ctx, err); err != nil {
				return r.explain(ctx, err)
			}
		}
	}
	return nil
}

// batch returns how many of the first spans the next request asks for.
func (r *Ranges) batch(spans []Span) int {
	most := int(r.several.Load())
	switch {
	case r.file != nil || most == 1:
		return 1
	case most == 0:
		most = 2
	}
	n := 0
	for n < len(spans) && n < most && spans[n].Len < largeSpan {
		n++
	}
	return max(n, 1)
}

// learn sets how many ranges the next request has, after one with asked ranges brought parts.
func (r *Ranges) learn(asked, parts int, err error) {
	switch {
	case errors.Is(err, errSeveral):
		r.several.Store(1)
	case err == nil && parts >= asked:
		r.several.Store(maxSeveral)
	case err == nil: // the server has a limit of its own
		r.several.Store(int32(max(parts, 1)))
	}
}

// readSpan reads a span with requests for one range.
func (r *Ranges) readSpan(ctx context.Context, span Span, got func(off int64, p []byte) error) error {
	s, err := r.Section(ctx, span.Off, span.Len)
	if err != nil {
		return err
	}
	defer s.Close()
	return deliver(s, &span, make([]byte, min(span.Len, bufferSize)), got)
}

// deliver gives the bytes of span to got, and shortens span by them.
func deliver(r io.Reader, span *Span, buf []byte, got func(off int64, p []byte) error) error {
	for span.Len > 0 {
		n, err := r.Read(buf[:min(int64(len(buf)), span.Len)])
		if n > 0 {
			if err := got(span.Off, buf[:n]); err != nil {
				return receiverError{err}
			}
			span.Off += int64(n)
			span.Len -= int64(n)
		}
		if err != nil && span.Len > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// receiverError is an error of the function that gets the bytes.
type receiverError struct{ error }

func (e receiverError) Unwrap() error { return e.error }

// spanAnswer is a request for several ranges.
type spanAnswer struct {
	r     *Ranges
	left  []Span // what is still missing
	got   func(off int64, p []byte) error
	t     *retries
	parts int // how many ranges the answer has had
}

// ask requests the ranges in a.left and takes what the answer has of them.
func (a *spanAnswer) ask(outer context.Context) error {
	r := a.r
	total, texts := int64(0), []string(nil)
	for _, s := range a.left {
		total += s.Len
		texts = append(texts, fmt.Sprintf("%d-%d", s.Off, s.Off+s.Len-1))
	}
	if err := r.meter.admit(total); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	timer, asked := time.AfterFunc(r.lim.Stall, func() { cancel(errStalled) }), time.Now()
	resp, err := r.request(ctx, "bytes="+strings.Join(texts, ","))
	timer.Stop()
	if err != nil {
		if ctx.Err() != nil && outer.Err() == nil {
			err = retryError{error: context.Cause(ctx)}
		}
		return err
	}
	defer resp.Body.Close()
	if err := r.pace.add(time.Since(asked), requestCredit); err != nil {
		return retryError{error: err}
	}
	if err := r.judgeSeveral(resp); err != nil {
		return err
	}
	body := metered{outer, r.meter, newWatched(ctx, cancel, r.lim.Stall, &r.pace, resp.Body)}
	before := a.missing()
	err = a.take(resp, body)
	a.t.received += before - a.missing()
	a.left = slices.DeleteFunc(a.left, func(s Span) bool { return s.Len == 0 })
	if lost, ok := errors.AsType[receiverError](err); ok {
		return lost.error
	}
	if err != nil && a.parts == 0 && r.several.Load() == 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the answer to the first request for several ranges ended early: %w", errSeveral)
	}
	if err != nil && errkind.Of(err) != errkind.TooLarge && !errors.Is(err, ErrChanged) && !errors.Is(err, errSeveral) {
		return retryError{error: fmt.Errorf("read %d ranges: %w", len(texts), err)}
	}
	return err
}

func (a *spanAnswer) missing() (n int64) {
	for _, s := range a.left {
		n += s.Len
	}
	return n
}

// take reads the body of an answer: one range, or several in a multipart message.
func (a *spanAnswer) take(resp *http.Response, body io.Reader) error {
	buf := make([]byte, bufferSize)
	boundary, several := boundaryOf(resp.Header.Get("Content-Type"))
	if !several {
		span, err := a.find(resp.Header.Get("Content-Range"))
		if err != nil {
			return err
		}
		a.parts++
		return deliver(body, span, buf, a.got)
	}
	m := newParts(body, boundary)
	for {
		contentRange, err := m.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		span, err := a.find(contentRange)
		if err != nil {
			return err
		}
		a.parts++
		if err := deliver(m.r, span, buf, a.got); err != nil {
			return err
		}
	}
}

// find returns the missing span that a Content-Range names.
func (a *spanAnswer) find(contentRange string) (*Span, error) {
	from, to, size, ok := parseContentRange(contentRange)
	if ok && size != a.r.pin.Size {
		return nil, ErrChanged
	}
	for i := range a.left {
		if s := &a.left[i]; ok && s.Len > 0 && s.Off == from && s.Off+s.Len == to+1 {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the server sent the range %.100q, which is not one of the requested: %w", contentRange, errSeveral)
}

// judgeSeveral fails unless resp has ranges of the pinned content.
func (r *Ranges) judgeSeveral(resp *http.Response) error {
	if err := checkCoding(resp); err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if r.changed(resp) {
			return ErrChanged
		}
		return nil
	case http.StatusOK:
		if r.changed(resp) || resp.ContentLength >= 0 && resp.ContentLength != r.pin.Size {
			return ErrChanged
		}
		return fmt.Errorf("the server sent the whole file in answer to a request for several ranges: %w", errSeveral)
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		return fmt.Errorf("the server answered %d %s to a request for several ranges: %w", resp.StatusCode, http.StatusText(resp.StatusCode), errSeveral)
	}
	return statusError(resp)
}

// metered is a reader of an answer that counts its bytes.
type metered struct {
	ctx   context.Context
	meter *Meter
	r     io.Reader
}

func (m metered) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	want, err := m.meter.reserve(m.ctx, len(p))
	if err != nil {
		return 0, err
	}
	n, err := m.r.Read(p[:want])
	m.meter.settle(want, n)
	return n, err
}
