package patch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
)

// wordSize is how many bytes get one number: those of an address in a program.
const wordSize = 4

// granule is the binary logarithm of how many bytes of a program probably move together.
const granule = 12

// A guesser guesses what to add to the next word, from the words before it. A word of a program
// is mostly one of two: the distance from its own place to a target (a call), or the address of
// a target (a table). The number to add then depends on how far the target has moved, and what
// lies near it has mostly moved as far.
type guesser struct {
	moves map[uint32][2]uint32 // how far the last two targets of distances in a granule have moved
	sums  map[uint32]uint32    // what was last added to an address in a granule
	last  uint32               // what was last added
}

func newGuesser() *guesser {
	return &guesser{moves: map[uint32][2]uint32{}, sums: map[uint32]uint32{}}
}

// guesses is how many guesses there are for one word.
const guesses = 4

// guess returns what may have to be added to a word that is in the old image at from, and in
// the new one at to, the most likely first.
func (g *guesser) guess(from, to, word uint32) [guesses]uint32 {
	moves, own := g.moves[(from+word)>>granule], to-from
	return [guesses]uint32{moves[0] - own, g.sums[word>>granule], g.last, moves[1] - own}
}

// learn tells g what is added to that word.
func (g *guesser) learn(from, to, word, sum uint32) {
	target := (from + word) >> granule
	if moves, move := g.moves[target], sum+to-from; move != moves[0] {
		g.moves[target] = [2]uint32{move, moves[0]}
	}
	g.sums[word>>granule] = sum
	g.last = sum
}

// words are the numbers to add to the words of the pieces of a delta, modulo 2^32. They are in
// three parts, which Zstandard packs better than one.
type words struct {
	gaps    []byte // how many bytes of the pieces do not change before the word
	choices []byte // which guess is right; guesses for none
	sums    []byte // the numbers that were not guessed
	rest    int    // how many bytes follow the last word
	guesser *guesser
}

// add appends the words of a piece, and returns how many bytes of the piece they cover. The
// bytes after those, fewer than a word, are not to be copied from the old image.
func (w *words) add(old, new []byte, from, to, size int) int {
	if w.guesser == nil {
		w.guesser = newGuesser()
	}
	for i := 0; i < size; {
		same := min(equalBytes(old[from+i:from+size], new[to+i:]), size-i)
		i, w.rest = i+same, w.rest+same
		if i == size {
			break
		}
		if size-i < wordSize {
			return i
		}
		w.put(uint32(from+i), uint32(to+i), old[from+i:], new[to+i:])
		i += wordSize
	}
	return size
}

func (w *words) put(from, to uint32, old, new []byte) {
	word := binary.LittleEndian.Uint32(old)
	sum := binary.LittleEndian.Uint32(new) - word
	all := w.guesser.guess(from, to, word)
	choice := slices.Index(all[:], sum)
	if choice < 0 {
		choice = guesses
		w.sums = binary.AppendVarint(w.sums, int64(int32(sum)))
	}
	w.gaps = binary.AppendUvarint(w.gaps, uint64(w.rest))
	w.choices = append(w.choices, byte(choice))
	w.rest = 0
	w.guesser.learn(from, to, word, sum)
}

// A wordReader reads words.
type wordReader struct {
	gaps, choices, sums *bufio.Reader
	guesser             *guesser
	gap                 uint64 // how many bytes do not change before the next word
	begun               bool
}

// copyPiece writes the piece of the old image from from to end, with its words changed, as the
// bytes of the new image from to on.
func (w *wordReader) copyPiece(out io.Writer, old []byte, from, end, to int64) error {
	for from < end {
		if !w.begun {
			if err := w.next(); err != nil {
				return err
			}
		}
		n := int64(min(w.gap, uint64(end-from)))
		if _, err := out.Write(old[from : from+n]); err != nil {
			return err
		}
		from, to, w.gap = from+n, to+n, w.gap-uint64(n)
		if from == end {
			return nil
		}
		if end-from < wordSize {
			return errors.New("a number to add leaves its step")
		}
		if err := w.copyWord(out, old, from, to); err != nil {
			return err
		}
		from, to, w.begun = from+wordSize, to+wordSize, false
	}
	return nil
}

// next reads where the next word is; after the last one nothing changes.
func (w *wordReader) next() (err error) {
	if w.gap, err = binary.ReadUvarint(w.gaps); errors.Is(err, io.EOF) {
		w.gap, err = math.MaxUint64, nil
	}
	w.begun = err == nil
	return err
}

func (w *wordReader) copyWord(out io.Writer, old []byte, from, to int64) error {
	choice, err := w.choices.ReadByte()
	if err != nil {
		return err
	}
	word := binary.LittleEndian.Uint32(old[from:])
	var sum uint32
	switch all := w.guesser.guess(uint32(from), uint32(to), word); {
	case choice < guesses:
		sum = all[choice]
	case choice == guesses:
		n, err := binary.ReadVarint(w.sums)
		if err != nil {
			return err
		}
		if n != int64(int32(n)) {
			return errors.New("a number to add is too large")
		}
		sum = uint32(int32(n))
	default:
		return errors.New("a number to add is damaged")
	}
	w.guesser.learn(uint32(from), uint32(to), word, sum)
	var changed [wordSize]byte
	binary.LittleEndian.PutUint32(changed[:], word+sum)
	_, err = out.Write(changed[:])
	return err
}
