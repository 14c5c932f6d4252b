package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/systemd"
)

const (
	maxMounts = 16 << 20 // bytes of mountinfo
	// rewatch is the time after which the watch of systemd begins again when systemd was away.
	rewatch = 5 * time.Second
)

// Watch adds the failures of units and the changes of mounts to events, until ctx ends. It calls
// ready when it watches both, or has said in an event that it cannot.
func Watch(ctx context.Context, root string, jobs systemd.Jobs, events *Events, ready func()) {
	var both, begun sync.WaitGroup
	begun.Add(2)
	both.Go(func() {
		begin := sync.OnceFunc(begun.Done)
		defer begin()
		watchUnits(ctx, jobs, events, begin)
	})
	both.Go(func() {
		begin := sync.OnceFunc(begun.Done)
		defer begin()
		if err := watchMounts(ctx, filepath.Join(root, "proc/self/mountinfo"), events, begin); err != nil && ctx.Err() == nil {
			events.Add(Event{Kind: Blind, Subject: "mounts", Text: err.Error()})
		}
	})
	begun.Wait()
	ready()
	both.Wait()
}

// watchUnits watches the units, and begins again when systemd was away, as after daemon-reexec.
// It calls ready when it watches, or has said that it cannot, each time.
func watchUnits(ctx context.Context, jobs systemd.Jobs, events *Events, ready func()) {
	for isBlind := false; ; {
		err := jobs.Failures(ctx, func() { isBlind = false; ready() }, func(unit string) { events.Add(Event{Kind: UnitFailed, Subject: unit}) })
		if ctx.Err() != nil {
			return
		}
		if !isBlind {
			isBlind = true
			events.Add(Event{Kind: Blind, Subject: "units", Text: err.Error()})
			ready()
		}
		if interrupt.Sleep(ctx, rewatch) != nil {
			return
		}
	}
}

// watchMounts compares mountinfo when the kernel announces a change of it: it is then readable
// with an error or a priority (proc_pid_mountinfo(5)). It calls ready when no later change can be
// missed.
func watchMounts(ctx context.Context, name string, events *Events, ready func()) error {
	// Not by package os: Go's runtime would poll the file, too, and each change wakes one poll only.
	file, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = unix.Close(file) }()
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
	ready()
	for {
		fds := []unix.PollFd{{Fd: int32(file), Events: unix.POLLPRI}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
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
	all, err := mountinfo.GetMountsFromReader(strings.NewReader(text), nil)
	if err != nil {
		return nil, errkind.With(errkind.Corrupt, err)
	}
	out := map[string]mounted{}
	for _, m := range all {
		// An ID is used again, so the place is a part of the key.
		out[fmt.Sprint(m.ID, " ", m.Mountpoint)] = mounted{m.Mountpoint, m.Source + ", " + m.FSType}
	}
	return out, nil
}

func compare(before, now map[string]mounted, events *Events) {
	for key, m := range before {
		if now[key] != m {
			events.Add(Event{Kind: Unmounted, Subject: m.at, Text: m.what})
		}
	}
	for key, m := range now {
		if before[key] != m {
			events.Add(Event{Kind: Mounted, Subject: m.at, Text: m.what})
		}
	}
}
