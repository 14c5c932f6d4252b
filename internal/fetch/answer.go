package fetch

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// judge checks an answer and prepares the part for its body. It returns how many bytes
// the part has after the body, or -1 if unknown.
func (d *download) judge(resp *http.Response) (int64, error) {
	asked := d.part.size > 0
	switch {
	case resp.StatusCode == http.StatusOK:
		return d.judgeWhole(resp)
	case resp.StatusCode == http.StatusPartialContent && asked:
		return d.judgeRange(resp)
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && asked:
		return 0, d.judgeNoRange(resp)
	}
	return 0, statusError(resp)
}

func (d *download) judgeWhole(resp *http.Response) (int64, error) {
	if err := checkCoding(resp); err != nil {
		return 0, err
	}
	if resp.ContentLength > d.lim.MaxSize { // before begin discards the bytes of the part
		return 0, d.tooLarge(resp.ContentLength)
	}
	validator, reason := strongValidator(resp.Header), error(ErrChanged)
	if validator != "" && validator == d.part.rec.Validator {
		reason = errkind.Errorf(errkind.Unavailable, "%s, and the server does not serve ranges, so Trident cannot fetch the rest alone", d.interruption())
	}
	if err := d.begin(validator, resp.ContentLength, reason); err != nil {
		return 0, err
	}
	return resp.ContentLength, d.admit(resp.ContentLength)
}

// interruption says why the part is not complete.
func (d *download) interruption() string {
	if d.broke == nil {
		return "an earlier download was interrupted"
	}
	return fmt.Sprintf("the connection broke (%v)", d.broke)
}

// judgeRange accepts the requested range of the pinned content, or the beginning of that
// range (RFC 9110, 15.3.7), and nothing else.
func (d *download) judgeRange(resp *http.Response) (int64, error) {
	if err := checkCoding(resp); err != nil {
		return 0, err
	}
	from, to, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
	pinned := d.part.rec
	var reason error
	switch {
	case !ok || from != d.part.size || resp.ContentLength >= 0 && resp.ContentLength != to-from+1:
		reason = errkind.Errorf(errkind.Unavailable, "the server sent another range than the requested one (%.100q)", resp.Header.Get("Content-Range"))
	case pinned.Size >= 0 && size != pinned.Size || otherContent(resp.Header, pinned.Validator):
		reason = ErrChanged
	}
	if reason != nil {
		if err := d.begin("", -1, reason); err != nil {
			return 0, err
		}
		return 0, errAgain
	}
	d.part.rec.Size = size
	return to + 1, d.admit(size)
}

// judgeNoRange handles the answer that the source has no bytes after those of the part.
// If the part is complete, attempt notices it by the size.
func (d *download) judgeNoRange(resp *http.Response) error {
	v, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes */")
	if size, err := strconv.ParseInt(v, 10, 64); ok && err == nil && size == d.part.size && d.part.rec.Size < 0 {
		d.part.rec.Size = size
		return errAgain
	}
	if err := d.begin("", -1, ErrChanged); err != nil {
		return err
	}
	return errAgain
}

func checkCoding(resp *http.Response) error {
	for _, v := range resp.Header.Values("Content-Encoding") {
		if v != "" && !strings.EqualFold(v, "identity") {
			err := errkind.Errorf(errkind.Unsupported, "the server sent the file with content encoding %.40q, which Trident did not request", v)
			return errkind.WithHint(err, "Switch off compression for this file at the server, or at the proxy before it.")
		}
	}
	return nil
}

// strongValidator returns the validator of this answer for If-Range, or "". A date is a
// validator only if the answer has no entity tag and the date is clearly older than the
// answer (RFC 9110, 8.8.2.2 and 13.1.5).
func strongValidator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" {
		if len(tag) >= 2 && len(tag) <= 1024 && tag[0] == '"' && tag[len(tag)-1] == '"' {
			return tag
		}
		return ""
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return ""
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < time.Minute {
		return ""
	}
	return h.Get("Last-Modified")
}

// otherContent reports whether the header of an answer contradicts validator.
func otherContent(h http.Header, validator string) bool {
	field := "Last-Modified"
	if strings.HasPrefix(validator, `"`) {
		field = "ETag"
	}
	v := h.Get(field)
	return v != "" && v != validator
}

// parseContentRange parses "bytes from-to/size" (RFC 9110, 14.4). It returns false if a
// number is missing or from is after to.
func parseContentRange(s string) (from, to, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, all, found := strings.Cut(s, "/")
	first, last, dash := strings.Cut(span, "-")
	if !ok || !found || !dash {
		return 0, 0, 0, false
	}
	var n [3]int64
	for i, v := range []string{first, last, all} {
		u, err := strconv.ParseUint(v, 10, 62)
		if err != nil {
			return 0, 0, 0, false
		}
		n[i] = int64(u)
	}
	return n[0], n[1], n[2], n[0] <= n[1] && n[1] < n[2]
}

// statusError returns the error for an answer with a status of failure.
func statusError(resp *http.Response) error {
	server := "the server"
	if changedOrigin(resp) {
		server = resp.Request.URL.Host + ", reached by redirects,"
	}
	if resp.Request != nil {
		if proxy, _ := resp.Request.Context().Value(proxyKey{}).(string); proxy != "" {
			server += " (or the proxy " + proxy + ")"
		}
	}
	err := fmt.Errorf("%s answered %d %s", server, resp.StatusCode, http.StatusText(resp.StatusCode))
	authorized := resp.Request != nil && resp.Request.Header.Get("Authorization") != ""
	if hint := statusHint(resp.StatusCode, authorized); hint != "" {
		err = errkind.WithHint(err, "%s", hint)
	}
	switch s := resp.StatusCode; {
	case s == http.StatusNotFound || s == http.StatusGone:
		return errkind.With(errkind.NotFound, err)
	case s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusProxyAuthRequired:
		return errkind.With(errkind.Denied, err)
	case s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s == http.StatusTooEarly || s >= 500:
		return retryError{error: err, after: retryAfter(resp.Header, time.Now())}
	case s >= 400:
		return errkind.With(errkind.Invalid, err)
	}
	return errkind.With(errkind.Unavailable, err)
}

// statusHint returns what a person can do about a status of failure, or "".
// authorized says whether the request had credentials.
func statusHint(status int, authorized bool) string {
	switch {
	case status >= 200 && status < 300:
		return "Give the URL of the file itself: this address answers with something else."
	case status >= 300 && status < 400:
		return "Give the address to which this one redirects."
	case status == http.StatusUnauthorized && authorized:
		return "The server does not accept these credentials: check the user name and the password."
	case status == http.StatusUnauthorized:
		return "The server wants credentials. Give them in the URL: https://USER:PASSWORD@HOST/PATH"
	case status == http.StatusForbidden:
		return "Check whether the URL carries a signature that has expired, and whether the server lets this host read the file."
	case status == http.StatusNotFound || status == http.StatusGone:
		return "Check the path in the URL, and that the file has been published."
	case status == http.StatusProxyAuthRequired:
		return proxyHint
	case status == http.StatusTooManyRequests || status >= 500:
		return "Try again later. If it stays so, the log of the server says why."
	case status >= 400:
		return "Check the URL, and the server's log."
	}
	return ""
}
