package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A round is one operation.
type round struct {
	took   time.Duration
	events int   // of the operation
	memory int64 // most that was resident of the daemon, in bytes
	seen
}

// run has a new daemon run the operation once, with so many watchers.
func run(watchers, blocks, line int) (r round, err error) {
	dir, err := inMemory()
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	daemon := exec.Command(self, "-role", "serve", "-socket", socket, "-blocks", strconv.Itoa(blocks), "-line", strconv.Itoa(line))
	daemon.Stderr = os.Stderr
	in, err := daemon.StdinPipe()
	if err != nil {
		return r, err
	}
	out, err := daemon.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := daemon.Start(); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, in.Close(), daemon.Wait()) }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return r, errors.New("the daemon said nothing")
	}
	end, err := watched(self, socket, lines.Text(), watchers)
	if err != nil {
		return r, err
	}
	if _, err := fmt.Fprintln(in, "go"); err != nil {
		return r, err
	}
	if !lines.Scan() {
		return r, errors.Join(errors.New("the daemon did not say how it went"), end(&r.seen))
	}
	if _, err := fmt.Sscanf(lines.Text(), "%d %d", (*int64)(&r.took), &r.events); err != nil {
		return r, err
	}
	if r.memory, err = mostResident(daemon.Process.Pid); err != nil {
		return r, err
	}
	return r, end(&r.seen)
}

// watched starts watchers, and returns when all of them have a first event; end
// waits for them and tells what they saw.
func watched(self, socket, id string, watchers int) (end func(*seen) error, err error) {
	if watchers == 0 {
		return func(*seen) error { return nil }, nil
	}
	cmd := exec.Command(self, "-role", "watch", "-socket", socket, "-id", id, "-watchers", strconv.Itoa(watchers))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, errors.Join(errors.New("the watchers do not watch"), cmd.Wait())
	}
	return func(s *seen) error {
		if !lines.Scan() {
			return errors.Join(errors.New("the watchers saw nothing"), cmd.Wait())
		}
		return errors.Join(json.Unmarshal(lines.Bytes(), s), cmd.Wait())
	}, nil
}

// mostResident reads VmHWM (proc_pid_status(5)).
func mostResident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM of process %d", pid)
}
