package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxURL        = 8 << 10
	maxRedirects  = 5
	goodProgress  = 1 << 20 // bytes after which earlier failures are forgotten
	firstWait     = 500 * time.Millisecond
	longestWait   = 30 * time.Second
	dialAttempts  = 4               // they take about 3 s if a server refuses connections
	slowAttempts  = 3               // with a silent or too slow source, a minute each
	maxRetryAfter = 2 * time.Minute // the longest wait that a server can demand
)

// errAgain says that the part was restarted, and that the next request should follow at once.
var errAgain = errors.New("begun again")

// retryError is a failure after which another try may succeed.
type retryError struct {
	error
	after time.Duration // the wait that the server demanded
	dial  bool          // there was no connection
}

// most returns how many tries in a row may fail. It is less for a server that has sent
// nothing and refuses connections: its name or port is probably wrong, and the person who
// waits should learn that soon.
func (e retryError) most(attempts int, sourceHasSent bool) int {
	if e.dial && !sourceHasSent {
		return min(attempts, dialAttempts)
	}
	return attempts
}

// failures counts the tries in a row that fetched little.
type failures struct{ all, slow int }

// add counts a try that failed, and reports whether it was the last one.
func (f *failures) add(e retryError, attempts int, hasSent bool) (last bool) {
	f.all++
	if e.slow() {
		f.slow++
	}
	return f.all >= e.most(attempts, hasSent) || f.slow >= slowAttempts
}

// slow reports whether the failure is that the source was silent or too slow.
func (e retryError) slow() bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(e.error, errStalled) || errors.Is(e.error, errSlow) || !e.dial && errors.As(e.error, &timeout) && timeout.Timeout()
}

func (e retryError) Unwrap() error { return e.error }

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			u, err := http.ProxyFromEnvironment(r)
			if err != nil { // its text has the setting, and so a password, in it
				return nil, errors.New("the proxy set in the environment is not a valid URL")
			}
			return u, nil
		},
		OnProxyConnectResponse: onProxyConnectResponse,
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    30 * time.Second,
		DisableCompression:     true,
		DisableKeepAlives:      true, // there are few requests, and no connection remains open
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
}

// transportWith returns newTransport's transport with the authorities roots, or the system's
// if roots is nil.
func transportWith(roots *x509.CertPool) *http.Transport {
	t := newTransport()
	t.TLSClientConfig.RootCAs = roots
	return t
}

// parseURL parses the URL of a source. Its errors never quote the URL, which may have a
// password.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > maxURL:
		return nil, errkind.Errorf(errkind.Invalid, "fetch: the URL of the source is not valid")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errkind.Errorf(errkind.Invalid, "fetch: the URL of the source must begin with http://, https://, oci:// or file://")
	case u.Hostname() == "":
		return nil, errkind.Errorf(errkind.Invalid, "fetch: the URL of the source names no host")
	}
	return u, nil
}

func (d *download) fetchURL(ctx context.Context) error {
	for failed := (failures{}); ; {
		before := d.received
		err := d.attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, errAgain) {
			continue
		}
		retry, ok := errors.AsType[retryError](err)
		if !ok {
			return err
		}
		if d.received-before >= goodProgress {
			failed = failures{}
		}
		d.broke = err
		if failed.add(retry, d.lim.Attempts, d.part.size > 0 || d.received > 0) {
			return errkind.Errorf(errkind.Unavailable, "given up after %d tries: %w", failed.all, err)
		}
		pause := pauseAfter(failed.all, retry.after)
		d.logf("%v; next try at byte %d in %s", err, d.part.size, pause.Round(time.Millisecond))
		if err := d.wait(ctx, pause); err != nil {
			return err
		}
	}
}

// pauseAfter returns the pause after the given number of failures. It doubles each time,
// with a random part, so that the hosts of a fleet do not return at the same moment.
func pauseAfter(failed int, asked time.Duration) time.Duration {
	pause := min(firstWait<<min(failed-1, 10), longestWait)
	pause = pause/2 + rand.N(pause/2)
	return max(pause, min(asked, maxRetryAfter))
}

// attempt is one request, redirects included, and its answer.
func (d *download) attempt(ctx context.Context) error {
	if d.part.size > 0 && d.part.rec.Size == d.part.size {
		return nil // an earlier call fetched all bytes, and was interrupted before finish
	}
	if d.part.size > 0 && d.part.rec.Validator == "" {
		reason := errkind.Errorf(errkind.Unavailable, "%s, and the server does not say which version of the file it sends, so Trident cannot request the rest alone", d.interruption())
		if err := d.begin("", -1, reason); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer, asked := time.AfterFunc(d.lim.Stall, func() { cancel(errStalled) }), time.Now()
	resp, err := d.request(ctx)
	timer.Stop()
	if err != nil {
		if ctx.Err() != nil {
			err = retryError{error: context.Cause(ctx)}
		}
		return err
	}
	defer resp.Body.Close()
	if err := d.pace.add(time.Since(asked), requestCredit); err != nil {
		return retryError{error: err}
	}
	end, err := d.judge(resp)
	if err != nil {
		return err
	}
	return d.take(metered{ctx, d.meter, newWatched(ctx, cancel, d.lim.Stall, d.pace, resp.Body)}, end)
}

// take stores a body, after which the part has end bytes (-1: unknown).
func (d *download) take(body io.Reader, end int64) error {
	limit := end
	if end < 0 {
		limit = d.lim.MaxSize
	}
	err := d.copy(body, limit)
	lost, atSource := errors.AsType[sourceError](err)
	switch {
	case errors.Is(err, errLonger) && end < 0:
		return errkind.Errorf(errkind.TooLarge, "the source has more than %d bytes", d.lim.MaxSize)
	case errors.Is(err, errLonger):
		// Either the size or the bytes are wrong, so discard them.
		return errors.Join(errkind.Errorf(errkind.Corrupt, "the source sent more than the announced %d bytes", end), d.part.restart("", -1))
	case atSource && errkind.Of(lost.error) == errkind.TooLarge: // the data budget
		return lost.error
	case atSource && isMalformed(lost.error):
		return malformed(lost.error)
	case atSource:
		return retryError{error: fmt.Errorf("read: %w", lost.error)}
	case err != nil:
		return err
	case end >= 0 && d.part.size < end:
		return retryError{error: fmt.Errorf("read: %w", io.ErrUnexpectedEOF)}
	case d.part.rec.Size >= 0 && d.part.size < d.part.rec.Size:
		return retryError{error: fmt.Errorf("the server sent the range up to byte %d only", end)}
	}
	return nil
}

// request sends the request for the missing bytes.
func (d *download) request(ctx context.Context) (*http.Response, error) {
	if d.registry != nil {
		return d.requestLayer(ctx)
	}
	u, err := parseURL(d.src.URL)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	if d.part.size > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(d.part.size, 10)+"-")
		h.Set("If-Range", d.part.rec.Validator)
	}
	return get(ctx, d.transport, u, h)
}

// retryAfter returns the time of the Retry-After header (RFC 9110, 10.2.3), or 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
