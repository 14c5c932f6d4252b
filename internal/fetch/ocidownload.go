package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// layerSource is the artifact whose layer a download fetches.
type layerSource struct {
	*registry
	tagResolved bool // this call has found the layer by the tag
}

// parseSource reads the URL of the source.
func (d *download) parseSource() (*url.URL, error) {
	u, err := url.Parse(d.src.URL)
	if err != nil || u.Scheme != "oci" || len(d.src.URL) > maxURL {
		return parseURL(d.src.URL)
	}
	g, err := newRegistry(u)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", redact(u), err)
	}
	g.login, g.transport = d.src.Login, d.transport
	d.registry = &layerSource{registry: g}
	return u, nil
}

// layer returns the digest of the layer that the part is from, or "" if unknown yet. The
// record stores it as an entity tag, and the rest of the download uses it as one.
func (d *download) layer() string {
	digest := strings.Trim(d.part.rec.Validator, `"`)
	if d.registry == nil || !isDigest(digest) {
		return ""
	}
	return digest
}

func (d *download) layerSHA256() string { return strings.TrimPrefix(d.layer(), "sha256:") }

// findLayer reads which layer the tag names now, and prepares the part for that layer.
func (d *download) findLayer(ctx context.Context) error {
	pin, err := d.registry.layer(ctx)
	if err != nil {
		return err
	}
	d.registry.tagResolved = true
	if err := d.admit(pin.Size); err != nil { // before the record has the new size
		return err
	}
	return d.part.restart(`"`+pin.Strong+`"`, pin.Size)
}

// requestLayer sends the request for the missing bytes of the layer. The digest identifies
// the content, so requestLayer ignores the entity tag and the date of a storage server to
// which the registry redirects.
func (d *download) requestLayer(ctx context.Context) (*http.Response, error) {
	if d.layer() == "" {
		if err := d.findLayer(ctx); err != nil {
			return nil, err
		}
	}
	h := http.Header{}
	if d.part.size > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(d.part.size, 10)+"-")
	}
	pinned := d.part.rec
	resp, err := d.registry.get(ctx, d.registry.url("blobs/"+d.layer()), h)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength < 0 {
			resp.ContentLength = pinned.Size
		}
		if resp.ContentLength != pinned.Size {
			_ = resp.Body.Close()
			err := errkind.Errorf(errkind.Corrupt, "the layer has %d bytes, the manifest says %d", resp.ContentLength, pinned.Size)
			return nil, errors.Join(err, d.part.restart("", -1))
		}
	case http.StatusNotFound, http.StatusGone:
		if d.registry.tagResolved {
			break
		}
		_ = resp.Body.Close()
		return nil, d.layerGone()
	}
	resp.Header.Set("ETag", pinned.Validator)
	return resp, nil
}

// layerGone begins again with the layer that the tag names now: the registry has deleted
// the layer that an earlier call began with.
func (d *download) layerGone() error {
	if err := d.begin("", -1, ErrChanged); err != nil {
		return err
	}
	return errAgain
}
