package patch

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/bits"
)

// seed is how many equal bytes show that two places may belong together.
const seed = 16

// longest bounds how many bytes find compares, so that repetitions do not take long.
const longest = 64 << 10

// gain is how many more bytes than at the present distance have to be equal for another one.
const gain = 4

// A delta says how an image is made from pieces of the old one. Some words of a piece get small
// numbers added: in programs whose code has moved, addresses differ by few values (C. Percival,
// Naive Differences of Executable Code, 2003), which follow from how far the code has moved.
type delta struct {
	// steps has three numbers for each step: how many bytes to copy from the old image, how
	// many then follow in fresh, and how far to move in the old image after that, which may be
	// negative.
	steps []byte
	words words  // what to add to the bytes of the old image
	fresh []byte // bytes that the old image does not have
}

// add appends a step. A change in the last bytes of a piece, which have no word, is fresh.
func (d *delta) add(old, new []byte, at, from, equal, fresh, move int) {
	covered := d.words.add(old, new, from, at, equal)
	fresh, move, equal = fresh+equal-covered, move+equal-covered, covered
	d.steps = binary.AppendUvarint(d.steps, uint64(equal))
	d.steps = binary.AppendUvarint(d.steps, uint64(fresh))
	d.steps = binary.AppendVarint(d.steps, int64(move))
	d.fresh = append(d.fresh, new[at+equal:at+equal+fresh]...)
}

// compare finds a delta from old to new.
func compare(ctx context.Context, old, new []byte, progress func(done int)) (*delta, error) {
	d, table := &delta{}, newSeeds(old)
	begin, from := 0, 0 // where the present step begins, in new and in old
	for scan, next := 0, 0; scan < len(new); {
		if scan >= next {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			progress(scan)
			next = scan + chunk
		}
		if n := equalBytes(new[scan:], at(old, from+scan-begin)); n > 2*seed {
			scan += n
			continue
		}
		place, length := table.find(new, scan)
		if length <= matching(new[scan:scan+length], at(old, from+scan-begin))+gain {
			scan++
			continue
		}
		forward := extend(new[begin:scan], at(old, from))
		back := extendBack(new[begin:scan], old[:place])
		forward, back = split(new, old, begin, from, scan, place, forward, back)
		d.add(old, new, begin, from, forward, scan-back-begin-forward, place-back-from-forward)
		begin, from = scan-back, place-back
		scan += length
	}
	forward := extend(new[begin:], at(old, from))
	d.add(old, new, begin, from, forward, len(new)-begin-forward, 0)
	return d, nil
}

// at returns b from i on; nothing if i is outside of b.
func at(b []byte, i int) []byte {
	if i < 0 || i > len(b) {
		return nil
	}
	return b[i:]
}

// extend returns how many bytes of a and b to keep together from the start, so that most are
// equal.
func extend(a, b []byte) (best int) {
	equal, score := 0, 0
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			equal++
		}
		if s := 2*equal - (i + 1); s > score {
			score, best = s, i+1
		}
	}
	return best
}

// extendBack is extend from the end of a and b.
func extendBack(a, b []byte) (best int) {
	equal, score := 0, 0
	for i := 1; i <= min(len(a), len(b)); i++ {
		if a[len(a)-i] == b[len(b)-i] {
			equal++
		}
		if s := 2*equal - i; s > score {
			score, best = s, i
		}
	}
	return best
}

// split shortens forward and back, if they overlap, where that loses the fewest equal bytes.
func split(new, old []byte, begin, from, scan, place, forward, back int) (int, int) {
	overlap := begin + forward - (scan - back)
	if overlap <= 0 {
		return forward, back
	}
	score, best, cut := 0, 0, 0
	for i := range overlap {
		if new[scan-back+i] == old[from+forward-overlap+i] {
			score++
		}
		if new[scan-back+i] == old[place-back+i] {
			score--
		}
		if score > best {
			best, cut = score, i+1
		}
	}
	return forward - overlap + cut, back - cut
}

// matching counts the equal bytes of a and b at the same places.
func matching(a, b []byte) (n int) {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

// equalBytes returns how many bytes at the start of a and b are equal.
func equalBytes(a, b []byte) int {
	n, most := 0, min(len(a), len(b))
	for ; most-n >= 8; n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

// seeds finds places in an image by the bytes there.
type seeds struct {
	old    []byte
	places []int32
	shift  int
}

func newSeeds(old []byte) *seeds {
	s := &seeds{old: old, shift: 64 - bits.Len(uint(max(len(old), 1<<10)))}
	s.places = make([]int32, 1<<(64-s.shift))
	for i := len(old) - seed; i >= 0; i-- {
		s.places[s.key(old[i:])] = int32(i)
	}
	return s
}

func (s *seeds) key(b []byte) uint64 {
	const prime = 0x9e3779b97f4a7c15
	x := binary.LittleEndian.Uint64(b)*prime ^ bits.RotateLeft64(binary.LittleEndian.Uint64(b[8:])*prime, 29)
	return x * prime >> s.shift
}

// find returns a place in the old image with the bytes of new from scan on, and how many are
// equal; 0 if it knows none.
func (s *seeds) find(new []byte, scan int) (place, length int) {
	if len(new)-scan < seed || len(s.old) < seed {
		return 0, 0
	}
	place = int(s.places[s.key(new[scan:])])
	if !bytes.Equal(s.old[place:place+seed], new[scan:scan+seed]) {
		return 0, 0
	}
	return place, equalBytes(s.old[place:min(place+longest, len(s.old))], new[scan:])
}
