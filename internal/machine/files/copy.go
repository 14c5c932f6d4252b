package files

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// maxSkipped is how many files Copy reports that the archive does not have.
const maxSkipped = 1000

// Copy gives a tar archive of a file or folder to send, in pieces that are valid until send
// returns, and returns the files that the archive does not have, with the reason of each. Names
// in the archive have no leading slash. A file that becomes shorter while it is read is filled
// up with zeros and is among the skipped ones. If the archive would become larger than most
// bytes (0 is DefaultCopy), the error is of kind TooLarge.
func (s *Service) Copy(ctx context.Context, name string, most int64, send func([]byte) error) (skipped []Info, err error) {
	if most, err = bounded(most, DefaultCopy); err != nil {
		return nil, err
	}
	n, v, err := s.find(name, false)
	if err != nil {
		return nil, err
	}
	defer n.close()
	if !n.isFolder() && !n.isRegular() {
		return nil, errkind.Errorf(errkind.Invalid, "%s is %s, not a regular file or a folder", n.path, regfile.KindOf(n.info().Mode))
	}
	if n.lock != nil {
		return nil, n.lock
	}
	out := &pieces{most: most, send: send}
	c := &copier{ctx: ctx, out: out, tar: tar.NewWriter(out)}
	count := 0
	if err := c.add(n); err != nil {
		return nil, err
	}
	if n.isFolder() {
		err = v.walk(ctx, n, 0, func(child *node, full string, err error) (bool, error) {
			if count++; count > maxListed {
				return false, errkind.Errorf(errkind.TooLarge, "%s has more than %d files", n.path, maxListed)
			}
			if child == nil {
				c.skip(full, err)
				return false, nil
			}
			if child.lock != nil {
				c.skip(full, child.lock)
				return false, nil
			}
			return true, c.add(child)
		})
	}
	if err == nil {
		err = c.tar.Close()
	}
	if err == nil {
		err = out.flush()
	}
	return c.skipped, err
}

type copier struct {
	ctx     context.Context
	out     *pieces
	tar     *tar.Writer
	skipped []Info
}

func (c *copier) skip(name string, why error) {
	if len(c.skipped) < maxSkipped {
		c.skipped = append(c.skipped, Info{Path: name, Err: why})
	}
}

// add adds a file to the archive. It skips pipes, sockets and devices, and files that cannot be
// opened.
func (c *copier) add(n *node) error {
	i := n.info()
	h := &tar.Header{
		Name: n.path[1:], Mode: int64(n.st.Mode & 0o7777), Uid: int(i.UID), Gid: int(i.GID), ModTime: i.Modified.Truncate(time.Second),
		Format: tar.FormatPAX,
	}
	switch {
	case n.isRegular():
		return c.addRegular(n, h)
	case n.isFolder():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case i.Mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, i.Target
	default:
		c.skip(n.path, errkind.Errorf(errkind.Invalid, "%s is %s", n.path, regfile.KindOf(i.Mode)))
		return nil
	}
	return c.header(h)
}

func (c *copier) header(h *tar.Header) error {
	err := c.tar.WriteHeader(h)
	if errors.Is(err, tar.ErrHeader) { // the format has no place for such a name
		c.skip("/"+h.Name, err)
		return nil
	}
	return err
}

func (c *copier) addRegular(n *node, h *tar.Header) error {
	f, err := n.open()
	if err != nil {
		c.skip(n.path, err)
		return nil
	}
	defer f.close()
	h.Typeflag, h.Size = tar.TypeReg, n.st.Size
	if h.Size == 0 { // perhaps a file of the kernel that has content
		return c.addUnmeasured(f, h)
	}
	if err := c.out.room(h.Name, h.Size); err != nil {
		return err
	}
	skipped := len(c.skipped)
	if err := c.header(h); err != nil || len(c.skipped) > skipped {
		return err
	}
	buf := make([]byte, chunk)
	isShort := false
	for at := int64(0); at < h.Size; {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		piece := buf[:min(chunk, h.Size-at)]
		size := len(piece)
		if !isShort {
			if size, err = f.readAt(piece, at); err != nil {
				if !errors.Is(err, io.EOF) {
					c.skip(n.path, err)
				} else {
					c.skip(n.path, errkind.Errorf(errkind.Unavailable, "%s became shorter while it was read; the rest of it is zeros", n.path))
				}
				clear(buf)
				isShort = true
				continue
			}
		}
		if _, err := c.tar.Write(piece[:size]); err != nil {
			return err
		}
		at += int64(size)
	}
	return nil
}

// addUnmeasured adds a file whose size is said to be 0.
func (c *copier) addUnmeasured(f *content, h *tar.Header) error {
	var text []byte
	buf := make([]byte, chunk)
	for len(text) <= maxUnmeasure {
		size, err := f.readAt(buf, int64(len(text)))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.skip(f.path, err)
			return nil
		}
		text = append(text, buf[:size]...)
	}
	if len(text) > maxUnmeasure {
		c.skip(f.path, errkind.Errorf(errkind.TooLarge, "%s does not say its size and has more than %s", f.path, bytesize.Format(maxUnmeasure)))
		return nil
	}
	if h.Size = int64(len(text)); h.Size > 0 {
		if err := c.out.room(h.Name, h.Size); err != nil {
			return err
		}
	}
	if err := c.header(h); err != nil || h.Size == 0 {
		return err
	}
	_, err := c.tar.Write(text)
	return err
}

// pieces collects what is written to it, and sends it in pieces of the size chunk.
type pieces struct {
	most int64
	sent int64
	buf  []byte
	send func([]byte) error
}

// room fails if a file does not fit into the archive.
func (p *pieces) room(name string, size int64) error {
	if size > p.most-p.sent-int64(len(p.buf)) {
		return errkind.WithHint(errkind.Errorf(errkind.TooLarge, "the archive would become larger than %s: /%s has %s", bytesize.Format(p.most), name, bytesize.Format(size)),
			"copy less, or allow more bytes")
	}
	return nil
}

// Write implements io.Writer.
func (p *pieces) Write(b []byte) (int, error) {
	if p.sent+int64(len(p.buf))+int64(len(b)) > p.most {
		return 0, errkind.WithHint(errkind.Errorf(errkind.TooLarge, "the archive would become larger than %s", bytesize.Format(p.most)), "copy less, or allow more bytes")
	}
	p.buf = append(p.buf, b...)
	if len(p.buf) >= chunk {
		return len(b), p.flush()
	}
	return len(b), nil
}

func (p *pieces) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	p.sent += int64(len(p.buf))
	err := p.send(p.buf)
	p.buf = p.buf[:0]
	return err
}
