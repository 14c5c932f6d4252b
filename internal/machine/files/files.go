// Package files shows files of a host to callers who may be on another machine, below trees
// that the owner of the host allows.
//
// The kernel resolves each path from the folder of its tree (openat2(2), RESOLVE_BENEATH), so
// no link and no change of a link during the call leads out of the tree. A file is
// found without being opened (O_PATH), and opened only if it is a regular file or a folder:
// to open a FIFO waits for its writer, and to open a device may act on it.
//
// The default trees have what the owner of a host needs to find a fault: settings, the
// installed system, boot files and logs. They do not have data of users and programs (/home,
// /root, /srv, most of /var, /tmp), nor /proc, where command lines and environments are.
package files

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// ConfFile lists the trees of a host, one absolute path in a line; # begins a comment. If it
// does not exist the trees are those of DefaultTrees. A file without a path allows no tree.
const ConfFile = "etc/trident/files.conf"

const (
	maxConf  = 64 << 10
	maxTrees = 64
	maxPath  = 4095 // PATH_MAX without its NUL
)

// DefaultTrees returns the trees of a host without a ConfFile.
func DefaultTrees() []string {
	return []string{"/boot", "/efi", "/etc", "/run/log", "/usr", "/var/log"}
}

// Service shows files of the host below the folder Root, "/" on a host.
type Service struct{ Root string }

// Info describes a file.
type Info struct {
	Path       string
	Mode       fs.FileMode
	Size, Used int64 // bytes: as the file system reports, and on the disk
	UID, GID   uint32
	Modified   time.Time
	Target     string // of a link
	Err        error  // why the file could not be examined; then only Path is set
}

// A node is a file that is found and not opened.
type node struct {
	fd   int    // opened with O_PATH
	path string // as the caller names it
	real string // without links, as the host names it
	st   unix.Stat_t
	lock error // why nobody may read the content, or nil
}

func (n *node) close() { _ = unix.Close(n.fd) } // opened with O_PATH: nothing to write

func (n *node) isFolder() bool  { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFREG }

func (n *node) info() Info {
	i := Info{
		Path: n.path, Mode: modeOf(n.st.Mode), Size: n.st.Size, Used: n.st.Blocks * 512, // st_blocks counts 512 bytes (stat(3type))
		UID: n.st.Uid, GID: n.st.Gid, Modified: time.Unix(n.st.Mtim.Unix()),
	}
	if i.Mode&fs.ModeSymlink != 0 {
		target := make([]byte, unix.PathMax)
		if size, err := unix.Readlinkat(n.fd, "", target); err == nil {
			i.Target = string(target[:size])
		}
	}
	return i
}

func modeOf(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, is := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= is
		}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	default:
		m |= fs.ModeIrregular
	}
	return m
}

// Trees returns the allowed trees, sorted. The error of a ConfFile with a fault is of kind
// Precondition.
func (s *Service) Trees() ([]string, error) {
	text, err := inroot.FS(s.Root).ReadFile(ConfFile, maxConf)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultTrees(), nil
	}
	if err == nil {
		var trees []string
		if trees, err = parseTrees(string(text)); err == nil {
			return trees, nil
		}
	}
	return nil, errkind.Errorf(errkind.Precondition, "read the allowed trees from /%s: %w", ConfFile, err)
}

func parseTrees(text string) ([]string, error) {
	trees := []string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		clean, err := checkPath(line)
		top, _, _ := strings.Cut(strings.TrimPrefix(clean, "/"), "/")
		switch {
		case err != nil:
			return nil, errkind.Errorf(errkind.Invalid, "line %d: %w", number, err)
		case slices.Contains([]string{"", "proc", "dev"}, top):
			return nil, errkind.Errorf(errkind.Invalid, "line %d: %s cannot be allowed: it has secrets and devices", number, clean)
		}
		if trees = append(trees, clean); len(trees) > maxTrees {
			return nil, errkind.Errorf(errkind.TooLarge, "there are more than %d trees", maxTrees)
		}
	}
	slices.Sort(trees)
	return slices.Compact(trees), nil
}

// checkPath returns a path without empty and "." parts.
func checkPath(name string) (string, error) {
	switch {
	case !strings.HasPrefix(name, "/"):
		return "", errkind.Errorf(errkind.Invalid, "%.64q is not an absolute path", name)
	case len(name) > maxPath:
		return "", errkind.Errorf(errkind.Invalid, "the path has %d bytes, %d are the most", len(name), maxPath)
	case strings.Contains(name, "\x00"):
		return "", errkind.Errorf(errkind.Invalid, "the path %.64q has a NUL byte", name)
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", errkind.Errorf(errkind.Invalid, `the path %.256q has ".."`, name)
	}
	return path.Clean(name), nil
}

// treeOf returns the innermost of trees that has the path, and the path below it.
func treeOf(name string, trees []string) (tree, below string, ok bool) {
	for _, t := range trees {
		if rest, has := strings.CutPrefix(name, t); has && (rest == "" || rest[0] == '/') && len(t) > len(tree) {
			tree, below, ok = t, strings.TrimPrefix(rest, "/"), true
		}
	}
	if below == "" {
		below = "."
	}
	return tree, below, ok
}

// find finds a file. It does not follow a link in the last part if keepLink is set.
func (s *Service) find(name string, keepLink bool) (*node, *vault, error) {
	clean, err := checkPath(name)
	if err != nil {
		return nil, nil, err
	}
	trees, err := s.Trees()
	if err != nil {
		return nil, nil, err
	}
	tree, below, ok := treeOf(clean, trees)
	if !ok {
		return nil, nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "%s is not below a tree that may be read", clean),
			"the trees are %s; the owner of the host lists others in /%s", strings.Join(trees, ", "), ConfFile)
	}
	root, err := openAt(unix.AT_FDCWD, s.Root, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: s.Root, Err: err}
	}
	defer unix.Close(root)
	v, err := newVault(root)
	if err != nil {
		return nil, nil, err
	}
	top, err := openAt(root, tree[1:], unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, nil, explain(tree, tree, err)
	}
	defer unix.Close(top)
	flags := uint64(0)
	if keepLink {
		flags = unix.O_NOFOLLOW
	}
	fd, err := openAt(top, below, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, nil, explain(clean, tree, err)
	}
	n, err := v.examine(fd, clean)
	if err != nil {
		return nil, nil, err
	}
	return n, v, nil
}

// explain returns the error of a path that could not be resolved, with a kind.
func explain(name, tree string, err error) error {
	switch {
	case errors.Is(err, unix.EXDEV):
		return errkind.Errorf(errkind.Denied, "%s: a symbolic link leads out of %s", name, tree)
	case errors.Is(err, fs.ErrNotExist):
		return errkind.Errorf(errkind.NotFound, "%s does not exist", name)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return errkind.Errorf(errkind.Invalid, "find %s: %w", name, err)
	}
	return &fs.PathError{Op: "find", Path: name, Err: err}
}

// openAt finds a file below a folder, without opening it.
func openAt(dir int, name string, flags, resolve uint64) (int, error) {
	return openat2(dir, name, &unix.OpenHow{Flags: flags | unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
}

func openat2(dir int, name string, how *unix.OpenHow) (int, error) {
	for range 100 { // EAGAIN: a concurrent rename elsewhere (openat2(2))
		fd, err := unix.Openat2(dir, name, how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// realPath returns the path of an open file, as the kernel knows it now.
func realPath(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	if err != nil {
		return "", &fs.PathError{Op: "find", Path: "/proc/self/fd", Err: err}
	}
	return string(buf[:n]), nil
}
