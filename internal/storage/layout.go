package storage

import (
	"cmp"
	"slices"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
)

const (
	mib     = 1 << 20
	grain   = 4096     // sizes are multiples of it
	minGrow = 10 * mib // what a partition without a size has at least, as with systemd-repart
)

// extent is a contiguous area of a disk, in bytes.
type extent struct{ offset, size int64 }

func (e extent) end() int64 { return e.offset + e.size }

func alignUp(n, to int64) int64   { return (n + to - 1) / to * to }
func alignDown(n, to int64) int64 { return n / to * to }

// gap is a free area, and the indexes of the partitions that layout places in it.
type gap struct {
	extent
	members []int
}

// layout places partitions of the given sizes, 0 for a growing one, in the free areas
// between first and end: in their order, each at a multiple of 1 MiB. A partition of a fixed
// size goes into the first gap that has room for it, and a growing one into the gap that
// gives it the most room; growing partitions in one gap share its rest.
func layout(first, end int64, taken []extent, sizes []int64) ([]extent, error) {
	gaps := gapsBetween(first, end, taken)
	place := func(i int, candidates []int) bool {
		for _, g := range candidates {
			members := append(slices.Clone(gaps[g].members), i)
			slices.Sort(members)
			if room(gaps[g].extent, members, sizes) >= 0 {
				gaps[g].members = members
				return true
			}
		}
		return false
	}
	for i, size := range sizes {
		if size > 0 && !place(i, count(len(gaps))) {
			return nil, tooSmall(gaps, sizes)
		}
	}
	for i, size := range sizes {
		if size == 0 && !place(i, byRoom(gaps, sizes)) {
			return nil, tooSmall(gaps, sizes)
		}
	}
	out := make([]extent, len(sizes))
	for _, g := range gaps {
		g.fill(out, sizes)
	}
	return out, nil
}

func count(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// byRoom sorts gaps by the size that one more growing partition would get in them.
func byRoom(gaps []gap, sizes []int64) []int {
	share := func(g gap) int64 {
		growing := int64(1)
		for _, i := range g.members {
			if sizes[i] == 0 {
				growing++
			}
		}
		return (room(g.extent, g.members, sizes) + (growing-1)*minGrow) / growing
	}
	out := count(len(gaps))
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(share(gaps[b]), share(gaps[a])) })
	return out
}

func gapsBetween(first, end int64, taken []extent) []gap {
	taken = slices.Clone(taken)
	slices.SortFunc(taken, func(a, b extent) int { return cmp.Compare(a.offset, b.offset) })
	var out []gap
	at := max(first, mib)
	for _, t := range append(taken, extent{offset: end}) {
		if start, stop := alignUp(at, mib), alignDown(t.offset, grain); stop > start {
			out = append(out, gap{extent: extent{start, stop - start}})
		}
		at = max(at, t.end())
	}
	return out
}

// room returns the number of bytes of e that are free behind the members if growing ones
// have their least size; it is negative if the members do not fit.
func room(e extent, members []int, sizes []int64) int64 {
	at := e.offset
	for _, i := range members {
		size := sizes[i]
		if size == 0 {
			size = minGrow
		}
		at = alignUp(at, mib)
		if size > e.end()-at {
			return -1
		}
		at += size
	}
	return e.end() - at
}

// fill sets the places of the members of a gap.
func (g gap) fill(out []extent, sizes []int64) {
	growing := int64(0)
	for _, i := range g.members {
		if sizes[i] == 0 {
			growing++
		}
	}
	more := int64(0)
	if growing > 0 {
		more = alignDown(room(g.extent, g.members, sizes)/growing, mib)
	}
	at := g.offset
	for n, i := range g.members {
		at = alignUp(at, mib)
		size := sizes[i]
		if size == 0 {
			size = minGrow + more
			if n == len(g.members)-1 {
				size = alignDown(g.end()-at, grain)
			}
		}
		out[i] = extent{at, size}
		at += size
	}
}

func tooSmall(gaps []gap, sizes []int64) error {
	need, have := int64(0), int64(0)
	for _, size := range sizes {
		if size == 0 {
			size = minGrow
		}
		need += size
	}
	for _, g := range gaps {
		have += g.size
	}
	if need <= have {
		return errkind.Errorf(errkind.NoSpace, "the partitions need %s, and the %s that are free are not in one piece, or not in large enough ones", bytesize.Plain(need), bytesize.Plain(have))
	}
	return errkind.Errorf(errkind.NoSpace, "the disk is too small: the partitions need %s, and %s are free", bytesize.Plain(need), bytesize.Plain(have))
}
