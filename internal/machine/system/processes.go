package system

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A ProcessState is the state of the first thread of a process.
type ProcessState int

// The states of processes.
const (
	StateUnknown ProcessState = iota
	StateRunning
	StateSleeping
	StateBlocked
	StateZombie
	StateStopped
	StateTraced
	StateDead
	StateIdle
	StateParked
)

// A Process is one process.
type Process struct {
	PID, PPID int32
	State     ProcessState
	Threads   uint32
	CPU       time.Duration
	// Virtual and Resident are in bytes.
	Virtual, Resident uint64
	Command           string
	Executable        string
	Start             time.Time
	UID               uint32
	IsKernel          bool
}

// Processes calls yield for each process in the order of their IDs, or for those of pids that
// exist. It skips a process that ends meanwhile, and stops at an error of yield.
func (r *Reader) Processes(ctx context.Context, pids []int32, yield func(Process) error) error {
	const doing = "read the processes"
	since, err := r.uptime(doing)
	if err != nil {
		return err
	}
	boot := r.now().Add(-since)
	if len(pids) == 0 {
		if pids, err = r.pids(); err != nil {
			return failed(doing, err)
		}
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := r.process(pid, boot)
		if hasEnded(err) {
			continue
		}
		if err != nil {
			return failed(doing, err)
		}
		if err := yield(p); err != nil {
			return err
		}
	}
	return nil
}

// hasEnded reports whether an error means that the process does not exist any more.
func hasEnded(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// pids returns the IDs of all processes, sorted. It reads the folder in parts: there may be
// four million.
func (r *Reader) pids() ([]int32, error) {
	dir, err := os.Open(r.path("proc"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var pids []int32
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if n, err := strconv.ParseInt(name, 10, 32); err == nil && n > 0 {
				pids = append(pids, int32(n))
			}
		}
		if errors.Is(err, io.EOF) {
			slices.Sort(pids)
			return pids, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *Reader) process(pid int32, boot time.Time) (Process, error) {
	dir := r.path("proc/" + strconv.Itoa(int(pid)))
	text, err := readPath(dir+"/stat", smallFile)
	if err != nil {
		return Process{}, err
	}
	p, start, ok := parseProcess(text)
	if !ok {
		return Process{}, malformed("process "+strconv.Itoa(int(pid)), "stat", text)
	}
	p.Start = boot.Add(start)
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return Process{}, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	p.UID = s.Uid // the kernel gives this folder to the effective user of the process
	if !p.IsKernel {
		var target [unix.PathMax]byte
		if n, err := unix.Readlink(dir+"/exe", target[:]); err == nil {
			p.Executable = string(target[:n])
		}
	}
	return p, nil
}

// The places of fields in /proc/PID/stat, counted from the state, the first behind the name.
const (
	fieldPPID     = 1
	fieldFlags    = 6
	fieldUser     = 11
	fieldSystem   = 12
	fieldThreads  = 17
	fieldStart    = 19
	fieldVirtual  = 20
	fieldResident = 21
)

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

// parseProcess parses the content of /proc/PID/stat (proc_pid_stat(5)). The name in it may
// contain anything, also ")". start is the time from the boot to the start of the process.
func parseProcess(text string) (p Process, start time.Duration, ok bool) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 2 || end < open {
		return p, 0, false
	}
	pid, err := strconv.ParseInt(text[:open-1], 10, 32)
	if err != nil {
		return p, 0, false
	}
	p.PID, p.Command = int32(pid), text[open+1:end]
	var v [fieldResident + 1]uint64
	i := 0
	for word := range strings.FieldsSeq(text[end+1:]) {
		if i == len(v) {
			break
		}
		if i == 0 {
			p.State = stateOf(word)
		} else {
			v[i] = parseNumber(word)
		}
		i++
	}
	if i < len(v) {
		return p, 0, false
	}
	p.PPID = int32(min(v[fieldPPID], 1<<31-1))        //nolint:gosec // at most 2^31-1
	p.Threads = uint32(min(v[fieldThreads], 1<<32-1)) //nolint:gosec // at most 2^32-1
	p.CPU = ofTicks(min(v[fieldUser], 1<<62) + min(v[fieldSystem], 1<<62))
	p.Virtual, p.Resident = v[fieldVirtual], scaled(v[fieldResident], uint64(os.Getpagesize())) //nolint:gosec // more than 0
	p.IsKernel = v[fieldFlags]&kernelThread != 0
	return p, ofTicks(v[fieldStart]), true
}

func stateOf(word string) ProcessState {
	switch word {
	case "R":
		return StateRunning
	case "S":
		return StateSleeping
	case "D":
		return StateBlocked
	case "Z":
		return StateZombie
	case "T":
		return StateStopped
	case "t":
		return StateTraced
	case "X", "x":
		return StateDead
	case "I":
		return StateIdle
	case "P":
		return StateParked
	}
	return StateUnknown
}

// Arguments are the words of the command line of a process, which may be secrets.
type Arguments struct {
	PID       int32
	Words     []string
	Truncated bool // the rest of a long command line is missing
}

// maxArguments is the longest command line of an answer, in bytes.
const maxArguments = 64 << 10

// Arguments calls yield for the command lines of the processes that exist.
func (r *Reader) Arguments(ctx context.Context, pids []int32, yield func(Arguments) error) error {
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, truncated, err := readFirst(r.path("proc/"+strconv.Itoa(int(pid))+"/cmdline"), maxArguments)
		if hasEnded(err) {
			continue
		}
		if err != nil {
			return failed("read the arguments of process "+strconv.Itoa(int(pid)), err)
		}
		a := Arguments{PID: pid, Truncated: truncated}
		if text = strings.TrimSuffix(text, "\x00"); text != "" {
			a.Words = strings.Split(text, "\x00")
		}
		if err := yield(a); err != nil {
			return err
		}
	}
	return nil
}

// readFirst returns at most limit bytes of a file, and whether there are more.
func readFirst(path string, limit int) (text string, more bool, err error) {
	fd, err := open(path)
	if err != nil {
		return "", false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if len(data) > limit {
		return string(data[:limit]), true, err
	}
	return string(data), false, err
}
