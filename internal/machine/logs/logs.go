// Package logs reads the journal and the log of the kernel, and remembers the events of a
// host, for callers who may be on another machine.
//
// Every stream waits for its reader: the package reads on only when what it has read is sent.
// So a reader that never reads costs the memory of one batch, and one journalctl that waits.
package logs

import (
	"context"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	// MaxStreams is how many streams run at the same time.
	MaxStreams = 32
	maxTail    = 1_000_000
	// A batch has at most so many records, and ends early when it has so many bytes.
	maxBatch      = 512
	maxBatchBytes = 512 << 10
)

// Service reads the logs of the host below the folder Root.
type Service struct {
	Root  string
	Tools run.Streamer

	mu      sync.Mutex
	streams int
}

// begin counts a stream until end is called. Its error is of kind Unavailable.
func (s *Service) begin(doing string) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= MaxStreams {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Unavailable, "%s: %d streams of logs run already", doing, MaxStreams), "end one of them, or try again later")
	}
	s.streams++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streams--
	}, nil
}

// A batcher collects records and sends them when the source has no more of them ready.
type batcher[T any] struct {
	send  func([]T) error
	batch []T
	bytes int
}

func (b *batcher[T]) add(record T, bytes int) error {
	b.batch = append(b.batch, record)
	if b.bytes += bytes; len(b.batch) >= maxBatch || b.bytes >= maxBatchBytes {
		return b.flush()
	}
	return nil
}

func (b *batcher[T]) flush() error {
	if len(b.batch) == 0 {
		return nil
	}
	err := b.send(b.batch)
	b.batch, b.bytes = nil, 0
	return err
}

// ended returns the cause of the end of ctx, or err if it has not ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
