// Package load samples the load of the host once a minute and keeps a day of samples, in
// memory and in a file that survives a restart of the gateway.
//
// It asks the kernel by sysinfo(2), because /proc/loadavg is hidden from the gateway
// (ProcSubset= in trident-gateway.service).
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
	samples [Kept]Sample // at the place of their minute
	told    map[chan Sample]struct{}
}

// record is a sample in the file: seconds since 1970, three loads in hundredths, and the
// CRC-32 of the bytes before.
const record = 8 + 3*4 + 4

// Open returns a history that keeps its samples in the file at path, and has those that the
// file has. Bytes of the file that are not samples are ignored. An empty path is no file.
func Open(path string, now time.Time, logger *slog.Logger) (*History, error) {
	h := &History{logger: logger, told: map[chan Sample]struct{}{}}
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

func encode(s Sample) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(s.Time.Unix()))
	for _, v := range []float64{s.Load1, s.Load5, s.Load15} {
		b = binary.LittleEndian.AppendUint32(b, uint32(math.Round(v*100)))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func decode(b []byte) (Sample, bool) {
	end := record - 4
	if crc32.ChecksumIEEE(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return Sample{}, false
	}
	at := func(i int) float64 { return float64(binary.LittleEndian.Uint32(b[i:])) / 100 }
	return Sample{time.Unix(int64(binary.LittleEndian.Uint64(b)), 0).UTC(), at(8), at(12), at(16)}, true
}

// Run takes a sample each minute until ctx ends, and closes the file then.
func (h *History) Run(ctx context.Context) {
	defer h.close()
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		if c, err := Now(time.Now()); err != nil {
			h.logger.Warn("no sample of the load", "error", err)
		} else if err := h.Add(c.Sample); err != nil {
			h.logger.Warn("a sample of the load is in memory alone", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *History) close() {
	if h.file != nil {
		_ = h.file.Close()
	}
}

// Add adds a sample, in place of one of the same minute. After an error the sample is in
// memory alone.
func (h *History) Add(s Sample) error {
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
func (h *History) Since(since, now time.Time) []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []Sample{}
	for _, s := range h.samples {
		if !s.Time.IsZero() && !s.Time.Before(since) && now.Sub(s.Time) < Kept*Every {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Sample) int { return a.Time.Compare(b.Time) })
	return out
}

// Follow returns a channel that gets each new sample until end is called. A sample that the
// reader does not take in time is left out.
func (h *History) Follow() (samples <-chan Sample, end func()) {
	c := make(chan Sample, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told[c] = struct{}{}
	return c, func() { h.mu.Lock(); defer h.mu.Unlock(); delete(h.told, c) }
}
