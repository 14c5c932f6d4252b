package regfile

import (
	"os"
	"syscall"
)

// State is the identity, the size and the times of a file. If two States of a file are equal,
// nobody has written to the file in between; the kernel sets the time of a change, and a
// program cannot set it back.
type State struct {
	device, inode    uint64
	Size             int64
	modified, change syscall.Timespec
}

// StateOf returns the present state of an open file.
func StateOf(f *os.File) (State, error) {
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return State{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}
