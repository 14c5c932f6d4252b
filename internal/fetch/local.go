package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// fetchFile copies a file. It begins again if the file changes meanwhile.
func (d *download) fetchFile(ctx context.Context) error {
	for range maxAgain + 1 {
		unchanged, err := d.fetchFileOnce(ctx)
		if unchanged || err != nil {
			return err
		}
	}
	return ErrChanged
}

func (d *download) fetchFileOnce(ctx context.Context) (unchanged bool, err error) {
	file, err := openSource(d.src.Path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	size, version, err := fileVersion(file)
	if err != nil {
		return false, err
	}
	if d.part.rec.Validator != version {
		if err := d.begin(version, size, ErrChanged); err != nil {
			return false, err
		}
	}
	if err := d.admit(size); err != nil {
		return false, err
	}
	if _, err := file.Seek(d.part.size, io.SeekStart); err != nil {
		return false, fmt.Errorf("seek to byte %d: %w", d.part.size, err)
	}
	copied := d.copy(&contextReader{ctx, file}, size)
	if copied != nil && !errors.Is(copied, errLonger) {
		return false, copied
	}
	_, now, err := fileVersion(file)
	if err != nil || now == version && copied == nil && d.part.size == size {
		return true, err
	}
	return false, d.begin("", -1, ErrChanged)
}

// openSource opens a regular file. It does not open any other file, because the open of a
// device or FIFO can have an effect or block.
func openSource(path string) (*os.File, error) {
	file, err := regfile.Open(path)
	return file, pathError(err)
}

func pathError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errkind.With(errkind.NotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return errkind.With(errkind.Denied, err)
	}
	return err
}

// fileVersion returns the size of a file, and a text that changes when the content changes.
func fileVersion(f *os.File) (int64, string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, "", fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	return st.Size, fmt.Sprintf("%d:%d:%d:%d.%d:%d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// fetchUpload stores the chunks of a client. The client sends each chunk once, so an
// interrupted upload begins anew.
func (d *download) fetchUpload(ctx context.Context) error {
	size, end := int64(-1), d.lim.MaxSize
	if d.src.UploadSize > 0 {
		size, end = d.src.UploadSize, d.src.UploadSize
	}
	if err := d.part.restart("", size); err != nil {
		return err
	}
	if err := d.admit(size); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := d.copy(newWatched(ctx, cancel, d.lim.Stall, d.pace, &chunks{ctx: ctx, next: d.src.Upload}), end)
	switch {
	case errors.Is(err, errLonger) && size < 0:
		return errkind.Errorf(errkind.TooLarge, "the upload has more than %d bytes", end)
	case errors.Is(err, errLonger):
		return errkind.Errorf(errkind.Invalid, "the source sent more than the announced %d bytes", size)
	case errors.Is(err, errStalled) || errors.Is(err, errSlow):
		return errkind.With(errkind.Timeout, err)
	case err != nil:
		return err
	case d.part.size < size:
		return errkind.Errorf(errkind.Invalid, "the upload ended after %d of the announced %d bytes", d.part.size, size)
	}
	return nil
}

// chunks reads the chunks that next returns.
type chunks struct {
	ctx  context.Context
	next func(context.Context) ([]byte, error)
	rest []byte
}

func (c *chunks) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.ctx.Err() != nil {
			return 0, context.Cause(c.ctx)
		}
		var err error
		if c.rest, err = c.next(c.ctx); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
