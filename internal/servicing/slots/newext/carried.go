package newext

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// carriedFile returns the path of the unpacked extension n of the image.
func (x *Extensions) carriedFile(n int) string {
	return filepath.Join(x.StagedDir(), "carried", strconv.Itoa(n)+".raw")
}

// isCarried reports whether src is one of carriedSources.
func (x *Extensions) isCarried(src extension.Source) bool {
	return strings.HasPrefix(src.URL, "file://"+x.OnHost(filepath.Dir(x.carriedFile(0)))+"/")
}

// unpackCarried unpacks and verifies the extensions that the image carries, and records
// their digests. "configure" cannot do that, because it does not open the image. A rehearsal
// leaves out those of an image on a server, which it would have to fetch.
func (x *Extensions) unpackCarried(ctx context.Context, r *record.Run, e *record.Examined) error {
	if x.IsRehearsal() && !e.Image.Local() {
		return nil
	}
	for n, c := range e.Image.Extensions() {
		err := x.Touch("unpack extension", func() (err error) {
			r.State.Carried[n].SHA384, err = unpack(ctx, c.Partition, x.carriedFile(n))
			return err
		})
		if err != nil {
			return fmt.Errorf("unpack %s, a %s that the image carries: %w", c.File.Path, c.Class, err)
		}
	}
	return nil
}

// unpack writes the content of from to the file name. It returns the SHA-384 of the content,
// after it has verified all of it.
func unpack(ctx context.Context, from image.Partition, name string) (sum string, err error) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.RemoveAll(name)); err != nil {
		return "", err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := from.UnpackSparse(ctx, f); err != nil {
		return "", err
	}
	digest := sha512.New384()
	if _, err := io.Copy(digest, io.NewSectionReader(f, 0, from.File.Size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), f.Sync()
}

// carriedSources returns the unpacked extensions of the image as sources. Whoever reads one
// compares it with the recorded digest.
func (x *Extensions) carriedSources(r *record.Record) []extension.Source {
	var out []extension.Source
	for n, c := range r.Carried {
		if c.SHA384 != "" {
			out = append(out, extension.Source{Class: c.Class, URL: "file://" + x.OnHost(x.carriedFile(n)), SHA384: c.SHA384, Path: c.Path})
		}
	}
	return out
}
