package ddi

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// The comparison with the tools of others is internal/e2e/bench/images.

func BenchmarkBuild(b *testing.B) {
	const size = 16 << 20
	tree := writeTree(b, map[string]string{"usr/x": strings.Repeat("trident ", size/8)})
	path := filepath.Join(b.TempDir(), "x.raw")
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Build(b.Context(), path, BuildOptions{Tree: tree, Arch: AMD64, Epoch: epoch}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	whole, _ := signed(b, sample(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(bytes.NewReader(whole), int64(len(whole))); err != nil {
			b.Fatal(err)
		}
	}
}
