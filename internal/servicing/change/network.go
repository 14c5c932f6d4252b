package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
)

// Times for netplan.
const (
	generateTime = time.Minute
	applyTime    = 3 * time.Minute
)

// GenerateNetplan has the host's netplan read its files, and write those of the network
// daemons. An error is of kind Precondition where the host has no netplan.
func (h *Host) GenerateNetplan(ctx context.Context, args ...string) error {
	return h.netplan(ctx, generateTime, append([]string{"generate"}, args...))
}

// ApplyNetplan has the host's netplan set up the network. It fails as GenerateNetplan does.
func (h *Host) ApplyNetplan(ctx context.Context, args ...string) error {
	return h.netplan(ctx, applyTime, append([]string{"apply"}, args...))
}

func (h *Host) netplan(ctx context.Context, limit time.Duration, args []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errkind.Errorf(errkind.Timeout, "it did not end within %s", limit))
	defer cancel()
	_, err := h.Tools.Run(ctx, "netplan", args...)
	return err
}

// TryNetplan checks a network: the host's netplan reads it below a folder of its own. at is
// the path of the network in the configuration, for errors. An error is of kind
// Precondition where the host has no netplan.
func (h *Host) TryNetplan(ctx context.Context, id, at string, n hostconfig.Netplan) error {
	root := h.netplanCheckDir(id)
	err := h.Touch("check netplan", func() error {
		// netplan sees this folder as the root, so it reads no other network of the host.
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(osconfig.Netplan)), 0o700); err != nil {
			return err
		}
		if err := osconfig.WriteNetwork(root, n); err != nil {
			return err
		}
		return h.GenerateNetplan(ctx, "--root-dir", root)
	})
	if err = errors.Join(err, h.CleanNetplanCheck(id)); err == nil {
		return nil
	}
	if errkind.Of(err) == errkind.Precondition { // there is no netplan
		err = errkind.WithHint(err, "Install netplan, or leave %s out.", at)
		return errkind.WithName(fmt.Errorf("check %s: %w", at, err), errkind.NameMissingBinary)
	}
	if ctx.Err() == nil && errkind.Of(err) == errkind.Internal {
		err = errkind.With(errkind.Invalid, err)
	}
	return errkind.WithName(fmt.Errorf("check %s: %w", at, err), errkind.NameGenerateNetplanConfig)
}

func (h *Host) netplanCheckDir(id string) string {
	return filepath.Join(h.WorkDir(id), "netplan-check")
}

// CleanNetplanCheck deletes the folder that an interrupted TryNetplan has left.
func (h *Host) CleanNetplanCheck(id string) error {
	return h.Touch("clean netplan check", func() error { return os.RemoveAll(h.netplanCheckDir(id)) })
}

// CopyNetplan copies the host's netplan files to the same folder below root.
func (h *Host) CopyNetplan(root string) error {
	to := filepath.Join(root, path.Dir(osconfig.Netplan))
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	from := path.Dir(osconfig.Netplan)[1:]
	names, err := inroot.FS(h.Root).List(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if path.Ext(name) != ".yaml" {
			continue
		}
		data, err := inroot.FS(h.Root).ReadFile(path.Join(from, name), 1<<20)
		if errors.Is(err, fs.ErrNotExist) { // a link to nowhere
			continue
		}
		if err == nil {
			err = atomicfile.Write(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ApplyFormerNetwork has netplan apply the files that an Undo has restored. netplan removes
// the devices of the undone network only if it finds that network in a root folder of its
// own; ApplyFormerNetwork writes it to state.
func (h *Host) ApplyFormerNetwork(ctx context.Context, r Logger, state string, taken hostconfig.Netplan) error {
	var args []string
	err := h.CopyNetplan(state)
	if err == nil {
		err = osconfig.WriteNetwork(state, taken)
	}
	if err == nil {
		args = []string{"--state", state}
	} else { // such as a full disk; still apply the addresses
		r.Logf(slog.LevelWarn, "devices that only the new network had stay until the next boot: %v", err)
	}
	return h.ApplyNetplan(ctx, args...)
}

// RestoreKept restores one file from its copy. If a user of the host has redirected its
// path, it only logs that: no user can keep Trident from restoring the other files.
func (h *Host) RestoreKept(r Logger, k osconfig.Kept, copied string) error {
	err := h.Touch("restore file", func() error { return k.Restore(h.Root, copied) })
	if moved, ok := errors.AsType[*osconfig.MovedError](err); ok {
		r.Logf(slog.LevelWarn, "%s stays as it is now: %v", moved.Name, moved.Why)
		return nil
	}
	return err
}
