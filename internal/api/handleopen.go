package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/inroot"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
)

// maxOneImage bounds one image, in bytes.
const maxOneImage = 2 << 30

// imageOpen is a wish for an image handle.
type imageOpen struct {
	is        handleType
	url, path string
	size      int64 // of an upload
	sha384    string
	receive   func() ([]byte, error)
}

func imageFromWire(start *handlesv1.OpenImageRequest_Start) (imageOpen, error) {
	out := imageOpen{is: imageType(start.GetKind()), url: start.GetUrl(), path: start.GetPath(), size: start.GetSize(), sha384: start.GetSha384()}
	invalid := func(field, format string, args ...any) error {
		return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: "+format, args...), "start."+field)
	}
	switch start.GetFrom().(type) {
	case nil:
		return out, invalid("from", "it does not say where the image comes from (a url, a path or an upload)")
	case *handlesv1.OpenImageRequest_Start_Url:
		if u, err := url.Parse(out.url); err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return out, invalid("url", "it is no URL of http or https")
		}
	case *handlesv1.OpenImageRequest_Start_Path:
		if !filepath.IsAbs(out.path) {
			return out, invalid("path", "the path %.200q is not absolute", out.path)
		}
	case *handlesv1.OpenImageRequest_Start_Size:
		if out.size <= 0 || out.size > maxOneImage {
			return out, invalid("size", "an upload of %d bytes; it must have from 1 to %d", out.size, int64(maxOneImage))
		}
	}
	if out.is == "" {
		return out, invalid("kind", "%s is no kind of image", start.GetKind())
	}
	return out, checkSum("start.sha384", out.sha384)
}

// imageType is a kind of image in words; "" for none.
func imageType(k handlesv1.ImageKind) handleType {
	switch k {
	case handlesv1.ImageKind_IMAGE_KIND_SYSEXT:
		return "sysext image"
	case handlesv1.ImageKind_IMAGE_KIND_CONFEXT:
		return "confext image"
	case handlesv1.ImageKind_IMAGE_KIND_TRIDENT:
		return "Trident image"
	case handlesv1.ImageKind_IMAGE_KIND_COSI_METADATA:
		return "COSI metadata file"
	}
	return ""
}

func checkSum(field, sum string) error {
	if raw, err := hex.DecodeString(sum); sum != "" && (err != nil || len(raw) != sha512.Size384) {
		return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: sha384 is %.120q, which is not 96 hexadecimal digits", sum), field)
	}
	return nil
}

// openConfig receives a Host Configuration.
func (t *handleTable) openConfig(ctx context.Context, size int64, sum string, receive func() ([]byte, error)) (_ int64, err error) {
	if size <= 0 || size > maxConfig {
		return 0, errkind.WithField(
			errkind.Errorf(errkind.Invalid, "read the request: a Host Configuration of %d bytes; it must have from 1 to %d", size, maxConfig), "start.size")
	}
	id, _, err := t.reserve(ctx, configHandle, size)
	if err != nil {
		return 0, err
	}
	defer t.unless(id, &err)
	var text bytes.Buffer
	if err := receiveAll(ctx, &text, size, receive); err != nil {
		return 0, fmt.Errorf("receive the Host Configuration: %w", err)
	}
	if _, err := matches(ctx, bytes.NewReader(text.Bytes()), sum); err != nil {
		return 0, err
	}
	return id, t.publish(id, func(h *handle) { h.text, h.size = text.Bytes(), size })
}

// unless frees a handle that could not be opened.
func (t *handleTable) unless(id int64, err *error) {
	if *err != nil {
		t.free(id)
	}
}

// openImage gets an image from where it is.
func (t *handleTable) openImage(ctx context.Context, open imageOpen) (_ int64, _ *handle, err error) {
	id, h, err := t.reserve(ctx, open.is, open.size)
	if err != nil {
		return 0, nil, err
	}
	defer t.unless(id, &err)
	file, err := t.get(ctx, open, h)
	if err != nil {
		return 0, nil, err
	}
	fi, err := file.Stat()
	if err != nil {
		return 0, nil, errors.Join(fmt.Errorf("open the image: %w", err), file.Close())
	}
	sum, err := matches(ctx, io.NewSectionReader(file, 0, fi.Size()), open.sha384)
	if err == nil {
		err = t.publish(id, func(h *handle) { h.file, h.size, h.sha384 = file, fi.Size(), sum })
	}
	if err != nil {
		return 0, nil, errors.Join(err, file.Close())
	}
	return id, h, nil
}

func (t *handleTable) get(ctx context.Context, open imageOpen, h *handle) (*os.File, error) {
	if open.path != "" {
		return t.openFile(open.path)
	}
	dir, err := t.folder()
	if err != nil {
		return nil, err
	}
	if open.url != "" {
		return t.download(ctx, open.url, dir, h)
	}
	file, err := unnamed(dir)
	if err != nil {
		return nil, err
	}
	if err := receiveAll(ctx, file, open.size, open.receive); err != nil {
		return nil, errors.Join(fmt.Errorf("receive the image: %w", err), file.Close())
	}
	return file, nil
}

// openFile opens a file of the host. Links are followed: only root may ask.
func (t *handleTable) openFile(path string) (*os.File, error) {
	name := cmp.Or(strings.TrimPrefix(filepath.Clean(path), "/"), ".")
	opened, err := inroot.FS(t.root).Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = errkind.With(errkind.NotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	fi, err := opened.Stat()
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() == 0 || fi.Size() > maxOneImage) {
		err = errkind.Errorf(errkind.Invalid, "%.200q is not a file of 1 to %d bytes", path, int64(maxOneImage))
	}
	file, ok := opened.(*os.File)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("open the image: %w", err), opened.Close())
	}
	return file, nil
}

// download gets an image from a server. It stops when it grows over what handles
// may hold.
func (t *handleTable) download(ctx context.Context, url, dir string, h *handle) (*os.File, error) {
	named, err := os.CreateTemp(dir, "download-*")
	if err != nil {
		return nil, fmt.Errorf("download the image: %w", err)
	}
	part := named.Name()
	defer func() { _ = fetch.Remove(part) }()
	if err := named.Close(); err != nil {
		return nil, fmt.Errorf("download the image: %w", err)
	}
	if err := os.Remove(part); err != nil {
		return nil, fmt.Errorf("download the image: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	grow := func(done, total int64) {
		if err := t.grow(h, max(done, total)); err != nil {
			cancel(err)
		}
	}
	src := fetch.Source{URL: url}
	if err := src.OfHost(t.root); err != nil {
		return nil, fmt.Errorf("download the image: %w", err)
	}
	if _, err := fetch.Download(ctx, src, part, fetch.Limits{MaxSize: maxOneImage}, grow, nil); err != nil {
		if cause := context.Cause(ctx); errkind.Of(cause) == errkind.TooLarge {
			err = cause
		}
		return nil, fmt.Errorf("download the image: %w", err)
	}
	file, err := os.Open(part)
	if err != nil {
		return nil, fmt.Errorf("download the image: %w", err)
	}
	return file, nil
}

// unnamed makes a file that is gone when it is closed.
func unnamed(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "upload-*")
	if err != nil {
		return nil, fmt.Errorf("receive the image: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("receive the image: %w", err), file.Close())
	}
	return file, nil
}

// receiveAll writes an upload of a known size.
func receiveAll(ctx context.Context, w io.Writer, size int64, receive func() ([]byte, error)) error {
	u := newUpload(ctx, size, receive)
	for {
		chunk, err := u.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
}

// matches hashes what was taken, and compares if there is something to compare with.
func matches(ctx context.Context, r io.Reader, want string) (string, error) {
	h := sha512.New384()
	for {
		if ctx.Err() != nil {
			return "", fmt.Errorf("hash what was received: %w", context.Cause(ctx))
		}
		if _, err := io.CopyN(h, r, 16<<20); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("hash what was received: %w", err)
		}
	}
	got := hex.EncodeToString(h.Sum(nil))
	if want != "" && !strings.EqualFold(want, got) {
		return "", errkind.Errorf(errkind.Corrupt, "its SHA-384 is %s, and should be %s", got, strings.ToLower(want))
	}
	return got, nil
}
