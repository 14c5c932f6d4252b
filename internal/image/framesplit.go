package image

import (
	"errors"
)

// split gives frames to decode, and ends with a job that has an error or is the rest.
func (p *parallel) split() {
	for {
		var j *frameJob
		select {
		case j = <-p.free:
		case <-p.ctx.Done():
			p.order <- &frameJob{err: ended(p.ctx), done: closed()}
			return
		}
		j.done, j.packed = make(chan struct{}), j.packed[:0]
		j.uses.Store(1) // of the reader, until it has read all
		size, err := j.read(p.in)
		if err != nil {
			j.isRest = errors.Is(err, errNotParallel)
			j.err = err
			close(j.done)
			p.order <- j
			return
		}
		p.idle.Go(func() {
			defer close(j.done)
			if int64(cap(j.content)) < size {
				j.content = make([]byte, size)
			}
			j.content, j.err = p.dec.DecodeAll(j.packed, j.content[:0])
		})
		p.order <- j // there is room for all jobs
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
