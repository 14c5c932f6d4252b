package updates

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/feed"
)

// BenchmarkCheckOfAWarmFeed checks a feed of 200 versions that has not changed. It reports the
// time of the processor as well, which does not depend on what else the machine does, and how
// much more memory the process has after the checks than before the first one.
//
// Expected: at most 50 ms for a check on a quiet machine, and at most 2 MiB more memory.
func BenchmarkCheckOfAWarmFeed(b *testing.B) {
	w := newWorld(b)
	var all []feed.Release
	for i := range 200 {
		all = append(all, release(fmt.Sprintf("1.%d.0", i)))
	}
	w.publish(all...)
	before := residentHeap()
	w.wantOffer("1.199.0")
	began, checks := processorTime(b), 0
	for b.Loop() {
		if _, err := w.service.Check(context.Background()); err != nil {
			b.Fatal(err)
		}
		checks++
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(checks)/1e6, "processor-ms/op")
	b.ReportMetric(float64(residentHeap()-before)/(1<<20), "MiB-more")
}

// residentHeap returns how many bytes of the heap the process has from the system after it
// has given back what it can.
func residentHeap() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapSys - m.HeapReleased)
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
