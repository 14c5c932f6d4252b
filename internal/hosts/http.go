package hosts

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// maxBody is the largest answer of a gateway over HTTP, in bytes.
const maxBody = 8 << 20

// HTTP sends a request to the gateway of the target, with its certificate or token, and
// returns the body of the answer: a POST of body, or a GET if body is nil. The target needs an
// endpoint of the form tls://; HTTP uses the first one. An answer with another status than 200
// or 204 is an error.
func (t Target) HTTP(ctx context.Context, path string, body []byte) ([]byte, error) {
	address := ""
	for _, endpoint := range t.Host.Endpoints {
		if a, ok := strings.CutPrefix(endpoint, "tls://"); ok && address == "" {
			address = a
		}
	}
	if address == "" {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "connect to the gateway of %s: it has no endpoint of the form tls://", t.Name),
			"Add one: trident hosts add NAME tls://HOST:7443")
	}
	config, err := t.tls()
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", t.Name, err)
	}
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+address+path, bytes.NewReader(body))
	if err != nil {
		return nil, errkind.With(errkind.Invalid, fmt.Errorf("connect to host %s: %w", t.Name, err))
	}
	r.Header.Set("Content-Type", "application/json")
	if t.Host.TokenFile != "" {
		token, err := readToken(t.path(t.Host.TokenFile))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r) // without redirects
	if err != nil {
		return nil, errkind.With(errkind.Unavailable, fmt.Errorf("connect to the gateway at %s: %w", address, err))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, errkind.With(errkind.Unavailable, fmt.Errorf("read the answer of %s: %w", address, err))
	case len(data) > maxBody:
		return nil, errkind.Errorf(errkind.TooLarge, "read the answer of %s: it is larger than %d bytes", address, maxBody)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, errkind.Errorf(errkind.Denied, "call the gateway at %s: %s", address, firstLine(data))
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent:
		return nil, errkind.Errorf(errkind.Unsupported, "call the gateway at %s: %s: %s", address, resp.Status, firstLine(data))
	}
	return data, nil
}

// firstLine returns the first line of a text, at most 300 bytes.
func firstLine(data []byte) string {
	line, _, _ := strings.Cut(string(data[:min(len(data), 300)]), "\n")
	return line
}
