package system

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

const mountinfo = "proc/self/mountinfo"

// A Mount is one mount of this process.
type Mount struct {
	Source, Target, Type, Root string
	Options                    []string
	Major, Minor               uint32
	// Space is nil if it is not known.
	Space        *Space
	Unresponsive bool // the server of the file system did not answer in time
}

// Space is the size of a file system, in bytes and in inodes.
type Space struct{ Size, Free, Available, Files, FilesFree uint64 }

const (
	// maxMounts bounds the mounts of an answer.
	maxMounts = 20_000
	// maxPending bounds the calls that wait for servers which do not answer.
	maxPending = 16
)

// Mounts returns the mounts that this process sees (proc_pid_mountinfo(5)), without the
// secrets in their options. It asks file systems whose server can be away in the background,
// waits for them at most 2 s, and asks none again that has not answered yet.
func (r *Reader) Mounts(ctx context.Context) ([]Mount, error) {
	const doing = "read the mounts"
	text, err := r.read(mountinfo, largeFile)
	if err != nil {
		return nil, failed(doing, err)
	}
	var all []Mount
	var remote []int
	for l := range strings.Lines(text) {
		m, ok := parseMount(l)
		if !ok {
			return nil, malformed(doing, mountinfo, l)
		}
		if len(all) == maxMounts {
			return nil, tooMany(doing, "mounts", strings.Count(text, "\n"), maxMounts)
		}
		all = append(all, m)
	}
	for i := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch {
		case all[i].Type == "autofs": // a question would mount what is behind it
		case isRemote(all[i].Type):
			remote = append(remote, i)
		default:
			all[i].Space = r.space(all[i].Target)
		}
	}
	if len(remote) > 0 {
		r.askServers(ctx, all, remote)
	}
	return all, ctx.Err()
}

// isRemote reports whether a file system may wait for a server or a process.
func isRemote(kind string) bool {
	return strings.HasPrefix(kind, "fuse") ||
		slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "virtiofs"}, kind)
}

// space returns the size of a file system; nil if it has none, or is not accessible.
func (r *Reader) space(target string) *Space {
	var s unix.Statfs_t
	if err := r.statfs(r.path(strings.TrimPrefix(target, "/")), &s); err != nil || s.Blocks == 0 {
		return nil
	}
	unit := uint64(max(s.Frsize, 1)) //nolint:gosec // at least 1
	return &Space{Size: scaled(s.Blocks, unit), Free: scaled(s.Bfree, unit), Available: scaled(s.Bavail, unit), Files: s.Files, FilesFree: s.Ffree}
}

// askServers fills the space of the mounts with the given indexes.
func (r *Reader) askServers(ctx context.Context, all []Mount, remote []int) {
	type answer struct {
		index int
		space *Space
	}
	answers := make(chan answer, len(remote)) // so that a late answer does not block
	ctx, cancel := context.WithTimeout(ctx, r.serverTime)
	defer cancel()
	asked := 0
	for _, i := range remote {
		target := all[i].Target
		all[i].Unresponsive = true
		r.mu.Lock()
		isFree := !r.pending[target] && len(r.pending) < maxPending
		if isFree {
			r.pending[target] = true
		}
		r.mu.Unlock()
		if !isFree {
			continue
		}
		asked++
		go func() {
			space := r.space(target)
			r.mu.Lock()
			delete(r.pending, target)
			r.mu.Unlock()
			answers <- answer{i, space}
		}()
	}
	for range asked {
		select {
		case a := <-answers:
			all[a.index].Space, all[a.index].Unresponsive = a.space, false
		case <-ctx.Done():
			return
		}
	}
}

// parseMount parses a line of mountinfo: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3
// /dev/root rw,errors=continue".
func parseMount(l string) (m Mount, ok bool) {
	head, tail, ok := strings.Cut(strings.TrimSuffix(l, "\n"), " - ")
	fields, super := strings.Split(head, " "), strings.SplitN(tail, " ", 3)
	if !ok || len(fields) < 6 || len(super) < 2 {
		return m, false
	}
	major, minor, ok := strings.Cut(fields[2], ":")
	x, err := strconv.ParseUint(major, 10, 32)
	y, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || errors.Join(err, err2) != nil {
		return m, false
	}
	m = Mount{
		Major: uint32(x), Minor: uint32(y), Root: unescape(fields[3]), Target: unescape(fields[4]),
		Type: unescape(super[0]), Source: withoutPassword(unescape(super[1])),
	}
	options := strings.Split(fields[5], ",")
	if len(super) == 3 {
		options = append(options, strings.Split(super[2], ",")...)
	}
	for _, o := range options {
		if o = withoutSecret(unescape(o)); o != "" && !slices.Contains(m.Options, o) {
			m.Options = append(m.Options, o)
		}
	}
	return m, true
}

// unescape replaces the octal escapes of a name in mountinfo: \040 is a blank.
func unescape(s string) string {
	if !strings.Contains(s, "\\") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// hidden replaces a secret.
const hidden = "…"

// withoutSecret replaces the value of an option whose name says that it is a secret.
func withoutSecret(option string) string {
	name, value, ok := strings.Cut(option, "=")
	if ok && value != "" && slices.Contains([]string{"password", "password2", "pass", "passwd", "secret", "key", "prepath_password"}, strings.ToLower(name)) {
		return name + "=" + hidden
	}
	return option
}

// withoutPassword replaces the password of a source such as //user:password@server/share.
func withoutPassword(source string) string {
	at := strings.LastIndex(source, "@")
	begin := strings.Index(source, "//")
	if begin < 0 || at < begin {
		return source
	}
	user, _, ok := strings.Cut(source[begin+2:at], ":")
	if !ok || strings.Contains(user, "/") {
		return source
	}
	return source[:begin+2] + user + ":" + hidden + source[at:]
}

// tooMany is the error of a host with more entries than an answer may have.
func tooMany(doing, what string, n, most int) error {
	return errkind.Errorf(errkind.TooLarge, "%s: the host has %d %s, more than %d", doing, n, what, most)
}
