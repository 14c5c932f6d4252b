// Package load samples the load and the disk traffic of the host once a minute and keeps a day of
// samples, in memory and in a file that survives a restart of the gateway.
//
// It asks the kernel by sysinfo(2) and in /sys/block, because /proc/loadavg and /proc/diskstats are
// hidden from the gateway (ProcSubset= in trident-gateway.service).
package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Every is the time between two samples.
	Every = time.Minute
	// Kept is how many samples are kept: 24 hours.
	Kept = 24 * 60
)

// A Sample is the load at one time: the average number of runnable processes and of those in
// uninterruptible sleep, over 1, 5 and 15 minutes (proc_loadavg(5)).
type Sample struct {
	Time   time.Time `json:"time"`
	Load1  float64   `json:"load1"`
	Load5  float64   `json:"load5"`
	Load15 float64   `json:"load15"`
}

// A Minute is a sample with the traffic of all disks since the previous sample, in bytes a
// second.
type Minute struct {
	Sample
	DiskRead    int64 `json:"diskRead"`
	DiskWritten int64 `json:"diskWritten"`
}

// Current is the load now.
type Current struct {
	Sample
	Processors    int   `json:"processors"`
	Threads       int   `json:"threads"` // of all processes
	UptimeSeconds int64 `json:"uptimeSeconds"`
}

// Now returns the load now.
func Now(now time.Time) (Current, error) {
	var i unix.Sysinfo_t
	if err := unix.Sysinfo(&i); err != nil {
		return Current{}, fmt.Errorf("read the load: sysinfo: %w", err)
	}
	round := func(fixed uint64) float64 { return math.Round(float64(fixed)/65536*100) / 100 }
	return Current{
		Sample:     Sample{now.UTC().Truncate(time.Second), round(uint64(i.Loads[0])), round(uint64(i.Loads[1])), round(uint64(i.Loads[2]))},
		Processors: runtime.NumCPU(), Threads: int(i.Procs), UptimeSeconds: int64(i.Uptime),
	}, nil
}

// History has the samples of the last 24 hours. Its methods may be called concurrently.
type History struct {
	logger *slog.Logger
	file   *os.File // nil: in memory alone

	mu      sync.Mutex
	samples [Kept]Minute // at the place of their minute
	told    map[chan Minute]struct{}
}

// record is a sample in the file: seconds since 1970, three loads in hundredths, two rates in
// bytes a second, and the CRC-32 of the bytes before.
const record = 8 + 3*4 + 2*8 + 4

// Open returns a history with the samples of the file at path, which keeps further samples there.
// Open makes the file if it does not exist, and ignores bytes that are not samples of the last 24
// hours. With an empty path the history is only in memory.
func Open(path string, now time.Time, logger *slog.Logger) (*History, error) {
	h := &History{logger: logger, told: map[chan Minute]struct{}{}}
	if path == "" {
		return h, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the history of the load: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("open the history of the load: %s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, Kept*record))
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read the history of the load: %w", err)
	}
	h.file = f
	for ; len(data) >= record; data = data[record:] {
		if s, ok := decode(data[:record]); ok && now.Sub(s.Time) < Kept*Every && !s.Time.After(now) {
			h.samples[place(s.Time)] = s
		}
	}
	return h, nil
}

func place(t time.Time) int { return int(t.Unix()/60%Kept+Kept) % Kept }

func encode(s Minute) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(s.Time.Unix()))
	for _, v := range []float64{s.Load1, s.Load5, s.Load15} {
		b = binary.LittleEndian.AppendUint32(b, uint32(math.Round(v*100)))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(s.DiskRead))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.DiskWritten))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func decode(b []byte) (Minute, bool) {
	end := record - 4
	if crc32.ChecksumIEEE(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return Minute{}, false
	}
	at := func(i int) float64 { return float64(binary.LittleEndian.Uint32(b[i:])) / 100 }
	rate := func(i int) int64 { return max(0, int64(binary.LittleEndian.Uint64(b[i:]))) }
	return Minute{Sample{time.Unix(int64(binary.LittleEndian.Uint64(b)), 0).UTC(), at(8), at(12), at(16)}, rate(20), rate(28)}, true
}

// Run takes a sample each minute until ctx ends, and closes the file then.
func (h *History) Run(ctx context.Context) {
	defer h.close()
	tick := time.NewTicker(Every)
	defer tick.Stop()
	var last reading
	for {
		last = h.sample(last)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// A reading is the traffic of the disks at a time; the zero value is none.
type reading struct {
	traffic
	at time.Time
}

// sample adds a sample of this minute, and returns the reading for the next one.
func (h *History) sample(last reading) reading {
	now := time.Now()
	next := reading{at: now}
	var err error
	if next.traffic, err = readTraffic(sysBlock); err != nil {
		h.logger.Warn("no sample of the disks", "error", err)
		next = reading{}
	}
	c, err := Now(now)
	if err != nil {
		h.logger.Warn("no sample of the load", "error", err)
		return next
	}
	m := Minute{Sample: c.Sample}
	if !last.at.IsZero() {
		m.DiskRead, m.DiskWritten = next.since(last.traffic, now.Sub(last.at))
	}
	if err := h.Add(m); err != nil {
		h.logger.Warn("a sample of the load is in memory alone", "error", err)
	}
	return next
}

func (h *History) close() {
	if h.file != nil {
		_ = h.file.Close()
	}
}

// Add adds a sample, and replaces an earlier one of the same minute. After an error the sample is
// only in memory.
func (h *History) Add(s Minute) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := place(s.Time)
	h.samples[i] = s
	for c := range h.told {
		select {
		case c <- s:
		default: // the subscriber has not taken the previous one
		}
	}
	if h.file == nil {
		return nil
	}
	_, err := h.file.WriteAt(encode(s), int64(i)*record)
	return err
}

// Since returns the samples of the last 24 hours that are not before since, the oldest first.
func (h *History) Since(since, now time.Time) []Minute {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []Minute{}
	for _, s := range h.samples {
		if !s.Time.IsZero() && !s.Time.Before(since) && now.Sub(s.Time) < Kept*Every {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Minute) int { return a.Time.Compare(b.Time) })
	return out
}

// Follow returns a channel that gets each new sample until end is called. A sample that the
// reader does not take in time is left out.
func (h *History) Follow() (samples <-chan Minute, end func()) {
	c := make(chan Minute, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told[c] = struct{}{}
	return c, func() { h.mu.Lock(); defer h.mu.Unlock(); delete(h.told, c) }
}
