package regfile

import (
	"os"
	"syscall"
	"time"
)

// A Stamp identifies one version of a file: two that are equal are of the same version. That
// of a missing file has only the path.
type Stamp struct {
	Path  string
	inode uint64
	size  int64
	// A change of the mode or the owner changes ctime alone.
	mtime, ctime time.Time
}

// StampOf returns the stamp of the file at path as it is now.
func StampOf(path string) Stamp {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{Path: path}
	}
	out := Stamp{Path: path, size: info.Size(), mtime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		out.inode, out.ctime = st.Ino, time.Unix(st.Ctim.Unix())
	}
	return out
}

// HasChanged reports whether the file is no longer of that version.
func (s Stamp) HasChanged() bool { return StampOf(s.Path) != s }
