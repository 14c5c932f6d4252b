// Package blockdevtest has a disk in memory that can lose its power, and a suite that both
// it and real disks pass.
package blockdevtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"math/rand/v2"
	"sync"

	"github.com/trident-project/trident/internal/linux/blockdev"
)

// Memory is a disk in memory. It is sparse, so it may be as large as a real
// one. Like a real one it keeps what was written in a cache until Sync, and
// writes a sector wholly or not at all. Close leaves it as it is.
type Memory struct {
	size, sector int64

	mu      sync.Mutex
	cache   map[int64][]byte // by sector; one that is not there is zero
	durable map[int64][]byte
	dirty   map[int64]bool
	rereads int
	writes  int
}

var _ blockdev.Device = (*Memory)(nil)

// New is a disk of zeros.
func New(size, sector int64) *Memory {
	return &Memory{size: size, sector: sector, cache: map[int64][]byte{}, durable: map[int64][]byte{}, dirty: map[int64]bool{}}
}

// Crash returns the disk after a power cut: all synced sectors, and a random choice (keep)
// of the others.
func (m *Memory) Crash(keep *rand.Rand) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := New(m.size, m.sector)
	out.cache = maps.Clone(m.durable)
	whole := keep.IntN(4) // now and then all or nothing
	for i := range m.dirty {
		if whole == 1 || whole > 1 && keep.IntN(2) == 0 {
			put(out.cache, i, m.cache[i])
		}
	}
	out.durable = maps.Clone(out.cache)
	return out
}

// put keeps no sectors of zeros.
func put(to map[int64][]byte, i int64, data []byte) {
	if zero(data) {
		delete(to, i)
		return
	}
	to[i] = data
}

// zero compares in pieces, as most of what is written is zero.
func zero(b []byte) bool {
	var zeros [512]byte
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// blank reports whether a sector is zero, and was so when it was synced.
func (m *Memory) blank(i int64) bool { return m.cache[i] == nil && m.durable[i] == nil }

// Rereads returns how often Reread was called.
func (m *Memory) Rereads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rereads
}

// Writes returns a number that grows with every change of the content.
func (m *Memory) Writes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// Sum returns a sum of the content. Two disks with the same content have the same sum for a seed.
func (m *Memory) Sum(seed maphash.Seed) (sum uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, data := range m.cache { // which has no sectors of zeros
		var h maphash.Hash
		h.SetSeed(seed)
		_ = binary.Write(&h, binary.LittleEndian, i)
		_, _ = h.Write(data)
		sum += h.Sum64() // in any order
	}
	return sum
}

// Size implements blockdev.Device.
func (m *Memory) Size() int64 { return m.size }

// SectorSize implements blockdev.Device.
func (m *Memory) SectorSize() int64 { return m.sector }

// Close implements blockdev.Device.
func (m *Memory) Close() error { return nil }

// ReadAt implements blockdev.Device.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= m.size {
			return n, io.EOF
		}
		i, in := at/m.sector, at%m.sector
		count := int(min(int64(len(p)-n), m.sector-in, m.size-at))
		if data := m.cache[i]; data != nil {
			copy(p[n:n+count], data[in:])
		} else {
			clear(p[n : n+count])
		}
		n += count
	}
	return n, nil
}

// WriteAt implements blockdev.Device.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > m.size-int64(len(p)) {
		return 0, fmt.Errorf("write %d bytes at %d: the disk ends at %d", len(p), off, m.size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := 0; n < len(p); {
		i, in := (off+int64(n))/m.sector, (off+int64(n))%m.sector
		if m.blank(i) && zero(p[n:min(len(p), n+int(m.sector-in))]) { // most of what is written are zeros over zeros
			n += int(m.sector - in)
			continue
		}
		data := make([]byte, m.sector) // a new one: the old may be in durable
		copy(data, m.cache[i])
		count := copy(data[in:], p[n:])
		put(m.cache, i, data)
		m.dirty[i] = true
		m.writes++
		n += count
	}
	return len(p), nil
}

// Sync implements blockdev.Device.
func (m *Memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.dirty {
		put(m.durable, i, m.cache[i])
	}
	clear(m.dirty)
	return nil
}

// Discard implements blockdev.Device. Discarded bytes that were not zero read as garbage.
func (m *Memory) Discard(offset, length int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, end := (offset+m.sector-1)/m.sector, (offset+length)/m.sector
	for i := range m.cache {
		if i >= first && i < end {
			rubbish := make([]byte, m.sector)
			for j := range rubbish {
				rubbish[j] = 0xdd
			}
			m.cache[i] = rubbish
			m.dirty[i] = true
			m.writes++
		}
	}
	return nil
}

// Reread implements blockdev.Device.
func (m *Memory) Reread(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rereads++
	return ctx.Err()
}

// Part returns the bytes of a partition as a device of its own.
func (m *Memory) Part(offset, size int64) blockdev.Device { return &part{m, offset, size} }

type part struct {
	*Memory
	offset, size int64
}

func (p *part) Size() int64 { return p.size }

func (p *part) ReadAt(b []byte, off int64) (int, error) {
	return io.NewSectionReader(p.Memory, p.offset, p.size).ReadAt(b, off)
}

func (p *part) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > p.size-int64(len(b)) {
		return 0, fmt.Errorf("write %d bytes at %d: the partition ends at %d", len(b), off, p.size)
	}
	return p.Memory.WriteAt(b, p.offset+off)
}

func (p *part) Discard(offset, length int64) error {
	return p.Memory.Discard(p.offset+offset, min(length, p.size-offset))
}
