package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// A reader reads the files of a feed in a folder, or on a server.
type reader struct {
	dir  string   // a folder, or
	base *url.URL // a server; then files pass through
	tmp  string   // this folder
	name string
}

func newReader(at string) (*reader, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme == "" {
		return &reader{dir: at, name: at}, nil
	}
	switch u.Scheme {
	case "file":
		return &reader{dir: u.Path, name: at}, nil
	case "http", "https":
	default:
		return nil, errkind.Errorf(errkind.Invalid, "read feed %s: a feed is a folder, or has a URL with http, https or file", fetch.Redact(at))
	}
	tmp, err := os.MkdirTemp("", "trident-feed-*")
	if err != nil {
		return nil, fmt.Errorf("read feed: %w", err)
	}
	return &reader{base: u, tmp: tmp, name: fetch.Redact(at)}, nil
}

func (r *reader) String() string { return r.name }

func (r *reader) close() error {
	if r.tmp == "" {
		return nil
	}
	return os.RemoveAll(r.tmp)
}

// open opens a file of at most most bytes. The caller has to call done.
func (r *reader) open(ctx context.Context, name string, most int64, progress func(int64)) (f *os.File, done func() error, err error) {
	if r.base == nil {
		f, err := regfile.Open(filepath.Join(r.dir, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			err = errkind.With(errkind.NotFound, err)
		}
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	}
	part := filepath.Join(r.tmp, "part")
	src := fetch.Source{URL: r.base.JoinPath(strings.Split(name, "/")...).String()}
	_, err = fetch.Download(ctx, src, part, fetch.Limits{MaxSize: most, Attempts: 3}, func(n, _ int64) { progress(n) }, nil)
	if err != nil {
		return nil, nil, errors.Join(err, fetch.Remove(part))
	}
	f, err = os.Open(part)
	if err != nil {
		return nil, nil, err
	}
	return f, func() error { return errors.Join(f.Close(), fetch.Remove(part)) }, nil
}

// get returns the content of a file of at most most bytes.
func (r *reader) get(ctx context.Context, name string, most int64) (data []byte, err error) {
	f, done, err := r.open(ctx, name, most, func(int64) {})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	data, err = io.ReadAll(io.LimitReader(&ctxReader{ctx, f}, most+1))
	if err == nil && int64(len(data)) > most {
		err = errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", name, most)
	}
	return data, err
}

// hash returns the SHA-256 of a file that has size bytes, or at most maxImage if size is -1.
func (r *reader) hash(ctx context.Context, name string, size int64, progress func(done int64)) (hash string, err error) {
	most := size
	if size < 0 {
		most = maxImage
	}
	f, done, err := r.open(ctx, name, most, progress)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, done()) }()
	h := sha256.New()
	w := &counter{w: h, progress: progress}
	n, err := io.Copy(w, io.LimitReader(&ctxReader{ctx, f}, most+1))
	switch {
	case err != nil:
		return "", err
	case n > most:
		return "", errkind.Errorf(errkind.Corrupt, "it has more than %d bytes", most)
	case size >= 0 && n != size:
		return "", errkind.Errorf(errkind.Corrupt, "it has %d bytes, not %d", n, size)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// counter reports the bytes that it has passed on.
type counter struct {
	w        io.Writer
	done     int64
	progress func(done int64)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.done += int64(n)
	c.progress(c.done)
	return n, err
}
