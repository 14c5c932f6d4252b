package lab

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unusedFor is how long an unused entry stays in the cache. A changed recipe has another
// name there, so the old entry is never used again.
const unusedFor = 14 * 24 * time.Hour

// lockSuffix ends the name of the lock of an entry. The time of the last write to the lock
// is the time of the last use of the entry.
const lockSuffix = ".lock"

// prune removes entries that have not been used for unusedFor. It ignores failures, which
// cost disk space only. It keeps the locks, because a process may wait for one, and the
// keys, without which the guests of this machine cannot be reached.
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
