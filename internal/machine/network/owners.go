package network

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// An Owner is a process that has a socket open.
type Owner struct {
	PID     int32
	Command string
}

// maxOwned bounds the sockets that Owners remembers.
const maxOwned = 1 << 18

// Owners returns one process for each open socket, by its inode: the one with the lowest ID.
// It reads the file descriptors of all processes below proc ("/proc"), and skips those that end
// meanwhile or that this process may not read.
func Owners(ctx context.Context, proc string) (map[uint64]Owner, error) {
	const doing = "find the processes of sockets"
	dir, err := os.Open(proc)
	if err != nil {
		return nil, errkind.Errorf(errkind.Unsupported, "%s: %w", doing, err)
	}
	defer dir.Close()
	owners := map[uint64]Owner{}
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if pid, err := strconv.ParseInt(name, 10, 32); err == nil {
				ownedBy(proc, int32(pid), owners)
			}
			if len(owners) > maxOwned {
				return nil, errkind.Errorf(errkind.TooLarge, "%s: the host has more than %d open sockets", doing, maxOwned)
			}
		}
		if err == io.EOF {
			return owners, nil
		}
		if err != nil {
			return nil, errkind.Errorf(errkind.Internal, "%s: %w", doing, err)
		}
	}
}

// ownedBy adds the sockets of a process.
func ownedBy(proc string, pid int32, owners map[uint64]Owner) {
	folder := filepath.Join(proc, strconv.Itoa(int(pid)))
	dir, err := os.Open(folder + "/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	owner := Owner{PID: pid}
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			target, err := os.Readlink(folder + "/fd/" + name)
			if err != nil {
				continue
			}
			inode, ok := socketInode(target)
			if known, isKnown := owners[inode]; !ok || isKnown && known.PID <= pid {
				continue
			}
			if owner.Command == "" {
				owner.Command = command(folder)
			}
			owners[inode] = owner
		}
		if err != nil || len(names) == 0 || len(owners) > maxOwned {
			return
		}
	}
}

// socketInode returns the inode of a link such as "socket:[12345]".
func socketInode(target string) (uint64, bool) {
	rest, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, false
	}
	rest, ok = strings.CutSuffix(rest, "]")
	inode, err := strconv.ParseUint(rest, 10, 64)
	return inode, ok && err == nil
}

// command returns the name of a process, "?" if it cannot be read.
func command(folder string) string {
	name, err := os.ReadFile(folder + "/comm")
	if err != nil || len(name) == 0 {
		return "?"
	}
	return strings.TrimSuffix(string(name), "\n")
}
