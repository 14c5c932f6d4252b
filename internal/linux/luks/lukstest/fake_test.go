package lukstest_test

import (
	"crypto/sha256"
	"testing"

	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/luks/lukstest"
)

func TestTheFakePassesTheSuite(t *testing.T) {
	t.Parallel()
	lukstest.Suite(t, func(*testing.T) lukstest.Bench {
		registers := map[int][]byte{7: make([]byte, 32), 23: make([]byte, 32)}
		now := func() map[int][]byte { return registers }
		return lukstest.Bench{
			Manager: &lukstest.Fake{Registers: now}, Volume: luks.Volume{Device: "/dev/a", Name: "data", UUID: "11111111-2222-4333-8444-555555555555"},
			Registers: now, Extend: func(n int, by [32]byte) {
				sum := sha256.Sum256(append(append([]byte{}, registers[n]...), by[:]...))
				registers = map[int][]byte{7: registers[7], n: sum[:]}
			},
		}
	})
}
