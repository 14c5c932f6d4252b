package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// maxRecord is the size of a buffer for a record of /dev/kmsg; the kernel fails with EINVAL
// for a smaller one than the record (Documentation/ABI/testing/dev-kmsg).
const maxRecord = 16 << 10

// A Record is a record of the log of the kernel.
type Record struct {
	Sequence  uint64
	SinceBoot time.Duration
	Time      time.Time
	Priority  int32 // 0 (emergency) to 7 (debug)
	Facility  int32
	Message   string
	Lost      bool // the kernel has overwritten records before this one
}

// KernelQuery says which records Kernel sends. The zero value means all.
type KernelQuery struct {
	Tail   int32   // the last records only; 0: all
	After  *uint64 // a sequence number
	Follow bool
}

// Kernel gives the records of the log of the kernel to send, in batches, until the last one or,
// with Follow, the end of ctx.
func (s *Service) Kernel(ctx context.Context, q KernelQuery, send func([]Record) error) error {
	const doing = "read the log of the kernel"
	switch {
	case q.Tail < 0 || q.Tail > maxTail:
		return errkind.Errorf(errkind.Invalid, "%s: tail is %d, it must be from 0 to %d", doing, q.Tail, maxTail)
	case q.Tail > 0 && q.After != nil:
		return errkind.Errorf(errkind.Invalid, "%s: a tail and a sequence number cannot be combined", doing)
	}
	end, err := s.begin(doing)
	if err != nil {
		return err
	}
	defer end()
	f, err := os.OpenFile(filepath.Join(s.Root, "dev/kmsg"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errkind.Errorf(errkind.Unsupported, "%s: %w", doing, err)
	case err != nil:
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })()
	if err := sendRecords(ctx, f, q, send); err != nil {
		return fmt.Errorf("%s: %w", doing, ended(ctx, err))
	}
	return nil
}

// sendRecords reads f, of which each read returns one record.
func sendRecords(ctx context.Context, f *os.File, q KernelQuery, send func([]Record) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	k := &kernelLog{batcher: batcher[Record]{send: send}, KernelQuery: q, boot: bootTime()}
	for buf, wait := make([]byte, maxRecord), false; ; {
		n, err := readRecord(conn, buf, wait)
		switch {
		case errors.Is(err, unix.EPIPE): // the kernel has overwritten the next records
			k.isLost = true
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0: // no more for now
			if err := k.drained(); err != nil || !q.Follow {
				return err
			}
			wait = true
			continue
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := k.take(buf[:n]); err != nil {
			return err
		}
		wait = false // there may be more now
	}
}

// A kernelLog selects the records that one caller gets.
type kernelLog struct {
	batcher[Record]
	KernelQuery
	boot   time.Time
	last   []Record // the tail, until the log was read to its end once
	newest uint64
	isLost bool
}

// take adds a record, if the caller wants it.
func (k *kernelLog) take(text []byte) error {
	r, err := parseRecord(text, k.boot)
	if err != nil {
		return nil // in a form that only a later kernel has
	}
	k.newest = r.Sequence
	if k.After != nil {
		if r.Sequence <= *k.After {
			return nil
		}
		k.isLost = k.isLost || r.Sequence > *k.After+1
		k.After = nil
	}
	r.Lost, k.isLost = k.isLost, false
	if k.Tail == 0 {
		return k.add(r, len(text))
	}
	if k.last = append(k.last, r); len(k.last) > int(k.Tail) {
		k.last = k.last[1:]
	}
	return nil
}

// drained sends what take has kept. It fails if the caller has seen a record that this boot
// does not have yet.
func (k *kernelLog) drained() error {
	if k.After != nil && *k.After > k.newest {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "the last record has the sequence number %d, not %d: the host has booted since", k.newest, *k.After),
			"read the log without a sequence number")
	}
	for _, r := range k.last {
		if err := k.add(r, len(r.Message)); err != nil {
			return err
		}
	}
	k.last, k.Tail = nil, 0
	return k.flush()
}

// readRecord reads a record. It fails with EAGAIN if there is none, or waits for one.
func readRecord(conn interface {
	Read(func(uintptr) bool) error
}, buf []byte, wait bool) (n int, err error) {
	cerr := conn.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), buf)
			if !errors.Is(err, unix.EINTR) {
				return !wait || !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if cerr != nil {
		return 0, cerr
	}
	return n, err
}

// parseRecord parses "priority,sequence,microseconds,flags;message" and lines of properties,
// which begin with a blank (Documentation/ABI/testing/dev-kmsg).
func parseRecord(text []byte, boot time.Time) (Record, error) {
	head, rest, ok := bytes.Cut(text, []byte(";"))
	parts := strings.Split(string(head), ",")
	if !ok || len(parts) < 3 {
		return Record{}, errkind.Errorf(errkind.Corrupt, "parse a record of the kernel: %.64q", head)
	}
	priority, err1 := strconv.ParseUint(parts[0], 10, 16)
	sequence, err2 := strconv.ParseUint(parts[1], 10, 64)
	micros, err3 := strconv.ParseInt(parts[2], 10, 53)
	if err := errors.Join(err1, err2, err3); err != nil || micros < 0 {
		return Record{}, errkind.Errorf(errkind.Corrupt, "parse a record of the kernel: %.64q: %w", head, err)
	}
	message, _, _ := bytes.Cut(rest, []byte("\n"))
	r := Record{
		Sequence: sequence, SinceBoot: time.Duration(micros) * time.Microsecond,
		Priority: int32(priority & 7), Facility: int32(priority >> 3), Message: unescape(message),
	}
	r.Time = boot.Add(r.SinceBoot)
	return r, nil
}

// unescape replaces \xNN in a message of the kernel by the byte, unless the result would not
// be UTF-8.
func unescape(message []byte) string {
	var out []byte
	for i := 0; i < len(message); i++ {
		if i+3 < len(message) && message[i] == '\\' && message[i+1] == 'x' {
			if b, err := strconv.ParseUint(string(message[i+2:i+4]), 16, 8); err == nil {
				out = append(out, byte(b))
				i += 3
				continue
			}
		}
		out = append(out, message[i])
	}
	if !utf8.Valid(out) {
		return strings.ToValidUTF8(string(message), "?")
	}
	return string(out)
}

// bootTime returns when the kernel's clock of log records was 0, by the clock of now.
func bootTime() time.Time {
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return time.Time{}
	}
	return time.Now().Round(0).Add(-time.Duration(mono.Nano()))
}
