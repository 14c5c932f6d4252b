package updates

import (
	"fmt"
	"testing"

	"github.com/trident-project/trident/internal/feed"
)

// BenchmarkCheckOfAWarmFeed checks a feed of 200 versions that has not changed.
func BenchmarkCheckOfAWarmFeed(b *testing.B) {
	w := newWorld(b)
	var all []feed.Release
	for i := range 200 {
		all = append(all, release(fmt.Sprintf("1.%d.0", i)))
	}
	w.publish(all...)
	w.wantOffer("1.199.0")
	for b.Loop() {
		w.check()
	}
}
