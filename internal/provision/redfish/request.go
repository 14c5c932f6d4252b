package redfish

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// get reads a resource and returns its ETag.
func (c *Client) get(ctx context.Context, path string, to any) (etag string, err error) {
	header, body, err := c.do(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return "", errkind.Errorf(errkind.Incompatible, "read %s: the answer is not a resource of Redfish: %w", path, err)
	}
	return header.Get("ETag"), nil
}

func (c *Client) post(ctx context.Context, path string, body any) error {
	return c.send(ctx, http.MethodPost, path, body, "")
}

func (c *Client) send(ctx context.Context, method, path string, body any, etag string) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, _, err = c.do(ctx, method, path, text, etag)
	return err
}

// do makes one request. It refuses references to another host, and follows no redirection.
func (c *Client) do(ctx context.Context, method, path string, body []byte, etag string) (http.Header, []byte, error) {
	ref, err := url.Parse(path)
	if err != nil || path == "" || ref.Host != "" || ref.Scheme != "" || !strings.HasPrefix(ref.Path, "/") {
		return nil, nil, errkind.Errorf(errkind.Incompatible, "the service refers to %.200q, which is not a path on it", path)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.ResolveReference(ref).String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.SetBasicAuth(c.options.User, c.options.Password)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OData-Version", "4.0")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, failed(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, errkind.With(errkind.Unavailable, fmt.Errorf("%s %s: %w", method, path, err))
	case len(text) > maxAnswer:
		return nil, nil, errkind.Errorf(errkind.TooLarge, "%s %s: the answer has more than %d bytes", method, path, maxAnswer)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "%s %s: the service answers %q", method, path, resp.Status), "See --user and --password-file.")
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, nil, errkind.Errorf(errkind.Unavailable, "%s %s: the service answers %q%s", method, path, resp.Status, reason(text))
	}
	return resp.Header, text, nil
}

// failed returns the error of a request that got no answer.
func failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errkind.WithHint(errkind.With(errkind.TLS, err), "Name the authority of the service with --redfish-ca.")
	}
	return errkind.With(errkind.Unavailable, err)
}

// reason returns the message of an error response (DSP0266, 8.6), with ": " before it.
func reason(body []byte) string {
	var answer struct {
		Error struct {
			Message  string                     `json:"message"`
			Extended []struct{ Message string } `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	text := answer.Error.Message
	if len(answer.Error.Extended) > 0 {
		text = cmp.Or(answer.Error.Extended[0].Message, text)
	}
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %.500s", text)
}
