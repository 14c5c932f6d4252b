package md

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/run"
)

// Host is the Manager of a real host.
type Host struct {
	Root  string     // the root folder of the host, "/"; its /sys and /dev are read and written
	Tools run.Runner // runs mdadm
	// Await stands for that of package blockdev, if it is nil.
	Await func(ctx context.Context, paths ...string) error
}

var (
	_ Manager = (*Host)(nil)
	_ Checker = (*Host)(nil)
)

const (
	toolTimeout = 2 * time.Minute
	nodeTimeout = 2 * time.Minute // until udev has made a link
)

// isGone reports whether err is that of an attribute whose array or member has gone.
func isGone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) }

// mdadm runs mdadm. Its standard input is empty, so it asks nobody.
func (h *Host) mdadm(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	_, err := h.Tools.Run(ctx, "mdadm", args...)
	return err
}

// Create implements [Manager].
func (h *Host) Create(ctx context.Context, a Array) error {
	if err := h.create(ctx, a); err != nil {
		return fmt.Errorf("create array %q: %w", a.Name, err)
	}
	return nil
}

func (h *Host) create(ctx context.Context, a Array) error {
	if err := a.check(); err != nil {
		return err
	}
	if err := h.Stop(ctx, a.UUID); err != nil {
		return err
	}
	for _, m := range a.Members {
		if err := h.forget(m); err != nil {
			return err
		}
	}
	bitmap := "--bitmap=internal"
	if a.Level == RAID0 {
		bitmap = "--bitmap=none"
	}
	args := []string{
		"--create", a.Device(), "--run", "--level=" + string(a.Level), "--raid-devices=" + strconv.Itoa(len(a.Members)), "--metadata=1.0",
		bitmap, "--homehost=any", "--name=" + a.Name, "--uuid=" + a.UUID.String(),
	}
	if a.Level != RAID1 {
		args = append(args, "--chunk="+strconv.Itoa(Chunk>>10)+"K")
	}
	if a.Level == RAID10 {
		args = append(args, "--layout=n2")
	}
	if err := h.mdadm(ctx, append(args, a.Members...)...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	await := h.Await
	if await == nil {
		await = blockdev.Await
	}
	if err := await(ctx, filepath.Join(h.Root, a.Device())); err != nil {
		return err
	}
	st, ok, err := h.find(ctx, a.UUID)
	if err == nil && (!ok || st.Level != a.Level || st.Slots != len(a.Members)) {
		err = errkind.Errorf(errkind.Corrupt, "mdadm has made another array than asked for: %+v", st)
	}
	return err
}

// check fails for an array that mdadm would refuse, or would ask about.
func (a Array) check() error {
	switch {
	case !IsName(a.Name):
		err := errkind.Errorf(errkind.Invalid, "%q is not a name for an array", a.Name)
		return errkind.WithHint(err, "Use at most %d letters, digits, and . _ -, and begin with a letter or a digit.", MaxName)
	case a.UUID == UUID{}:
		return errkind.Errorf(errkind.Internal, "it has no UUID")
	case len(a.Members) < a.Level.least():
		return errkind.Errorf(errkind.Invalid, "%s needs at least %d members, and it has %d", a.Level, a.Level.least(), len(a.Members))
	}
	return nil
}

// least returns the least number of members that Linux makes an array of the level from.
func (l Level) least() int {
	if l == RAID6 {
		return 4
	}
	return 2
}

// forget overwrites all superblocks on a device that nobody uses.
func (h *Host) forget(device string) (err error) {
	dev, err := blockdev.Open(filepath.Join(h.Root, device), true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	for _, at := range blockdev.RAIDPlaces(dev.Size()) {
		if at < 0 {
			return errkind.Errorf(errkind.NoSpace, "%s has only %d bytes", device, dev.Size())
		}
		if _, err := dev.WriteAt(make([]byte, superblockSize), at); err != nil {
			return err
		}
	}
	return dev.Sync()
}

func (h *Host) find(ctx context.Context, id UUID) (State, bool, error) {
	list, err := h.Arrays(ctx)
	i := slices.IndexFunc(list, func(st State) bool { return st.UUID == id && id != UUID{} })
	if err != nil || i < 0 {
		return State{}, false, err
	}
	return list[i], true, nil
}

// Stop implements [Manager].
func (h *Host) Stop(ctx context.Context, id UUID) error {
	st, ok, err := h.find(ctx, id)
	if err != nil || !ok {
		return err
	}
	if setAttribute(filepath.Join(h.sys(), st.Kernel, "md", arrayState), "clear") != nil {
		if err := h.mdadm(ctx, "--stop", "/dev/"+st.Kernel); err != nil {
			return fmt.Errorf("stop array %q: %w", st.Name, err)
		}
	}
	if _, still, err := h.find(ctx, id); err != nil || still {
		return cmp.Or(err, errkind.Errorf(errkind.Precondition, "stop array %q: it still runs as %s", st.Name, st.Kernel))
	}
	return nil
}

// Add implements [Manager]. All of the array is copied to a device that was a member once,
// because nobody knows what has written to it since.
func (h *Host) Add(ctx context.Context, id UUID, device string) error {
	st, ok, err := h.find(ctx, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return errkind.Errorf(errkind.NotFound, "add %s to array %s: the array does not run", device, id)
	}
	device = h.kernelName(device)
	if slices.ContainsFunc(st.Members, func(m Member) bool { return m.Device == device }) {
		return nil
	}
	if err = h.forget(device); err == nil {
		err = h.mdadm(ctx, "/dev/"+st.Kernel, "--add", device)
	}
	if err != nil {
		return fmt.Errorf("add %s to array %q: %w", device, st.Name, err)
	}
	return nil
}

// Remove implements [Manager].
func (h *Host) Remove(ctx context.Context, id UUID, device string) error {
	st, ok, err := h.find(ctx, id)
	if err != nil || !ok {
		return err
	}
	device = h.kernelName(device)
	i := slices.IndexFunc(st.Members, func(m Member) bool { return m.Device == device })
	switch {
	case i < 0:
		return nil
	case st.Members[i].InSync && !st.Members[i].Faulty:
		return errkind.Errorf(errkind.Precondition, "remove %s from array %q: it serves data in sync", device, st.Name)
	}
	state := filepath.Join(h.sys(), st.Kernel, "md", "dev-"+sysName(device), "state")
	if !st.Members[i].Faulty {
		err = setAttribute(state, "faulty")
	}
	if err == nil {
		err = setAttribute(state, "remove")
	}
	if err != nil && !isGone(err) && !errors.Is(err, os.ErrNotExist) { // the kernel still answers its requests: mdadm tries for a while
		if err := h.mdadm(ctx, "/dev/"+st.Kernel, "--fail", device, "--remove", device); err != nil {
			return fmt.Errorf("remove %s from array %q: %w", device, st.Name, err)
		}
	}
	return nil
}

// kernelName returns the device file of the kernel for a link to it.
func (h *Host) kernelName(device string) string {
	at, err := filepath.EvalSymlinks(filepath.Join(h.Root, device))
	if err != nil {
		return device // it has gone
	}
	root, err := filepath.EvalSymlinks(h.Root)
	if err != nil {
		return device
	}
	rel, err := filepath.Rel(root, at)
	if err != nil {
		return device
	}
	return "/" + rel
}

// sysName returns the name of a device file in /sys.
func sysName(device string) string {
	rel, _ := filepath.Rel("/dev", device)
	return strings.ReplaceAll(rel, "/", "!")
}
