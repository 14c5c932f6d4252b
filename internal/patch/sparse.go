package patch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// near is up to how many zeros a run of other bytes may have between them: an address has four
// bytes, and one of them is often zero.
const near = 3

// sparse is a sequence of bytes of which most are zero: for each run of others, how many zeros
// are before the run and how long it is. Zstandard packs the three parts better than the sequence.
type sparse struct{ gaps, runs, values []byte }

// pack returns b as a sparse sequence.
func pack(b []byte) (s sparse) {
	for last, i := 0, 0; i < len(b); {
		if b[i] == 0 {
			i++
			continue
		}
		end := i
		for k := i; k < len(b) && k <= end+near; k++ {
			if b[k] != 0 {
				end = k + 1
			}
		}
		s.gaps = binary.AppendUvarint(s.gaps, uint64(i-last))
		s.runs = binary.AppendUvarint(s.runs, uint64(end-i))
		s.values = append(s.values, b[i:end]...)
		last, i = end, end
	}
	return s
}

// unpacker reads the sequence of a sparse one; after its end there are zeros only.
type unpacker struct {
	gaps, runs, values *bufio.Reader
	zeros, run         uint64 // until and of the next run
}

// next reads where the next run is.
func (u *unpacker) next() (err error) {
	if u.zeros, err = binary.ReadUvarint(u.gaps); errors.Is(err, io.EOF) {
		u.zeros, u.run = math.MaxUint64, 0
		return nil
	}
	if err == nil {
		u.run, err = binary.ReadUvarint(u.runs)
	}
	if err == nil && (u.run == 0 || u.run > MaxSize || u.zeros > MaxSize) {
		err = errors.New("its numbers to add are damaged")
	}
	return err
}

// addTo adds the next len(p) bytes of the sequence to those of p, modulo 256.
func (u *unpacker) addTo(p []byte) error {
	for len(p) > 0 {
		if u.zeros == 0 && u.run == 0 {
			if err := u.next(); err != nil {
				return err
			}
		}
		skip := min(u.zeros, uint64(len(p)))
		u.zeros, p = u.zeros-skip, p[skip:]
		take := min(u.run, uint64(len(p)))
		for i := range p[:take] {
			v, err := u.values.ReadByte()
			if err != nil {
				return err
			}
			p[i] += v
		}
		u.run, p = u.run-take, p[take:]
	}
	return nil
}
