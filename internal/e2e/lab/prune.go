package lab

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unusedFor is how long what nobody asked for stays in the cache. A changed recipe
// has another name there, and nobody asks for the old one again.
const unusedFor = 14 * 24 * time.Hour

// lockSuffix makes the name of a lock of an entry's name. When the lock was last
// written to says when the entry was last asked for.
const lockSuffix = ".lock"

// prune removes entries that were not asked for lately. It is no error when one
// cannot be removed: that costs no more than room. The locks stay, as somebody may
// wait for one; and so do the keys, without which no image of this machine can be
// reached.
func prune(cache string) {
	locks, err := filepath.Glob(filepath.Join(cache, "*"+lockSuffix))
	if err != nil {
		return // the pattern is right
	}
	for _, lock := range locks {
		if entry := strings.TrimSuffix(lock, lockSuffix); filepath.Base(entry) != keysName {
			pruneEntry(entry, lock)
		}
	}
}

func pruneEntry(entry, lock string) {
	f, err := os.OpenFile(lock, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return // it is being made, or about to be used
	}
	info, err := f.Stat() // with the lock held, so that nobody has asked since
	if err == nil && time.Since(info.ModTime()) > unusedFor {
		_ = os.RemoveAll(entry)
		_ = os.RemoveAll(entry + partSuffix)
	}
}
