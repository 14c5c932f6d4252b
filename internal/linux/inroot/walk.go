package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of a walk.
const (
	maxLinks = 40  // as in the kernel (path_resolution(7))
	maxDepth = 256 // open folders
)

// An UnsafeError says that a walk refused a step from a folder or link that a user other
// than the superuser controls to an entry of another owner, because that user could have
// redirected the path. systemd-tmpfiles calls it an unsafe path transition.
type UnsafeError struct {
	From     string // the folder or the link, as the OS in the tree names it
	FromUID  uint32
	To       string
	ToUID    uint32
	writable bool // users other than the owner of From may write to it
}

func (e *UnsafeError) Error() string {
	if e.writable {
		return fmt.Sprintf("%s belongs to user ID %d and other users may write to it: they could have put %s, which belongs to user ID %d, in its place",
			e.From, e.FromUID, e.To, e.ToUID)
	}
	return fmt.Sprintf("%s belongs to user ID %d, and %s, to which it leads, to user ID %d: user ID %[2]d could have made it lead there",
		e.From, e.FromUID, e.To, e.ToUID)
}

// A DanglingError says that the target of a link on the path does not exist.
type DanglingError struct{ Link string }

func (e *DanglingError) Error() string { return e.Link + " is a link to nowhere" }

// A NotFolderError says that a file on the path is not a folder.
type NotFolderError struct{ Path string }

func (e *NotFolderError) Error() string { return e.Path + " is not a folder" }

// superuser is root, or the owner of the root folder of a tree, because that user can
// replace the whole tree.
type superuser struct {
	uid, gid  uint32
	withGroup bool // gid may write to the root folder
}

func superuserOf(root *unix.Stat_t) superuser {
	return superuser{root.Uid, root.Gid, root.Mode&unix.S_IWGRP != 0}
}

func (s superuser) is(uid uint32) bool { return uid == 0 || uid == s.uid }

// isShared reports whether users other than the owner of a folder may write to it.
func (s superuser) isShared(folder *unix.Stat_t) bool {
	byGroup := folder.Mode&unix.S_IWGRP != 0 && folder.Gid != 0 && (folder.Gid != s.gid || !s.withGroup)
	return byGroup || folder.Mode&unix.S_IWOTH != 0
}

// A thing is a folder or a link that a walk has reached.
type thing struct {
	path string // as the OS in the tree names it
	st   unix.Stat_t
}

// check fails with an [UnsafeError] if the step from from to to is not safe. A sticky folder
// does not count as shared: only the owners of the folder and of an entry can replace the
// entry.
func (s superuser) check(from, to thing) error {
	owned := !s.is(from.st.Uid)
	shared := isDir(&from.st) && s.isShared(&from.st) && from.st.Mode&unix.S_ISVTX == 0
	if owned && from.st.Uid == to.st.Uid || !owned && (!shared || !s.is(to.st.Uid)) {
		return nil
	}
	err := &UnsafeError{From: from.path, FromUID: from.st.Uid, To: to.path, ToUID: to.st.Uid, writable: !owned}
	return errkind.WithHint(errkind.With(errkind.Precondition, err),
		"Name a path of which all folders and links belong to root, or all from the first one of a user on to that user.")
}

func isDir(st *unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isLink(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFLNK }

// A step is one component of a path.
type step struct {
	name string
	link string // the link whose target has the name; "" for a name of the caller's path
}

func steps(text, link string) []step {
	var out []step
	for name := range strings.SplitSeq(text, "/") {
		if name != "" && name != "." {
			out = append(out, step{name, link})
		}
	}
	return out
}

// A walk keeps all folders from the root to its present folder open, so that .. is the
// folder that it came from, also if another process moves folders.
type walk struct {
	super superuser
	held  []held
	from  thing // the start of the next step: the last folder, or a link in it
	links int
	// perm is the mode of the missing folders that the walk makes; 0: it makes none.
	perm fs.FileMode
}

type held struct {
	fd int
	thing
}

func (r FS) begin() (*walk, error) {
	fd, err := unix.Open(string(r), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: string(r), Err: err}
	}
	root := thing{path: "/"}
	if err := unix.Fstat(fd, &root.st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: string(r), Err: err}, unix.Close(fd))
	}
	return &walk{super: superuserOf(&root.st), held: []held{{fd, root}}, from: root}, nil
}

func (w *walk) end() {
	for _, h := range w.held {
		_ = unix.Close(h.fd) // opened with O_PATH: nothing to write
	}
}

func (w *walk) top() held { return w.held[len(w.held)-1] }

// enter makes an open folder the present one. The walk then owns fd.
func (w *walk) enter(fd int, to thing) error {
	if err := w.super.check(w.from, to); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if len(w.held) >= maxDepth {
		return errors.Join(&fs.PathError{Op: "open", Path: to.path, Err: unix.ENAMETOOLONG}, unix.Close(fd))
	}
	w.held, w.from = append(w.held, held{fd, to}), to
	return nil
}

// up makes the parent of the present folder or, with all, the root the present one. The
// parent of the root is the root.
func (w *walk) up(all bool) error {
	keep := max(1, len(w.held)-1)
	if all {
		keep = 1
	}
	to := w.held[keep-1].thing
	if err := w.super.check(w.from, to); err != nil {
		return err
	}
	for _, h := range w.held[keep:] {
		_ = unix.Close(h.fd)
	}
	w.held, w.from = w.held[:keep], to
	return nil
}

// run takes the steps in order. At a name that does not exist it stops and returns this
// step and the later ones, all of the caller's path; for a name of a link's target it fails.
// With toFile the last step may be a file that is not a folder; run then returns this step.
func (w *walk) run(todo []step, toFile bool) ([]step, error) {
	for len(todo) > 0 {
		next, rest := todo[0], todo[1:]
		if next.name == ".." {
			if err := w.up(false); err != nil {
				return nil, err
			}
			todo = rest
			continue
		}
		fd, to, err := w.open(next.name)
		if errors.Is(err, unix.ENOENT) && w.perm != 0 {
			if err = w.mkdir(next.name); err == nil {
				fd, to, err = w.open(next.name)
			}
		}
		switch {
		case errors.Is(err, unix.ENOENT) && next.link != "":
			return nil, errkind.With(errkind.Precondition, &DanglingError{next.link})
		case errors.Is(err, unix.ENOENT):
			return todo, nil
		case err != nil:
			return nil, err
		case isDir(&to.st):
			err, todo = w.enter(fd, to), rest
		case isLink(&to.st):
			todo, err = w.follow(fd, to, rest)
		case toFile && len(rest) == 0:
			return todo, errors.Join(w.super.check(w.from, to), unix.Close(fd))
		default:
			err = errors.Join(errkind.With(errkind.Precondition, &NotFolderError{to.path}), unix.Close(fd))
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// open opens an entry of the present folder with O_PATH, without an effect on it.
func (w *walk) open(name string) (int, thing, error) {
	to := thing{path: path.Join(w.top().path, name)}
	fd, err := unix.Openat(w.top().fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, to, &fs.PathError{Op: "open", Path: to.path, Err: err}
	}
	if err := unix.Fstat(fd, &to.st); err != nil {
		return -1, to, errors.Join(&fs.PathError{Op: "stat", Path: to.path, Err: err}, unix.Close(fd))
	}
	return fd, to, nil
}

func (w *walk) mkdir(name string) error {
	above, err := w.dir()
	if err != nil {
		return err
	}
	made, err := above.Mkdir(name, w.perm)
	if err == nil {
		err = made.Close()
	}
	return errors.Join(err, above.Close())
}

// follow returns the steps of the target of an open link, then rest. It closes fd.
func (w *walk) follow(fd int, link thing, rest []step) ([]step, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, &fs.PathError{Op: "readlink", Path: link.path, Err: err}
	}
	if err := w.super.check(w.from, link); err != nil {
		return nil, err
	}
	if w.links++; w.links > maxLinks {
		return nil, &fs.PathError{Op: "open", Path: link.path, Err: unix.ELOOP}
	}
	w.from = link
	text := string(target[:n])
	if path.IsAbs(text) {
		if err := w.up(true); err != nil {
			return nil, err
		}
	}
	return append(steps(text, link.path), rest...), nil
}

// dir returns the present folder, opened for use.
func (w *walk) dir() (*Dir, error) {
	return openDir(w.top().fd, ".", w.top().path, w.super)
}

// walk takes the steps from the root, opens the last folder that exists, and returns it with
// the remaining steps (see run).
func (r FS) walk(todo []step, toFile bool, perm fs.FileMode) (*Dir, []step, error) {
	w, err := r.begin()
	if err != nil {
		return nil, nil, err
	}
	defer w.end()
	w.perm = perm
	left, err := w.run(todo, toFile)
	if err != nil {
		return nil, nil, err
	}
	d, err := w.dir()
	return d, left, err
}

// Dir walks to a folder and opens it. It fails with fs.ErrNotExist if there is none.
func (r FS) Dir(name string) (*Dir, error) {
	d, left, err := r.walk(clean(name), false, 0)
	if err == nil && len(left) > 0 {
		err = errors.Join(&fs.PathError{Op: "open", Path: path.Join(d.Path(), left[0].name), Err: unix.ENOENT}, d.Close())
		return nil, err
	}
	return d, err
}

// MakeDir is Dir that also makes missing folders, with mode perm, even in the target of a
// link (see [Dir.Mkdir]).
func (r FS) MakeDir(name string, perm fs.FileMode) (*Dir, error) {
	d, _, err := r.walk(clean(name), false, perm)
	return d, err
}

// Parent walks to the folder of a file and opens it, or else the last existing folder of its
// path; missing are the names of the folders below that one. base is the name of the file,
// which Parent does not follow if it is a link. Parent fails, with errkind.Invalid, if name
// is the root folder.
func (r FS) Parent(name string) (d *Dir, missing []string, base string, err error) {
	all := clean(name)
	if len(all) == 0 {
		return nil, nil, "", errkind.Errorf(errkind.Invalid, "%q does not name a file", name)
	}
	last := len(all) - 1
	d, left, err := r.walk(all[:last], false, 0)
	for _, s := range left {
		missing = append(missing, s.name)
	}
	return d, missing, all[last].name, err
}

// Target walks to the file name, through links, and opens the folder of that file. It fails
// with fs.ErrNotExist or a [DanglingError] if the file does not exist.
func (r FS) Target(name string) (d *Dir, base string, err error) {
	d, left, err := r.walk(clean(name), true, 0)
	if err != nil {
		return nil, "", err
	}
	if len(left) == 1 {
		if _, err = d.Lstat(left[0].name); err == nil {
			return d, left[0].name, nil
		}
	} else if len(left) == 0 {
		err = errkind.Errorf(errkind.Precondition, "%s is not a file, but a folder", d.Path())
	} else {
		err = &fs.PathError{Op: "open", Path: path.Join(d.Path(), left[0].name), Err: unix.ENOENT}
	}
	return nil, "", errors.Join(err, d.Close())
}

func clean(name string) []step { return steps(path.Clean("/"+name), "") }
