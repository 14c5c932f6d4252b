package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// Read returns the whole content of a small source, which has a URL (file, http, https) or a
// Path. It makes one try, by the rules of [Download] for redirects, proxies, certificates and
// slow servers, and keeps nothing on disk.
//
// Read fails with errkind.TooLarge, and stops reading, if the source has more than most bytes,
// with NotFound if the source does not exist (404, 410), with Denied if the server refuses it
// (401, 403), and with Unavailable if another try may succeed.
func Read(ctx context.Context, src Source, most int64) ([]byte, error) {
	ctx, cancel := WithTimeout(ctx, src.Timeout)
	defer cancel()
	path, err := src.file()
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", src, err)
	}
	d := download{name: src.String()}
	var data []byte
	if path != "" {
		data, err = regfile.ReadFile(path, most)
		err = pathError(err)
	} else {
		data, err = readURL(ctx, src, most)
	}
	if retry, ok := errors.AsType[retryError](err); ok {
		err = errkind.With(errkind.Unavailable, retry.error)
	}
	if err != nil {
		return nil, d.explain(ctx, err)
	}
	return data, nil
}

// readStall is the longest wait for an answer, or for the next byte.
const readStall = 20 * time.Second

func readURL(ctx context.Context, src Source, most int64) ([]byte, error) {
	u, err := parseURL(src.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(readStall, func() { cancel(errStalled) })
	resp, err := get(ctx, transportWith(src.Roots), u, nil)
	timer.Stop()
	if err != nil && ctx.Err() != nil {
		err = retryError{error: context.Cause(ctx)}
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return nil, statusError(resp)
	}
	if err := checkCoding(resp); err != nil {
		return nil, err
	}
	tooLarge := errkind.Errorf(errkind.TooLarge, "the source has more than %d bytes", most)
	if resp.ContentLength > most {
		return nil, tooLarge
	}
	body := newWatched(ctx, cancel, readStall, new(pace), resp.Body)
	data, err := io.ReadAll(io.LimitReader(body, most+1))
	switch {
	case err != nil && isMalformed(err):
		return nil, malformed(err)
	case err != nil:
		return nil, retryError{error: fmt.Errorf("read: %w", err)}
	case int64(len(data)) > most:
		return nil, tooLarge
	}
	return data, nil
}
