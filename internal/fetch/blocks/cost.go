package blocks

import (
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

const (
	// partOverhead is what a server sends around a range among several, in bytes: nginx,
	// Apache and lighttpd send 104 to 118, Go's net/http 151.
	partOverhead = 160
	// signatureSize is the size of a signature partition, as systemd-repart makes it.
	signatureSize = 16 << 10
)

// OutlineCost estimates from above the bytes that Download receives of an image of size bytes
// before it knows which blocks it needs: the partition table, the signature and the hash tree.
func OutlineCost(size int64) int64 {
	tree := verity.Superblock{DataBlocks: uint64(max(1, size/blockSize))}
	return gpt.OverheadFront + gpt.OverheadBack + signatureSize + tree.HashSize() + 4*partOverhead
}

// rangesCost returns the bytes of all missing blocks from the server.
func (j *job) rangesCost() int64 {
	return j.image.missing*blockSize + int64(len(j.image.spans()))*partOverhead
}

// admitOutline fails if the budget does not suffice for the outline and the cheapest patch, or
// without an image on this host for the whole image, before a byte of them is requested.
func (j *job) admitOutline(size int64) error {
	left, limited := j.want.Source.Meter.Left()
	if !limited {
		return nil
	}
	need, ways := OutlineCost(size), []string(nil)
	switch p := j.cheapestPatch(); {
	case p != nil:
		need += p.cost()
		ways = append(ways, fmt.Sprintf("%s needs about %d with the hash tree", p.name(), need))
	case len(j.want.Old) == 0 && j.file.IsFresh():
		need = size
	default:
		ways = append(ways, fmt.Sprintf("its hash tree alone needs about %d", need))
	}
	if need <= left {
		return nil
	}
	return j.overBudget(left, append(ways, fmt.Sprintf("the whole image needs %d", size)))
}

// admit fails if the budget does not allow need more bytes.
func (j *job) admit(need int64, failed []string) error {
	left, limited := j.want.Source.Meter.Left()
	if !limited || need <= left {
		return nil
	}
	ways := append(failed, fmt.Sprintf("the %d blocks that this host lacks need %d", j.image.missing, j.rangesCost()))
	if p := j.cheapestPatch(); p != nil && len(failed) == 0 {
		ways = append(ways, fmt.Sprintf("%s needs %d", p.name(), p.cost()))
	}
	ways = append(ways, fmt.Sprintf("the whole image needs %d", j.remote.Size()))
	return j.overBudget(left, ways)
}

func (j *job) overBudget(left int64, ways []string) error {
	budget := fmt.Sprintf("%d bytes are left of the data budget", left)
	if all := j.want.Source.MaxBytes; all > 0 {
		budget = fmt.Sprintf("of the data budget of %d bytes %d are left", all, left)
	}
	err := errkind.Errorf(errkind.TooLarge, "fetch %s: %s: %s", j.want.Source, budget, strings.Join(ways, "; "))
	return errkind.WithHint(err, "Raise the data budget, or serve the image from a place that is not metered.")
}

// spans returns the places of the missing blocks in the file.
func (w *work) spans() []fetch.Span {
	var out []fetch.Span
	for i, have := range w.have {
		off := w.data + int64(i)*blockSize
		switch n := len(out); {
		case have:
		case n > 0 && out[n-1].Off+out[n-1].Len == off:
			out[n-1].Len += blockSize
		default:
			out = append(out, fetch.Span{Off: off, Len: blockSize})
		}
	}
	return out
}
