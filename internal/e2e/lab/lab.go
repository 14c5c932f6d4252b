// Package lab boots real Linux machines for the end-to-end tests and the demo:
// QEMU guests with systemd as PID 1, device-mapper and a disk that survives a
// power cut.
//
// The lab is a package and not a script, because a scenario controls its guest throughout:
// it cuts the power at a step, serves a file, calls a gRPC socket in the guest. Everything
// goes over one SSH connection of this process, so that the guest needs no agent and this
// machine needs no tool but QEMU.
//
// The lab makes a base image once per machine and recipe, and keeps it with a snapshot of
// the booted guest, so that a scenario starts in seconds even where QEMU emulates the
// processor. Guests reach nothing but this process.
//
// The lab has no second driver for User Mode Linux, which runs a kernel as a process
// without emulation. Measured on one idle machine with the story of make demo, User Mode
// Linux takes 120 s and 87 s of processor time, and QEMU 125 s and 124 s. User Mode Linux
// has no snapshots, so each scenario would pay for a boot. It has neither UEFI nor the
// kernel's check of root hash signatures, which most scenarios need. A second driver for
// disks, network, shares and power cuts would save little time and serve few scenarios.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// cacheEnv names the folder that keeps images between runs.
const cacheEnv = "TRIDENT_CACHE"

// partSuffix ends the name of an unfinished folder.
const partSuffix = ".part"

func cacheDir() (string, error) {
	dir := os.Getenv(cacheEnv)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder (or set %s): %w", cacheEnv, err)
		}
		dir = filepath.Join(user, "trident-lab")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return dir, nil
}

// once makes the folder <cache>/<name> unless it exists: it calls fill on a new folder, and
// renames that folder when it is complete. Of several processes one makes the folder while
// the others wait. A process that makes a folder also prunes the cache.
func once(ctx context.Context, name string, fill func(dir string) error) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	asked := filepath.Join(cache, name+lockSuffix)
	unlock, err := lock(ctx, asked)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := os.Chtimes(asked, time.Time{}, time.Now()); err != nil {
		return "", fmt.Errorf("note that %s is used: %w", name, err)
	}
	final := filepath.Join(cache, name)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	part := final + partSuffix
	if err := os.RemoveAll(part); err != nil {
		return "", fmt.Errorf("clear what an interrupted run left: %w", err)
	}
	if err := os.Mkdir(part, 0o700); err != nil {
		return "", err
	}
	if err := fill(part); err != nil {
		return "", errors.Join(err, os.RemoveAll(part))
	}
	if err := os.Rename(part, final); err != nil {
		return "", err
	}
	prune(cache)
	return final, nil
}

func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the lab cache: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("wait for another process that makes %s: %w", path, err)
		}
	}
}

// pollPause is the pause between two looks for a socket that a new process makes.
const pollPause = 10 * time.Millisecond

// pause returns nil after d, or the context's error before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tool runs a program of this machine. An isolated program has a mount namespace of its own,
// so that its mounts end with it. The error has the output of the program.
func tool(ctx context.Context, isolated bool, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if path, err := lookTool(name); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	cmd.WaitDelay = 5 * time.Second
	if isolated {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", name, err, tail(stderr.String()+stdout.String(), 15))
	}
	return stdout.Bytes(), nil
}

// lookTool finds a program, also in folders that a user's PATH often lacks.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

// needTools fails with the packages of all missing programs.
func needTools(packages map[string]string) error {
	var missing []string
	for name, pkg := range packages {
		if _, err := lookTool(name); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "the lab lacks programs of these packages: %s", sortedUnique(missing))
	return errkind.WithHint(err, "apt-get install %s", sortedUnique(missing))
}

// tail returns the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
