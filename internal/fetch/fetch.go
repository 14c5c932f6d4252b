// Package fetch brings bytes from a file of the host, from an http(s) server, from
// a registry or from a client's upload into a file, so that an interruption costs
// nothing.
//
// What arrives is not trusted and not used: it lies in a part file until others
// have verified it. Beside the part lies a small record that says of what it is
// a part and how much of it is surely on disk, so that after a crash, a restart
// or a power cut the same call goes on where it was. A server is only asked to
// go on if it can say that the file is still the same (RFC 9110, 13.1.5): two
// halves of two files are worse than none.
//
// Who needs parts of a file, or has no room for all of it, reads [Ranges], under
// the same rule.
package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Source is where the bytes come from: exactly one of URL, Path and Upload, or
// UploadSize alone.
type Source struct {
	// URL is http, https or oci. Its user name, password and query are secrets: they
	// are sent to the server and nowhere else. A server that announces no size and
	// ends by closing the connection cannot be told from a broken one; give SHA256.
	// Of an oci URL (see [Origin]) the layer is brought that its tag says at the
	// beginning, wherever the tag has moved when it is gone on with; only if the
	// registry has that layer no more, it is begun again with what the tag says then.
	URL string
	// Login returns the credentials for a registry, as in [Origin].
	Login func(registry string) (user, password string)
	// Roots are the authorities for TLS; nil stands for the system's.
	Roots *x509.CertPool
	// Path, absolute, names a regular file. Symbolic links are followed: only root can ask
	// for a path, so they open nothing to it that was closed.
	Path string
	// Upload returns the next bytes that a client sent, io.EOF after the last. It
	// must return when its context ends.
	Upload func(context.Context) ([]byte, error)
	// UploadSize is how many bytes the client will send; 0 if it did not say.
	// Without Upload (the client's call did not outlive a restart) what had fully
	// arrived is taken, and else the error is ErrUploadLost.
	UploadSize int64
	// SHA256 in hex is what the bytes must have, if it is known. A registry says it
	// of its layer.
	SHA256 string
}

// Limits bound a download. The zero value of each means its default. The time
// that the whole may take is bounded by the context alone.
type Limits struct {
	MaxSize  int64         // most bytes that are taken; 1 GiB
	Stall    time.Duration // longest wait for the next byte; 60 s
	Attempts int           // tries in a row that bring less than 1 MiB; 8
}

// Result is what now lies in the part file.
type Result struct {
	Size   int64
	SHA256 string // hex
}

// ErrChanged says that the source was another one each time that it was asked
// to go on.
var ErrChanged = errkind.With(errkind.Unavailable, errors.New("the source changed while it was being read"))

// ErrUploadLost says that a restart came between the chunks of an upload. Only
// the client can send it again.
var ErrUploadLost = errkind.With(errkind.Unavailable, errors.New("the upload was interrupted and has to be sent again"))

// Download brings src into the file part (mode 0600, its folder must exist) and
// returns when all of it is on disk. The record of it is part + ".json".
//
// When it fails, or is stopped at any point, part and record stay, and the same
// call goes on from there; when both are complete it returns at once, without
// asking the source. To begin anew, or to give up, remove both (see [Remove]).
//
// progress is called a few times a second, and at the end, with the bytes so far
// and in total (0: not known); log with a sentence worth telling. Either may be
// nil.
func Download(ctx context.Context, src Source, part string, lim Limits, progress func(done, total int64), log func(string)) (Result, error) {
	d := download{
		src: src, lim: lim.withDefaults(), progress: progress, log: log,
		transport: transportWith(src.Roots), wait: wait, free: freeSpace, every: checkpoint, touch: func(string) error { return nil },
	}
	return d.run(ctx, part)
}

// WithTimeout returns a context for fetches that may take d in all; 0 is no limit.
// One that is not over by then fails with kind Timeout.
func WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("it was not finished within %s, the time that was allowed for it", d))
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
