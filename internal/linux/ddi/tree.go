package ddi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// tree is the usr and opt of a folder in the form for an image: root owns every file,
// and all files have the same time. It has the names and kinds of files; Open reads
// their content.
type tree struct {
	dir   string
	root  *os.Root
	files map[string]*node
}

type node struct {
	name     string
	mode     fs.FileMode
	size     int64
	mtime    int64
	target   string
	children []fs.DirEntry // in the order of their names
	folders  int           // among the children
}

// scanTree reads the names and kinds of all files below dir. It fails if an image cannot
// have one of the files, and names the first. The caller closes the tree.
func scanTree(dir string, epoch time.Time) (_ *tree, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	t := &tree{dir: dir, root: root, files: map[string]*node{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	top := &node{name: ".", mode: fs.ModeDir | 0o755, mtime: epoch.Unix()}
	t.files["."] = top
	for _, name := range []string{"opt", "usr"} {
		switch info, err := root.Lstat(name); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("read tree: %w", err)
		case !info.IsDir():
			return nil, errkind.Errorf(errkind.Invalid, "read tree: %s is not a folder", filepath.Join(dir, name))
		}
		walk := func(p string, d fs.DirEntry, err error) error { return t.add(p, d, epoch, err) }
		if err := fs.WalkDir(root.FS(), name, walk); err != nil {
			return nil, fmt.Errorf("read tree: %w", err)
		}
	}
	if len(top.children) == 0 {
		return nil, errkind.Errorf(errkind.Invalid, "read tree: %s has neither usr nor opt", dir)
	}
	return t, nil
}

func (t *tree) add(p string, d fs.DirEntry, epoch time.Time, err error) error {
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	n := &node{name: path.Base(p), mode: info.Mode(), mtime: epoch.Unix()}
	switch info.Mode().Type() {
	case 0:
		n.size = info.Size()
	case fs.ModeDir:
	case fs.ModeSymlink:
		n.mode = fs.ModeSymlink | 0o777
		if n.target, err = t.root.Readlink(p); err != nil {
			return err
		}
		n.size = int64(len(n.target))
		if err := checkTarget(p, n.target); err != nil {
			return err
		}
	default:
		return errkind.Errorf(errkind.Invalid, "%s is a %s: an image can have only files, folders and symbolic links", p, kindOf(info.Mode()))
	}
	if special := info.Mode() & (fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky); special != 0 {
		return errkind.Errorf(errkind.Invalid, "%s has special permissions (%s)", p, special)
	}
	if _, err := unix.Lgetxattr(filepath.Join(t.dir, p), "security.capability", nil); err == nil {
		return errkind.Errorf(errkind.Invalid, "%s has file capabilities", p)
	}
	t.files[p] = n
	parent := t.files[path.Dir(p)]
	parent.children = append(parent.children, fs.FileInfoToDirEntry(n))
	if n.IsDir() {
		parent.folders++
	}
	return nil
}

// checkTarget fails for a link whose target depends on where the image is mounted. It
// allows one absolute target, that of a masked unit.
func checkTarget(p, target string) error {
	switch {
	case target == "/dev/null":
		return nil
	case path.IsAbs(target):
		err := errkind.Errorf(errkind.Invalid, "%s is a link to the absolute path %s", p, target)
		return errkind.WithHint(err, "make the link relative: ln -sr")
	case strings.HasPrefix(path.Join(path.Dir(p), target)+"/", "../"):
		return errkind.Errorf(errkind.Invalid, "%s is a link to %s, which leaves the tree", p, target)
	}
	return nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeDevice != 0:
		return "device node"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "special file"
}

func (t *tree) Close() error { return t.root.Close() }

// The methods that make tree a file system to copy from.

func (t *tree) Stat(name string) (fs.FileInfo, error) {
	if n, ok := t.files[name]; ok {
		return n, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.Stat(name)
	if err != nil {
		return nil, err
	}
	return n.(*node).children, nil
}

func (t *tree) ReadLink(name string) (string, error) {
	n, err := t.Stat(name)
	if err != nil {
		return "", err
	}
	return n.(*node).target, nil
}

// Open returns a file that its first Read opens, because the copier opens every file of
// the tree before it reads one.
func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.Stat(name)
	if err != nil {
		return nil, err
	}
	return &lazyFile{tree: t, path: name, node: n.(*node)}, nil
}

type lazyFile struct {
	*node
	tree *tree
	path string
	f    *os.File
	read int64
}

func (l *lazyFile) Stat() (fs.FileInfo, error) { return l.node, nil }

// Read reads the file, and closes it at its end, because not every copier closes it.
func (l *lazyFile) Read(p []byte) (n int, err error) {
	if l.read == l.size {
		if err := l.Close(); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	if l.f == nil {
		if l.f, err = l.tree.root.Open(l.path); err != nil {
			return 0, err
		}
	}
	n, err = l.f.Read(p)
	if l.read += int64(n); l.read > l.size || errors.Is(err, io.EOF) {
		return n, errkind.Errorf(errkind.Precondition, "read %s: the file changed during the read", l.path)
	}
	return n, err
}

func (l *lazyFile) Close() error {
	if l.f == nil {
		return nil
	}
	defer func() { l.f = nil }()
	return l.f.Close()
}

// The methods that make node a fs.FileInfo.

func (n *node) Name() string       { return n.name }
func (n *node) Size() int64        { return n.size }
func (n *node) Mode() fs.FileMode  { return n.mode }
func (n *node) ModTime() time.Time { return time.Unix(n.mtime, 0).UTC() }
func (n *node) IsDir() bool        { return n.mode.IsDir() }

// Sys has the owner and the time for the erofs writer.
func (n *node) Sys() any {
	links := 1
	if n.IsDir() {
		links = 2 + n.folders
	}
	return &erofs.Stat{Mode: n.mode, Size: n.size, Mtime: uint64(n.mtime), Nlink: links}
}

// copyTo copies the tree into the folder dir, which must not exist yet.
func (t *tree) copyTo(ctx context.Context, dir string) error {
	var done []string
	err := fs.WalkDir(t, ".", func(p string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
		n, to := t.files[p], filepath.Join(dir, p)
		done = append(done, to)
		switch n.mode.Type() {
		case fs.ModeDir:
			return errors.Join(os.Mkdir(to, 0o700), os.Chmod(to, n.mode.Perm()|0o700))
		case fs.ModeSymlink:
			return os.Symlink(n.target, to)
		}
		return t.copyFile(p, to, n.mode.Perm())
	})
	if err != nil {
		return err
	}
	at := unix.NsecToTimespec(t.files["."].ModTime().UnixNano())
	for _, p := range slices.Backward(done) { // a folder after its files
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set time of %s: %w", p, err)
		}
	}
	return nil
}

func (t *tree) copyFile(p, to string, perm fs.FileMode) error {
	in, err := t.Open(p)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(perm), out.Close(), in.Close())
}
