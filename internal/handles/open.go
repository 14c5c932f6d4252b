package handles

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// An Opened is an image that a handle holds.
type Opened struct {
	Handle int64
	Size   int64  // in bytes
	SHA384 string // lower-case hexadecimal
}

// OpenConfig receives a Host Configuration of at most MaxConfig bytes from next, which
// returns io.EOF after size bytes, and returns its handle. If sum is not empty, the text
// must have that SHA-384.
func (t *Table) OpenConfig(ctx context.Context, owner Owner, size int64, sum string, next func(context.Context) ([]byte, error)) (_ int64, err error) {
	id, _, err := t.reserve(owner, Config, size)
	if err != nil {
		return 0, err
	}
	defer t.unless(id, &err)
	var text bytes.Buffer
	if err := receiveAll(ctx, &text, next); err != nil {
		return 0, fmt.Errorf("receive the Host Configuration: %w", err)
	}
	if _, err := matches(ctx, bytes.NewReader(text.Bytes()), sum); err != nil {
		return 0, err
	}
	return id, t.publish(id, func(h *handle) { h.text, h.size = text.Bytes(), size })
}

// unless frees a handle if opening it has failed.
func (t *Table) unless(id int64, err *error) {
	if *err != nil {
		t.free(id)
	}
}

// OpenImage fetches an image of at most MaxImage bytes from its source: http, https, a
// path on the host, or an upload of a known size. If sum is not empty, the image must
// have that SHA-384. It keeps a file of the host open and does not copy it.
func (t *Table) OpenImage(ctx context.Context, owner Owner, kind Kind, from fetch.Source, sum string) (_ Opened, err error) {
	id, h, err := t.reserve(owner, kind, from.UploadSize)
	if err != nil {
		return Opened{}, err
	}
	defer t.unless(id, &err)
	file, err := t.get(ctx, from, h)
	if err != nil {
		return Opened{}, err
	}
	fi, err := file.Stat()
	if err != nil {
		return Opened{}, errors.Join(fmt.Errorf("open the image: %w", err), file.Close())
	}
	got, err := matches(ctx, io.NewSectionReader(file, 0, fi.Size()), sum)
	if err == nil {
		err = t.publish(id, func(h *handle) { h.file, h.size = file, fi.Size() })
	}
	if err != nil {
		return Opened{}, errors.Join(err, file.Close())
	}
	return Opened{id, fi.Size(), got}, nil
}

func (t *Table) get(ctx context.Context, from fetch.Source, h *handle) (*os.File, error) {
	if from.Path != "" {
		return t.openFile(from.Path)
	}
	dir, err := t.makeFolder()
	if err != nil {
		return nil, err
	}
	if from.URL != "" {
		return t.download(ctx, from.URL, dir, h)
	}
	file, err := unnamed(dir)
	if err != nil {
		return nil, err
	}
	if err := receiveAll(ctx, file, from.Upload); err != nil {
		return nil, errors.Join(fmt.Errorf("receive the image: %w", err), file.Close())
	}
	return file, nil
}

// openFile opens a file of the host. It follows links, because only root may call it.
func (t *Table) openFile(path string) (*os.File, error) {
	name := cmp.Or(strings.TrimPrefix(filepath.Clean(path), "/"), ".")
	opened, err := inroot.FS(t.root).Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = errkind.With(errkind.NotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	fi, err := opened.Stat()
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() == 0 || fi.Size() > MaxImage) {
		err = errkind.Errorf(errkind.Invalid, "%.200q is not a file of 1 to %d bytes", path, int64(MaxImage))
	}
	file, ok := opened.(*os.File)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("open the image: %w", err), opened.Close())
	}
	return file, nil
}

// download fetches an image from a server. It stops when the image exceeds the limits of
// handles.
func (t *Table) download(ctx context.Context, url, dir string, h *handle) (*os.File, error) {
	part := filepath.Join(dir, "download-"+rand.Text())
	defer func() { _ = fetch.Remove(part) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	grow := func(done, total int64) {
		if err := t.grow(h, max(done, total)); err != nil {
			cancel(err)
		}
	}
	src, err := fetch.Source{URL: url}.OnHost(t.root)
	if err != nil {
		return nil, fmt.Errorf("download the image: %w", err)
	}
	if _, err := fetch.Download(ctx, src, part, fetch.Limits{MaxSize: MaxImage}, grow, nil); err != nil {
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

// unnamed makes a file without a name, which is deleted when it is closed.
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

// receiveAll writes an upload to w.
func receiveAll(ctx context.Context, w io.Writer, next func(context.Context) ([]byte, error)) error {
	for {
		chunk, err := next(ctx)
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

// matches returns the SHA-384 of r, which must be want unless that is empty.
func matches(ctx context.Context, r io.Reader, want string) (string, error) {
	got, err := regfile.SHA384(ctx, r)
	if err != nil {
		return "", fmt.Errorf("hash the received bytes: %w", err)
	}
	if want != "" && !strings.EqualFold(want, got) {
		return "", errkind.Errorf(errkind.Corrupt, "its SHA-384 is %s, and should be %s", got, strings.ToLower(want))
	}
	return got, nil
}
