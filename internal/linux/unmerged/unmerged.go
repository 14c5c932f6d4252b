// Package unmerged gives access to the tree of an OS without the extensions that
// systemd-sysext and systemd-confext have merged over its /usr and /etc.
//
// A merged extension can add, replace and hide any file there. Files that decide which
// extensions are allowed, such as the certificates that may sign Trident, must not come
// from an extension, so Trident reads them with this package. It omits only the overlays
// that systemd mounts for extensions, not an overlay of the OS itself (composefs).
//
// The package uses the standard library only, because trident-rescue reads the
// version of the base through it.
package unmerged

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Tree is the tree of an OS without merged extensions. It can be read until
// Close.
type Tree struct {
	path  string
	files []*os.File
}

// Path returns the path of the root folder of the tree. If extensions are merged, it is
// in /proc/self/fd, and only this process can open it.
func (t *Tree) Path() string { return t.path }

// Close closes the tree, and ends its mount namespace.
func (t *Tree) Close() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Open returns the tree below root, which is root itself if no extension is merged
// there. Otherwise a new thread of this process makes a private copy of the mount
// namespace and unmounts the extensions in it; the mounts of the host do not change.
// That needs CAP_SYS_ADMIN, without which Open fails with syscall.EPERM.
func Open(root string) (*Tree, error) {
	root, err := filepath.EvalSymlinks(root)
	if err == nil {
		root, err = filepath.Abs(root)
	}
	if err != nil {
		return nil, fmt.Errorf("open the tree below the extensions: %w", err)
	}
	covered, err := anyCovered("/proc/self/mountinfo", root)
	if err != nil {
		return nil, fmt.Errorf("open the tree below the extensions of %s: %w", root, err)
	}
	if !covered {
		return &Tree{path: root}, nil
	}
	var t *Tree
	onOtherThread(func() { t, err = uncover(root) })
	if err != nil {
		return nil, fmt.Errorf("open the tree below the extensions of %s: %w", root, err)
	}
	return t, nil
}

// onOtherThread runs f on a thread that ends afterwards. It never uses the main thread,
// whose namespace /proc shows as that of the process.
func onOtherThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			onOtherThread(f) // on another thread, because this goroutine has locked this one
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// uncover changes the mount namespace of its thread.
func uncover(root string) (_ *Tree, err error) {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("leave the mount namespace of the process: %w", err)
	}
	// First make the copies private: as peers of the host's mounts they would unmount
	// those, too.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range hierarchies {
		if err := unmountExtensions(root, dir); err != nil {
			return nil, err
		}
	}
	t := &Tree{}
	// The namespace exists as long as a descriptor refers to it.
	for _, name := range []string{root, "/proc/thread-self/ns/mnt"} {
		f, err := os.Open(name)
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.files = append(t.files, f)
	}
	t.path = fmt.Sprintf("/proc/self/fd/%d", t.files[0].Fd())
	return t, nil
}

// maxStacked bounds the overlays that are mounted on each other: parallel merges of
// systemd stack a few.
const maxStacked = 64

func unmountExtensions(root, dir string) error {
	const noFollow = 8 // UMOUNT_NOFOLLOW
	for range maxStacked {
		covered, err := isCovered("/proc/thread-self/mountinfo", root, dir)
		if err != nil || !covered {
			return err
		}
		path := filepath.Join(root, dir)
		if err := syscall.Unmount(path, syscall.MNT_DETACH|noFollow); err != nil {
			return fmt.Errorf("unmount the extensions from the copy of %s: %w", path, err)
		}
	}
	return fmt.Errorf("more than %d overlays are mounted on %s", maxStacked, filepath.Join(root, dir))
}

// hierarchies are the folders into which systemd merges extensions, except /opt, which has
// no file that decides about extensions.
var hierarchies = [...]string{"usr", "etc"}

func anyCovered(mountinfo, root string) (bool, error) {
	for _, dir := range hierarchies {
		if covered, err := isCovered(mountinfo, root, dir); covered || err != nil {
			return covered, err
		}
	}
	return false, nil
}

// isCovered reports whether the topmost mount at dir below root is an overlay of merged
// extensions.
func isCovered(mountinfo, root, dir string) (bool, error) {
	path := filepath.Join(root, dir)
	data, err := os.ReadFile(mountinfo)
	if errors.Is(err, fs.ErrNotExist) && !hasMark(path) {
		return false, nil // a scriptlet in the tree of an image, without /proc
	}
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	top, ok := topMount(string(data), path)
	// systemd names its overlays after the class of extensions, and writes a folder
	// into the uppermost layer, which no extension can hide.
	return ok && top.fstype == "overlay" && (top.source == "sysext" || top.source == "confext" || hasMark(path)), nil
}

func hasMark(path string) bool {
	for _, name := range []string{".systemd-sysext", ".systemd-confext"} {
		if info, err := os.Lstat(filepath.Join(path, name)); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct{ id, parent, point, fstype, source string }

// topMount finds the mount at path that no other mount at path covers.
func topMount(mountinfo, path string) (mount, bool) {
	var there []mount
	covered := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		m, ok := parseMount(line)
		if ok && m.point == path {
			there = append(there, m)
			covered[m.parent] = true
		}
	}
	for _, m := range there {
		if !covered[m.id] {
			return m, true
		}
	}
	return mount{}, false
}

// unescape undoes the escapes of mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 2 {
		return mount{}, false
	}
	return mount{id: left[0], parent: left[1], point: unescape.Replace(left[4]), fstype: right[0], source: unescape.Replace(right[1])}, true
}
