package md

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// The attributes of an array in /sys (Documentation/admin-guide/md.rst).
const (
	arrayState = "array_state"
	syncAction = "sync_action"

	maxArrays = 1024
)

// Arrays implements [Manager].
func (h *Host) Arrays(ctx context.Context) ([]State, error) {
	dirs, err := filepath.Glob(filepath.Join(h.sys(), "md*", "md"))
	if err != nil {
		return nil, err
	}
	if len(dirs) > maxArrays {
		return nil, errkind.Errorf(errkind.TooLarge, "list arrays: there are more than %d", maxArrays)
	}
	var out []State
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		st, running, err := h.state(dir)
		if err != nil {
			return nil, fmt.Errorf("read the state of array %s: %w", filepath.Base(filepath.Dir(dir)), err)
		}
		if running {
			out = append(out, st)
		}
	}
	return out, nil
}

func (h *Host) sys() string { return filepath.Join(h.Root, "sys/block") }

// state reads the state of the array whose attributes are in dir. running is false for an
// array that has stopped, also while it is being read.
func (h *Host) state(dir string) (st State, running bool, err error) {
	get := func(name string) (text string) {
		text, e := attribute(filepath.Join(dir, name))
		if err == nil {
			err = e
		}
		return text
	}
	now := get(arrayState)
	switch now {
	case "", "clear", "inactive":
		return st, false, err
	}
	slots, _, _ := strings.Cut(get("raid_disks"), " ") // "2 (3)" while it grows
	st = State{Kernel: filepath.Base(filepath.Dir(dir)), Level: Level(get("level")), Action: get(syncAction)}
	st.ReadOnly = now == "readonly" || now == "broken" // an array that is read-auto is written at the first request
	if st.Action == "" {
		st.Action = "idle" // RAID 0 has no such attribute
	}
	st.Done, st.Total = progress(get("sync_completed"))
	if err != nil {
		return st, false, err
	}
	if st.Slots, err = strconv.Atoi(slots); err != nil {
		return st, false, errkind.Errorf(errkind.Corrupt, "its number of members is %q", slots)
	}
	if st.Members, err = members(dir); err != nil {
		return st, false, err
	}
	st.Missing = st.Slots
	for _, m := range st.Members {
		if m.InSync && m.Slot >= 0 {
			st.Missing--
		}
	}
	h.identify(&st)
	return st, true, nil
}

// progress reads "SECTORS / SECTORS"; "none" and "delayed" are none.
func progress(text string) (done, total int64) {
	a, b, _ := strings.Cut(text, " / ")
	done, aerr := strconv.ParseInt(a, 10, 54)
	total, berr := strconv.ParseInt(b, 10, 54)
	if aerr != nil || berr != nil || done < 0 || total < done {
		return 0, 0
	}
	return done * sectorSize, total * sectorSize
}

func members(dir string) ([]Member, error) {
	names, err := filepath.Glob(filepath.Join(dir, "dev-*"))
	if err != nil {
		return nil, err
	}
	var out []Member
	for _, name := range names {
		state, err := attribute(filepath.Join(name, "state"))
		if err != nil {
			return nil, err
		}
		slot, err := attribute(filepath.Join(name, "slot"))
		if err != nil {
			return nil, err
		}
		flags := strings.Split(state, ",")
		m := Member{Device: deviceOf(name), Slot: -1, InSync: slices.Contains(flags, "in_sync"), Faulty: slices.Contains(flags, "faulty")}
		if n, err := strconv.Atoi(slot); err == nil {
			m.Slot = n
		}
		if state != "" { // else it has just been removed
			out = append(out, m)
		}
	}
	return out, nil
}

// deviceOf returns the device file of a member from its folder in /sys, where the kernel
// writes "!" for "/".
func deviceOf(dir string) string {
	name := strings.TrimPrefix(filepath.Base(dir), "dev-")
	return "/dev/" + strings.ReplaceAll(name, "!", "/")
}

// identify reads UUID and name from the superblock of a member. An array with superblocks of
// another kind has none.
func (h *Host) identify(st *State) {
	for _, m := range st.Members {
		if m.Faulty {
			continue
		}
		if s, err := examine(filepath.Join(h.Root, m.Device)); err == nil {
			st.UUID, st.Name = s.Array, s.Name
			return
		}
	}
}

// examine is Examine of a device, which it opens only for reading: udev probes a device again
// each time that a writer closes it.
func examine(device string) (Superblock, error) {
	f, err := os.Open(device)
	if err != nil {
		return Superblock{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Superblock{}, err
	}
	return Examine(f, size)
}

// attribute reads an attribute; "" if it does not exist, or not any more.
func attribute(name string) (string, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || isGone(err) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

func setAttribute(name, value string) error { return os.WriteFile(name, []byte(value), 0) }
