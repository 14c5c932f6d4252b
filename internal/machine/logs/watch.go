package logs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/systemd"
)

const (
	maxMounts = 16 << 20 // bytes of mountinfo
	// rewatch is the time after which the watch of systemd begins again when systemd was away.
	rewatch = 5 * time.Second
)

// Watch adds the failures of units and the changes of mounts to events, until ctx ends.
func Watch(ctx context.Context, root string, jobs systemd.Jobs, events *Events) {
	var both sync.WaitGroup
	both.Go(func() { watchUnits(ctx, jobs, events) })
	both.Go(func() {
		if err := watchMounts(ctx, filepath.Join(root, "proc/self/mountinfo"), events); err != nil && ctx.Err() == nil {
			events.Add(Event{Kind: Blind, Subject: "mounts", Text: err.Error()})
		}
	})
	both.Wait()
}

// watchUnits watches the units, and begins again when systemd was away, as after daemon-reexec.
func watchUnits(ctx context.Context, jobs systemd.Jobs, events *Events) {
	for isBlind := false; ; {
		err := jobs.Failures(ctx, func() { isBlind = false }, func(unit string) { events.Add(Event{Kind: UnitFailed, Subject: unit}) })
		if ctx.Err() != nil {
			return
		}
		if !isBlind {
			isBlind = true
			events.Add(Event{Kind: Blind, Subject: "units", Text: err.Error()})
		}
		select {
		case <-time.After(rewatch):
		case <-ctx.Done():
			return
		}
	}
}

// watchMounts compares mountinfo when the kernel announces a change of it: it is then readable
// with an error or a priority (proc_pid_mountinfo(5)).
func watchMounts(ctx context.Context, name string, events *Events) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	wake, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer wake.Close()
	defer context.AfterFunc(ctx, func() { _ = end.Close() })()
	before, err := mounts(name)
	if err != nil {
		return err
	}
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		now, err := mounts(name)
		if err != nil {
			return err
		}
		compare(before, now, events)
		before = now
	}
}

// A mounted is a mount, by its ID.
type mounted struct{ at, what string }

func mounts(name string) (map[string]mounted, error) {
	text, err := regfile.ReadFile(name, maxMounts)
	if err != nil {
		return nil, err
	}
	return parseMounts(string(text))
}

// parseMounts parses mountinfo (proc_pid_mountinfo(5)).
func parseMounts(text string) (map[string]mounted, error) {
	out := map[string]mounted{}
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		where, what := strings.Fields(left), strings.Fields(right)
		if !ok || len(where) < 6 || len(what) < 2 {
			return nil, errkind.Errorf(errkind.Corrupt, "parse a mount: %.128q", line)
		}
		// An ID is used again, so the place is a part of the key.
		out[where[0]+" "+where[4]] = mounted{plain(where[4]), plain(what[1]) + ", " + what[0]}
	}
	return out, nil
}

// plain replaces the escapes of mountinfo: a backslash and three octal digits.
func plain(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(b))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func compare(before, now map[string]mounted, events *Events) {
	for key, m := range before {
		if _, ok := now[key]; !ok {
			events.Add(Event{Kind: Unmounted, Subject: m.at, Text: m.what})
		}
	}
	for key, m := range now {
		if _, ok := before[key]; !ok {
			events.Add(Event{Kind: Mounted, Subject: m.at, Text: m.what})
		}
	}
}
