package storage

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

func TestPartitionsArePlaced(t *testing.T) {
	t.Parallel()
	end := gpt.EndUsable(gib, 512) // not at a multiple of 4096
	tests := []struct {
		name  string
		taken []extent
		sizes []int64
		want  []extent
	}{
		{"one", nil, []int64{mib}, []extent{{mib, mib}}},
		{"at multiples of 1 MiB", nil, []int64{4096, 4096}, []extent{{mib, 4096}, {2 * mib, 4096}}},
		{"growing to the end", nil, []int64{mib, 0}, []extent{{mib, mib}, {2 * mib, alignDown(end, 4096) - 2*mib}}},
		{"growing up to the next", nil, []int64{0, mib + 4096}, []extent{{mib, 1021 * mib}, {1022 * mib, mib + 4096}}},
		{"growing alike", nil, []int64{0, 0}, []extent{{mib, 511 * mib}, {512 * mib, alignDown(end, 4096) - 512*mib}}},
		{"full to the last", nil, []int64{alignDown(end, 4096) - mib}, []extent{{mib, alignDown(end, 4096) - mib}}},
		{"around others", []extent{{500 * mib, mib}, {2 * mib, mib}}, []int64{mib, 2 * mib, 0},
			[]extent{{mib, mib}, {3 * mib, 2 * mib}, {501 * mib, alignDown(end, 4096) - 501*mib}}},
		{"in order within a gap", []extent{{100 * mib, 900 * mib}}, []int64{0, mib}, []extent{{mib, 98 * mib}, {99 * mib, mib}}},
		{"an odd neighbour", []extent{{mib, 4096}}, []int64{mib}, []extent{{2 * mib, mib}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := layout(gpt.FirstUsable(512), end, tt.taken, tt.sizes)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(extent{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPlanThatDoesNotFitTheDiskIsRefused(t *testing.T) {
	t.Parallel()
	end := gpt.EndUsable(gib, 512)
	for name, sizes := range map[string][]int64{
		"a block too much": {alignDown(end, 4096) - mib + 4096}, "no room to grow": {1014 * mib, 0}, "two that grow": {1008 * mib, 0, 0},
	} {
		if got, err := layout(gpt.FirstUsable(512), end, nil, sizes); errkind.Of(err) != errkind.NoSpace {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Whatever is asked for, partitions lie apart, inside, and at multiples of 1 MiB,
// and have the size that was asked for.
func TestEveryLayoutKeepsTheRules(t *testing.T) {
	t.Parallel()
	r, placed := rand.New(rand.NewPCG(1, 2)), 0
	for range 5000 {
		var taken []extent
		for at := int64(mib); at < 900*mib && r.IntN(4) > 0; {
			e := extent{at + r.Int64N(100)*4096, (1 + r.Int64N(20000)) * 4096}
			taken = append(taken, e)
			at = e.end()
		}
		sizes := make([]int64, r.IntN(8))
		for i := range sizes {
			sizes[i] = r.Int64N(30000) * 4096 * r.Int64N(2)
		}
		end := gpt.EndUsable(gib, 512)
		got, err := layout(gpt.FirstUsable(512), end, taken, sizes)
		if err != nil {
			continue
		}
		placed++
		for i, e := range got {
			if e.offset%mib != 0 || e.size%4096 != 0 || e.end() > end || sizes[i] > 0 && e.size != sizes[i] || e.size < 4096 || sizes[i] == 0 && e.size < minGrow {
				t.Fatalf("%d of %v lies at %v, around %v", i, sizes, e, taken)
			}
			for _, o := range append(got[:i:i], taken...) {
				if e.offset < o.end() && o.offset < e.end() {
					t.Fatalf("%v overlaps %v", e, o)
				}
			}
		}
	}
	if placed < 1000 {
		t.Errorf("only %d layouts could be made", placed)
	}
}
