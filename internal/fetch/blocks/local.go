package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// localImage is an image on this host.
type localImage struct{ Old }

func (l localImage) name() string { return "the image " + l.Name + " of this host" }

// bring places each block of the image wherever the new image has it.
func (l localImage) bring(ctx context.Context, w *work) error {
	f, err := regfile.Open(l.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	from, to := int64(0), info.Size()
	if image, err := ddi.OpenOutline(f, info.Size()); err == nil {
		off, size := image.Data()
		from, to = off, off+size
	}
	buf := make([]byte, 256*blockSize)
	for r := io.NewSectionReader(f, from, to-from); w.missing > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf)
		for chunk := buf[:n-n%blockSize]; len(chunk) > 0; chunk = chunk[blockSize:] {
			if err := w.place(chunk[:blockSize]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", l.Path, err)
		}
	}
	return nil
}
