package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Snapshot is a guest that was stopped while it ran: its disk and its memory.
// Any number of guests continue from it, none changes it.
type Snapshot struct {
	base *Base
	opts Options
	dir  string

	installed bool // and not the live system
}

// Save stops the guest and saves it in the folder dir. It makes the folder, which must not
// move. The guest is switched off afterwards; continue with Load.
func (vm *VM) Save(ctx context.Context, dir string) (*Snapshot, error) {
	p := vm.running()
	if p == nil {
		return nil, errors.New("save a guest: it is switched off")
	}
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("save a guest: %w", err)
	}
	// A guest's unwritten pages are part of its memory; the fewer, the smaller it is.
	if _, err := vm.Run(ctx, "sync; echo 3 >/proc/sys/vm/drop_caches", nil); err != nil {
		return nil, fmt.Errorf("save a guest: %w", err)
	}
	if err := saveMemory(ctx, p.qmp, filepath.Join(dir, "memory")); err != nil {
		return nil, fmt.Errorf("save a guest: %w", err)
	}
	if err := vm.PowerCut(); err != nil {
		return nil, err
	}
	for _, name := range vm.files() {
		err := moveFile(ctx, vm.path(name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("save a guest: %w", err)
		}
	}
	return &Snapshot{base: vm.base, opts: vm.opts, dir: dir, installed: vm.installed}, nil
}

// files are the possible files of a guest that is switched off.
func (vm *VM) files() []string {
	list := []string{liveDisk, shareDisk, variables}
	for _, d := range vm.opts.disks() {
		list = append(list, d.file)
	}
	return list
}

// saveMemory saves the memory by QEMU's migration to a file. Unlike savevm, that does not
// save the disk, so that guests can share the disk as their backing file.
func saveMemory(ctx context.Context, q *qmp, path string) error {
	for _, c := range []struct {
		command   string
		arguments map[string]any
	}{
		{"migrate-set-parameters", map[string]any{"max-bandwidth": int64(1) << 40}},
		{"migrate-set-capabilities", map[string]any{"capabilities": []any{map[string]any{"capability": "events", "state": true}}}},
		{"migrate", map[string]any{"uri": "file:" + path}},
	} {
		if err := q.do(ctx, c.command, c.arguments, nil); err != nil {
			return err
		}
	}
	for {
		var state struct {
			Status string `json:"status"`
			Desc   string `json:"error-desc"`
		}
		if err := q.do(ctx, "query-migrate", nil, &state); err != nil {
			return err
		}
		switch state.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("write the guest's memory: %s", state.Desc)
		}
		if err := q.wait(ctx, "MIGRATION"); err != nil {
			return err
		}
	}
}

// moveFile renames, or copies (keeping holes) where the folders are on
// different file systems.
func moveFile(ctx context.Context, from, to string) error {
	err := os.Rename(from, to)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err = tool(ctx, false, "cp", "--sparse=always", from, to)
	return err
}

// Load continues a saved guest on a disk of its own and returns when it answers
// over SSH, with its clock set. The caller closes it.
func Load(ctx context.Context, s *Snapshot) (*VM, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	vm, err := newVM(ctx, s.base, s.opts)
	if err != nil {
		return nil, err
	}
	vm.installed = s.installed
	if err := vm.takeDisks(ctx, s.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("load a guest: %w", err), vm.Close())
	}
	if err := vm.resume(ctx, filepath.Join(s.dir, "memory")); err != nil {
		return nil, errors.Join(fmt.Errorf("load a guest: %w", err), vm.Close())
	}
	return vm, nil
}

// takeDisks makes the disks of the guest over the disks of a snapshot.
func (vm *VM) takeDisks(ctx context.Context, dir string) error {
	for _, name := range vm.files() {
		from := filepath.Join(dir, name)
		if _, err := os.Stat(from); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			return err
		}
		var err error
		switch name {
		case shareDisk:
			err = os.Symlink(from, vm.path(name))
		case variables:
			err = copyFile(from, vm.path(name))
		default:
			err = vm.overlay(ctx, name, from, "qcow2")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (vm *VM) resume(ctx context.Context, memory string) error {
	if err := vm.start(ctx, []string{"-incoming", "file:" + memory}); err != nil {
		return err
	}
	monitor := vm.running().qmp
	var state struct {
		Status string `json:"status"`
	}
	if err := monitor.do(ctx, "query-status", nil, &state); err != nil {
		return err
	}
	if state.Status != "running" {
		if err := monitor.wait(ctx, "RESUME"); err != nil {
			return err
		}
	}
	if _, err := vm.client(ctx); err != nil { // takes a while, and must not count
		return err
	}
	now := time.Now()
	_, err := vm.Run(ctx, fmt.Sprintf("date -s @%d.%09d", now.Unix(), now.Nanosecond()), nil)
	return err
}

// Booted returns a snapshot of a guest right after its boot. It makes the snapshot once
// per machine and keeps it beside the image. It fails if opts has a Share or an Image,
// because their content would be part of the snapshot.
func Booted(ctx context.Context, b *Base, opts Options) (*Snapshot, error) {
	opts = opts.filled()
	if opts.Share != "" || opts.Image != "" {
		return nil, errors.New("keep a booted guest: it must have no share and no image")
	}
	host, err := probe(ctx, b)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%+v", b.key, host.id, opts))
	name := b.key + "-booted-" + hex.EncodeToString(sum[:])[:12]
	dir, err := once(ctx, name, func(part string) error {
		vm, err := Boot(ctx, b, opts)
		if err != nil {
			return err
		}
		defer func() { _ = vm.Close() }()
		if err := vm.WaitBoot(ctx); err != nil {
			return err
		}
		if err := os.Remove(part); err != nil {
			return err
		}
		_, err = vm.Save(ctx, part)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("keep a booted guest of %s: %w", b.key, err)
	}
	return &Snapshot{base: b, opts: opts, dir: dir}, nil
}
