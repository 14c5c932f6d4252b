// Package fetch copies bytes from a file of the host, an http(s) server, a registry or a
// client's upload into a file, and resumes after an interruption.
//
// The package does not trust the bytes: they stay in a part file until the caller has
// verified them. A small record beside the part file says which source and which content
// the part is from and how many of its bytes are on disk. After a crash, a restart or a
// power cut the same call continues from there. It requests the rest from a server only
// with a validator that proves that the file is still the same (RFC 9110, 13.1.5), so
// that it never joins parts of two files.
//
// A caller that needs only parts of a file, or has no space for all of it, reads
// [Ranges], under the same rule.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// Limits bound a download. Zero means the default. Only the context bounds the total time.
type Limits struct {
	MaxSize  int64         // the largest source, in bytes; 1 GiB
	Stall    time.Duration // longest wait for the next byte; 60 s
	Attempts int           // most tries in a row that fetch less than 1 MiB each; 8
}

// Result describes the complete part file.
type Result struct {
	Size   int64
	SHA256 string // hex
}

// ErrChanged says that the content of the source changed during the fetch, again and again.
var ErrChanged = errkind.With(errkind.Unavailable, errors.New("the source changed while it was being read"))

// ErrUploadLost says that a restart interrupted an upload. The client has to send it again.
var ErrUploadLost = errkind.With(errkind.Unavailable, errors.New("the upload was interrupted and has to be sent again"))

// Download fetches src into the file part (mode 0600; its folder must exist) and returns
// when all bytes are on disk. The record is part + ".json".
//
// If Download fails or is interrupted at any point, part and record stay, and the same
// call continues from there. If both are complete, it returns at once without a request.
// To begin anew, or to give up, remove both (see [Remove]).
//
// Download calls progress a few times a second and at the end, with the bytes so far and
// in total (0: unknown), and log with each message for people. Both may be nil.
func Download(ctx context.Context, src Source, part string, lim Limits, progress func(done, total int64), log func(string)) (Result, error) {
	ctx, cancel := WithTimeout(ctx, src.Timeout)
	defer cancel()
	d := download{
		src: src, lim: lim.withDefaults(), progress: progress, log: log,
		transport: transportWith(src.Roots), wait: interrupt.Sleep, free: freeSpace, every: checkpoint, touch: func(string) error { return nil },
	}
	return d.run(ctx, part)
}

// WithTimeout returns a context for fetches that may take d in all; 0 means no limit.
// A fetch that takes longer fails with errkind.Timeout.
func WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not finished within %s, the allowed time", d))
}

func (l Limits) withDefaults() Limits {
	if l.MaxSize <= 0 {
		l.MaxSize = 1 << 30
	}
	if l.Stall <= 0 {
		l.Stall = time.Minute
	}
	if l.Attempts <= 0 {
		l.Attempts = 8
	}
	return l
}
