package connect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	fileTime  = 10 * time.Minute // of one download
	filesTime = 2 * time.Minute  // of waiting for a server that does not answer
	labelTime = 10 * time.Second
)

// download downloads a file: whole and with the stated hash, or not at all. It repeats an
// attempt that failed for lack of an answer, for filesTime.
func (a *agent) download(ctx context.Context, f File, tools run.Runner) error {
	pause, since := a.config.MinPause, time.Now()
	for {
		err := downloadOnce(ctx, f)
		if err == nil {
			break
		}
		err = fmt.Errorf("download %s to %s: %w", redact(f.URL), f.Destination, err)
		if errors.Is(err, syscall.EROFS) {
			return errkind.WithHint(err, "trident-connect.service may write to /etc/trident only. Permit another folder with ReadWritePaths=: systemctl edit trident-connect.service")
		}
		if errkind.Of(err) != errkind.Unavailable || time.Since(since) > filesTime {
			return err
		}
		a.logger.Warn("cannot download a file; the agent tries again", "error", err)
		if interrupt.Sleep(ctx, jitter(pause)) != nil {
			return context.Cause(ctx)
		}
		pause = min(2*pause, a.config.MaxPause)
	}
	a.logger.Info("downloaded a file", "from", redact(f.URL), "to", f.Destination)
	a.label(ctx, f.Destination, tools)
	return nil
}

// label gives a file the label that the policy of SELinux has for its path, if the host has
// restorecon(8).
func (a *agent) label(ctx context.Context, path string, tools run.Runner) {
	if finder, ok := tools.(run.Finder); ok && finder.Find("restorecon") != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, labelTime)
	defer cancel()
	if _, err := tools.Run(ctx, "restorecon", "--", path); err != nil {
		a.logger.Log(ctx, slog.LevelWarn, "cannot label a file", "path", path, "error", err)
	}
}

func downloadOnce(ctx context.Context, f File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fileTime, errkind.Errorf(errkind.Timeout, "not complete within %s", fileTime))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return errkind.With(errkind.Invalid, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives, transport.DisableCompression = true, true // one file; its bytes as they are
	client := &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	response, err := client.Do(request)
	if err != nil {
		return errkind.With(errkind.Unavailable, causeOf(ctx, withoutURL(err)))
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests:
		return errkind.Errorf(errkind.Unavailable, "the server answers %q", response.Status)
	case response.StatusCode != http.StatusOK:
		return errkind.Errorf(errkind.NotFound, "the server answers %q", response.Status)
	case response.ContentLength > f.MaxBytes:
		return errkind.Errorf(errkind.TooLarge, "it has %d bytes, and may have %d", response.ContentLength, f.MaxBytes)
	}
	if err := os.MkdirAll(filepath.Dir(f.Destination), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteFunc(f.Destination, f.Mode, func(w io.Writer) error { return f.receive(ctx, w, response.Body) })
}

// receive copies a body, and fails if it is too large, cut short, or has another hash.
func (f File) receive(ctx context.Context, w io.Writer, body io.Reader) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(body, f.MaxBytes+1))
	switch {
	case n > f.MaxBytes:
		return errkind.Errorf(errkind.TooLarge, "it has more than %d bytes", f.MaxBytes)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errkind.Errorf(errkind.Unavailable, "the server sends only %d bytes of it", n)
	case err != nil:
		return causeOf(ctx, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); f.SHA256 != "" && !strings.EqualFold(got, f.SHA256) {
		return errkind.Errorf(errkind.Corrupt, "its SHA-256 is %s and must be %s", got, strings.ToLower(f.SHA256))
	}
	return nil
}

// checkRedirect refuses a redirection from https to http, and the eleventh.
func checkRedirect(to *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("more than 10 redirections")
	case via[0].URL.Scheme == "https" && to.URL.Scheme != "https":
		return errors.New("the server redirects from https to http")
	}
	return nil
}

// withoutURL returns the cause inside an error of package http, which has the URL.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// redact returns a URL without what may be secret in it: password and query.
func redact(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(a malformed URL)"
	}
	u.RawQuery = ""
	return u.Redacted()
}
