package image

import (
	"bytes"
	"io"
)

// advance waits for the next frame. Afterwards p.left has bytes, p.rest is begun, or there is an
// error.
func (p *parallel) advance() error {
	for p.rest == nil && len(p.left) == 0 {
		if p.cur != nil {
			if p.cur.err != nil {
				return p.cur.err
			}
			p.release(p.cur)
		}
		p.cur = <-p.order // the last one has an error
		<-p.cur.done
		if p.cur.isRest {
			dec, err := newDecoder(io.MultiReader(bytes.NewReader(p.cur.packed), p.in), p.window)
			if err != nil {
				return err
			}
			p.rest = &sequential{dec}
			return nil
		}
		p.left = p.cur.content
		if p.cur.err != nil {
			p.left = nil
		}
	}
	return nil
}

func (p *parallel) Read(b []byte) (int, error) {
	if err := p.advance(); err != nil {
		return 0, err
	}
	if p.rest != nil {
		return p.rest.Read(b)
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *parallel) lend(n int) ([]byte, func(), error) {
	if err := p.advance(); err != nil || p.rest != nil {
		return nil, nil, err
	}
	n = min(n, len(p.left))
	out, j := p.left[:n], p.cur
	p.left = p.left[n:]
	j.uses.Add(1)
	return out, func() { p.release(j) }, nil
}

// Close ends all goroutines. The context must have ended, or all bytes were read.
func (p *parallel) Close() {
	p.idle.Wait()
	if p.rest != nil {
		p.rest.Close()
	}
	p.dec.Close()
}
