package selfservice

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// gatewayProgram is the program of the gateway and of the agent that connects the host. An
// extension may contain it.
const gatewayProgram = "usr/bin/trident-gateway"

// gatewayUnits are the units that run gatewayProgram.
func gatewayUnits() []string { return []string{"trident-gateway.service", "trident-connect.service"} }

// RestartReplaced has systemd restart the units of the gateway whose process runs another
// program than the one in /usr now: the previous version of it, after an upgrade of Trident,
// or the version that was rolled back. The restarted unit lets its running calls end first.
// RestartReplaced does not wait for that. A unit that does not run stays so, and a unit whose
// process runs a program of the administrator's is left alone.
//
// Call it while no operation is unsettled, so that no version on trial is started, and no
// caller loses an upload. It records nothing: the next daemon finds what this one has not
// restarted.
func (s *Service) RestartReplaced(ctx context.Context) error {
	var errs []error
	for _, unit := range gatewayUnits() {
		err := s.restartReplaced(ctx, unit)
		if err != nil {
			err = fmt.Errorf("restart %s in the active version of trident: %w", unit, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Service) restartReplaced(ctx context.Context, unit string) error {
	u, err := s.Systemd.Unit(ctx, unit)
	if errkind.Of(err) == errkind.NotFound && err != nil {
		return nil
	}
	if err != nil || u.Active != "active" || u.MainPID == 0 {
		return err
	}
	exe := filepath.Join("/proc", strconv.FormatUint(uint64(u.MainPID), 10), "exe")
	replaced, err := isReplaced(exe, filepath.Join(s.Root, gatewayProgram))
	if err != nil || !replaced {
		return err
	}
	s.Logger.Info("a unit runs a program that has been replaced: it is restarted", "unit", unit, "pid", u.MainPID)
	return s.touch("restart "+unit, func() error { return s.Systemd.Restart(ctx, unit) })
}

// isReplaced reports whether the process with the link exe in /proc runs a program of the name
// of current that differs from current. It compares the bytes, because each merge of any
// extension gives the files of /usr other device numbers. It returns false if the process has
// ended, and if there is no current.
func isReplaced(exe, current string) (bool, error) {
	name, err := os.Readlink(exe)
	if err != nil || path.Base(strings.TrimSuffix(name, " (deleted)")) != path.Base(current) {
		return false, unlessMissing(err)
	}
	running, err := os.Open(exe)
	if err != nil {
		return false, unlessMissing(err)
	}
	defer running.Close()
	file, err := os.Open(current)
	if err != nil {
		return false, unlessMissing(err)
	}
	defer file.Close()
	before, err := running.Stat()
	if err != nil {
		return false, err
	}
	now, err := file.Stat()
	if err != nil || os.SameFile(before, now) {
		return false, err
	}
	if before.Size() != now.Size() {
		return true, nil
	}
	same, err := haveSameBytes(running, file)
	return !same, err
}

// unlessMissing returns err, and nil for a file or process that does not exist.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// haveSameBytes reports whether two readers of the same number of bytes have the same bytes.
func haveSameBytes(a, b io.Reader) (bool, error) {
	const size = 256 << 10
	x, y := bufio.NewReaderSize(a, size), bufio.NewReaderSize(b, size)
	for {
		left, err := x.Peek(size)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		right, rerr := y.Peek(size)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return false, rerr
		}
		if string(left) != string(right) {
			return false, nil
		}
		if len(left) == 0 {
			return true, nil
		}
		_, _ = x.Discard(len(left))
		_, _ = y.Discard(len(right))
	}
}
