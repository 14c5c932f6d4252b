package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

// Query says which entries of the journal Journal sends. The zero value means all.
type Query struct {
	Units        []string
	MaxPriority  *int32 // 0 (emergency) to 7 (debug)
	Since, Until time.Time
	Boot         string // an ID, or an offset such as 0 or -1
	Grep         string // PCRE2
	After        string // a cursor
	Tail         int32  // the last entries only; 0: all
	Follow       bool
	AllFields    bool
}

// Bounds of a query and of an entry.
const (
	maxUnits = 64
	maxText  = 1024    // bytes of a pattern or a cursor
	maxEntry = 1 << 20 // bytes of the JSON of an entry
)

// arguments returns the command line of journalctl. Every value is part of an argument with
// an option, so that no value is taken for an option.
func (q Query) arguments() ([]string, error) {
	args := []string{"--no-pager", "--quiet", "--output=json", "--all"}
	invalid := func(format string, values ...any) ([]string, error) {
		return nil, errkind.Errorf(errkind.Invalid, "read the journal: "+format, values...)
	}
	if len(q.Units) > maxUnits {
		return invalid("%d units, %d are the most", len(q.Units), maxUnits)
	}
	for _, unit := range q.Units {
		if unit == "" || len(unit) > 255 || hasControl(unit) {
			return invalid("%.64q is not the name of a unit", unit)
		}
		args = append(args, "--unit="+unit)
	}
	if p := q.MaxPriority; p != nil {
		if *p < 0 || *p > 7 {
			return invalid("max_priority is %d, it must be from 0 to 7", *p)
		}
		args = append(args, "--priority="+strconv.Itoa(int(*p)))
	}
	for option, at := range map[string]time.Time{"--since=@": q.Since, "--until=@": q.Until} {
		if at.IsZero() {
			continue
		}
		if at.Unix() < 0 || at.Year() > 9999 {
			return invalid("the time %s is out of range", at.UTC().Format(time.RFC3339))
		}
		args = append(args, fmt.Sprintf("%s%d.%06d", option, at.Unix(), at.Nanosecond()/1000))
	}
	if q.Boot != "" {
		boot, ok := bootOf(q.Boot)
		if !ok {
			return invalid("%.64q is not the ID of a boot (32 hexadecimal digits) or an offset such as -1", q.Boot)
		}
		args = append(args, "--boot="+boot)
	}
	for option, text := range map[string]string{"--grep=": q.Grep, "--after-cursor=": q.After} {
		if len(text) > maxText || hasControl(text) {
			return invalid("the pattern or the cursor has a control character or more than %d bytes", maxText)
		}
		if text != "" {
			args = append(args, option+text)
		}
	}
	switch {
	case q.Tail < 0 || q.Tail > maxTail:
		return invalid("tail is %d, it must be from 0 to %d", q.Tail, maxTail)
	case q.Tail > 0:
		args = append(args, "--lines="+strconv.Itoa(int(q.Tail)))
	case q.Follow: // else it begins 10 entries before the end
		args = append(args, "--no-tail")
	}
	if q.Follow {
		args = append(args, "--follow")
	}
	if !q.AllFields {
		args = append(args, "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_SYSTEMD_UNIT,UNIT")
	}
	return args, nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// bootOf returns a small number, or the ID of a boot without dashes: journalctl knows no other
// form.
func bootOf(s string) (string, bool) {
	if digits := strings.TrimPrefix(s, "-"); digits != "" && len(digits) < 6 && strings.Trim(digits, "0123456789") == "" {
		return s, true
	}
	id := strings.ReplaceAll(s, "-", "")
	return id, len(id) == 32 && strings.Trim(id, "0123456789abcdefABCDEF") == ""
}

// Journal gives the entries of a query to send, in batches, until the last one or, with
// Follow, the end of ctx.
func (s *Service) Journal(ctx context.Context, q Query, send func([]Entry) error) error {
	const doing = "read the journal"
	args, err := q.arguments()
	if err != nil {
		return err
	}
	end, err := s.begin(doing)
	if err != nil {
		return err
	}
	defer end()
	if s.Root != "/" {
		args = append(args, "--root="+s.Root)
	}
	out, err := s.Tools.Stream(ctx, "journalctl", args...)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer out.Close()
	if err := sendEntries(out, q.AllFields, send); err != nil {
		return explain(doing, q, ended(ctx, err))
	}
	return nil
}

// explain gives the error of journalctl a kind, if the query is at fault.
func explain(doing string, q Query, err error) error {
	exit, ok := errors.AsType[*run.ExitError](err)
	if !ok {
		return err
	}
	switch {
	case q.Grep != "" && exit.Output == "": // some versions fail if no entry matches
		return nil
	case strings.Contains(exit.Output, "cursor"):
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%s: %w", doing, err), "use the cursor of an entry of this host")
	case q.Grep != "" && strings.Contains(exit.Output, "attern"):
		return errkind.Errorf(errkind.Invalid, "%s: %w", doing, err)
	case q.Boot != "" && strings.Contains(exit.Output, "boot"):
		return errkind.Errorf(errkind.NotFound, "%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// sendEntries reads the output of journalctl: an entry on each line.
func sendEntries(out io.Reader, allFields bool, send func([]Entry) error) error {
	b := batcher[Entry]{send: send}
	r := bufio.NewReaderSize(out, 64<<10)
	var line []byte // of more than one buffer
	size := int64(0)
	for {
		part, err := r.ReadSlice('\n')
		size += int64(len(part))
		if errors.Is(err, bufio.ErrBufferFull) {
			if size <= maxEntry {
				line = append(line, part...)
			}
			continue
		}
		if err != nil {
			if ferr := b.flush(); ferr != nil || errors.Is(err, io.EOF) {
				return ferr
			}
			return err
		}
		if err := b.add(entryOf(line, part, size, allFields), int(min(size, maxEntry))); err != nil {
			return err
		}
		line, size = nil, 0
		if r.Buffered() == 0 {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
}

// entryOf returns the entry of a line, which is in two parts.
func entryOf(head, tail []byte, size int64, allFields bool) Entry {
	if size > maxEntry {
		return Entry{Omitted: size}
	}
	if len(head) > 0 {
		tail = append(head, tail...)
	}
	e, err := parseEntry(tail, allFields)
	if err != nil {
		return Entry{Omitted: size}
	}
	return e
}
