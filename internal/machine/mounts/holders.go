package mounts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/trident-project/trident/internal/errkind"
)

// A HolderKind says how a file system is used.
type HolderKind int

// The kinds of holders. Those before Mount are processes.
const (
	WorkingDirectory HolderKind = iota + 1
	RootDirectory
	Program
	OpenFile
	MappedFile
	Mount
	Swap
	LoopDevice
	Overlay
)

// A Holder uses a file system.
type Holder struct {
	Kind    HolderKind
	PID     int    // 0 if it is no process
	Command string // the name of the process
	Path    string // what it uses
}

func (h Holder) String() string {
	process := fmt.Sprintf("process %d (%s)", h.PID, h.Command)
	switch h.Kind {
	case WorkingDirectory:
		return fmt.Sprintf("%s, which works in %s", process, h.Path)
	case RootDirectory:
		return fmt.Sprintf("%s, whose root is %s", process, h.Path)
	case Program:
		return fmt.Sprintf("%s, which runs %s", process, h.Path)
	case OpenFile:
		return fmt.Sprintf("%s, which has %s open", process, h.Path)
	case MappedFile:
		return fmt.Sprintf("%s, which has %s mapped", process, h.Path)
	case Mount:
		return "the mount of " + h.Path
	case Swap:
		return "swap on " + h.Path
	case LoopDevice:
		return "the loop device " + h.Path
	case Overlay:
		return "the overlay on " + h.Path
	}
	return h.Path
}

// maxHolders bounds the result of Holders.
const maxHolders = 1000

// Holders returns who uses the file system that is mounted at a place; isCut reports that
// there are more. It asks no file system, so a server that does not answer cannot block it: the
// kernel itself says which mount an open file belongs to (proc_pid_fdinfo(5)), and the paths
// of the other files are compared as texts.
func (s *Service) Holders(where string) (_ []Holder, isCut bool, err error) {
	m, err := s.mounted(where)
	switch {
	case err != nil:
		return nil, false, err
	case m == nil:
		return nil, false, errkind.Errorf(errkind.NotFound, "nothing is mounted at %s", where)
	}
	return s.holders(m)
}

func (s *Service) holders(m *mountinfo.Info) (out []Holder, isCut bool, err error) {
	all, err := s.table()
	if err != nil {
		return nil, false, err
	}
	out = append(out, inKernel(all, m)...)
	out = append(out, s.swaps(m)...)
	out = append(out, s.loops(m)...)
	folders, err := os.ReadDir(s.path("/proc"))
	if err != nil {
		return nil, false, fmt.Errorf("read the processes: %w", err)
	}
	var pids []int
	for _, f := range folders {
		if pid, err := strconv.Atoi(f.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		if len(out) > maxHolders {
			return out[:maxHolders], true, nil
		}
		out = append(out, s.process(m, pid)...)
	}
	if len(out) > maxHolders {
		return out[:maxHolders], true, nil
	}
	return out, false, nil
}

// inKernel returns the mounts and overlays that use a mount.
func inKernel(all []*mountinfo.Info, m *mountinfo.Info) []Holder {
	var out []Holder
	for _, other := range all {
		if other.Parent == m.ID && other.ID != m.ID {
			out = append(out, Holder{Kind: Mount, Path: other.Mountpoint})
		}
		if other.FSType != "overlay" {
			continue
		}
		for o := range strings.SplitSeq(other.VFSOptions, ",") {
			name, value, _ := strings.Cut(o, "=")
			if strings.HasSuffix(name, "dir") && slices.ContainsFunc(strings.Split(value, ":"), func(layer string) bool { return below(layer, m.Mountpoint) }) {
				out = append(out, Holder{Kind: Overlay, Path: other.Mountpoint})
				break
			}
		}
	}
	return out
}

func (s *Service) swaps(m *mountinfo.Info) []Holder {
	data, err := os.ReadFile(s.path("/proc/swaps"))
	if err != nil {
		return nil
	}
	var out []Holder
	for line := range strings.Lines(string(data)) {
		if file, _, _ := strings.Cut(line, " "); below(file, m.Mountpoint) && strings.HasPrefix(file, "/") {
			out = append(out, Holder{Kind: Swap, Path: file})
		}
	}
	return out
}

func (s *Service) loops(m *mountinfo.Info) []Holder {
	files, err := filepath.Glob(s.path("/sys/block/loop*/loop/backing_file"))
	if err != nil {
		return nil
	}
	var out []Holder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if file := strings.TrimSpace(string(data)); err == nil && below(file, m.Mountpoint) {
			out = append(out, Holder{Kind: LoopDevice, Path: "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(f))) + " with " + file})
		}
	}
	return out
}

// process returns what a process uses. A process that ends meanwhile uses nothing. The paths of
// one in another mount namespace are not this host's, and it holds mounts of its own there.
func (s *Service) process(m *mountinfo.Info, pid int) []Holder {
	folder := s.path(filepath.Join("/proc", strconv.Itoa(pid)))
	var out []Holder
	command := ""
	add := func(kind HolderKind, path string) {
		if command == "" {
			name, _ := os.ReadFile(filepath.Join(folder, "comm"))
			command = strings.TrimSpace(string(name))
		}
		h := Holder{kind, pid, command, strings.TrimSuffix(path, " (deleted)")}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	if s.isHere(folder) {
		for _, l := range []struct {
			kind HolderKind
			name string
		}{{WorkingDirectory, "cwd"}, {RootDirectory, "root"}, {Program, "exe"}} {
			if to, err := os.Readlink(filepath.Join(folder, l.name)); err == nil && below(to, m.Mountpoint) {
				add(l.kind, to)
			}
		}
		for _, path := range mapped(folder) {
			if below(path, m.Mountpoint) {
				add(MappedFile, path)
			}
		}
	}
	infos, err := os.ReadDir(filepath.Join(folder, "fdinfo"))
	if err != nil {
		return out
	}
	for _, f := range infos {
		if mountOf(filepath.Join(folder, "fdinfo", f.Name())) == m.ID {
			to, _ := os.Readlink(filepath.Join(folder, "fd", f.Name()))
			add(OpenFile, to)
		}
	}
	return out
}

// isHere reports whether a process is in the mount namespace of this one.
func (s *Service) isHere(folder string) bool {
	ours, err := os.Readlink(s.path("/proc/self/ns/mnt"))
	theirs, terr := os.Readlink(filepath.Join(folder, "ns/mnt"))
	return errors.Join(err, terr) == nil && ours == theirs
}

// maxMaps bounds what is read of the memory map of one process, in bytes.
const maxMaps = 8 << 20

// mapped returns the files in the memory map of a process (proc_pid_maps(5)), each once.
func mapped(folder string) []string {
	f, err := os.Open(filepath.Join(folder, "maps"))
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var out []string
	lines, read := bufio.NewScanner(f), 0
	for lines.Scan() && read < maxMaps {
		read += len(lines.Bytes())
		// address perms offset device inode, and then the path.
		if at := bytes.IndexByte(lines.Bytes(), '/'); at > 0 {
			path := string(lines.Bytes()[at:])
			if len(out) == 0 || out[len(out)-1] != path {
				out = append(out, path)
			}
		}
	}
	return out
}

// mountOf returns the mount of an open file, 0 if that is not known.
func mountOf(fdinfo string) int {
	data, err := os.ReadFile(fdinfo)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, _ := strconv.Atoi(strings.TrimSpace(value))
			return id
		}
	}
	return 0
}
