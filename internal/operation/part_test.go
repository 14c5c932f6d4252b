package operation_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/operation"
)

func TestTheProgressOfManyPartsIsThinnedAndTheLastOfEachIsKept(t *testing.T) {
	const parts, steps = 10, 2_000
	b := newBench(t)
	s := b.step("write")
	s.Do = func(_ context.Context, r *run) error {
		var mu sync.Mutex
		var all int64
		var work sync.WaitGroup
		for i := range parts {
			work.Go(func() {
				for n := range int64(steps) {
					mu.Lock()
					all++
					r.ProgressPart("part-"+strconv.Itoa(i), n+1, steps, all, parts*steps)
					mu.Unlock()
				}
			})
		}
		work.Wait()
		return nil
	}
	begun := time.Now()
	r, start := b.begin(s)
	op := b.start(start)
	last := map[string]operation.Event{}
	n, before := 0, int64(0)
	for e, err := range r.Watch(t.Context(), op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != operation.Progress {
			continue
		}
		if n++; e.Done < before {
			t.Errorf("the whole went back from %d to %d", before, e.Done)
		}
		before, last[e.Part] = e.Done, e
	}
	if most := parts * (2 + int(time.Since(begun)/(200*time.Millisecond))); n > most {
		t.Errorf("%d events, more than %d", n, most)
	}
	for name, e := range last {
		if e.PartDone != steps || e.PartTotal != steps || e.Total != parts*steps {
			t.Errorf("the last of %s is %+v", name, e)
		}
	}
	if len(last) != parts || before != parts*steps {
		t.Errorf("%d parts, %d of the whole", len(last), before)
	}
}
