package system

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

const mountTableFile = "proc/self/mountinfo"

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
	all, err := r.mountTable()
	if err != nil {
		return nil, failed(doing, err)
	}
	if len(all) > maxMounts {
		return nil, tooMany(doing, "mounts", len(all), maxMounts)
	}
	var remote []int
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

// mountTable returns the mounts that this process sees, without the secrets in their options.
func (r *Reader) mountTable() ([]Mount, error) {
	text, err := r.read(mountTableFile, largeFile)
	if err != nil {
		return nil, err
	}
	return parseMounts(text)
}

// parseMounts parses a table of mounts. It fails with Unsupported.
func parseMounts(text string) ([]Mount, error) {
	infos, err := mountinfo.GetMountsFromReader(strings.NewReader(text), nil)
	if err != nil { // its text has a line of the table, which can have a password
		return nil, errkind.Errorf(errkind.Unsupported, "unknown form of /%s", mountTableFile)
	}
	var all []Mount
	for _, i := range infos {
		m := Mount{
			Major: uint32(i.Major), Minor: uint32(i.Minor), //nolint:gosec // the kernel prints 12 and 20 bits
			Root: i.Root, Target: i.Mountpoint, Type: i.FSType, Source: withoutPassword(i.Source),
		}
		for _, options := range []string{i.Options, i.VFSOptions} {
			for o := range strings.SplitSeq(options, ",") {
				if o = withoutSecret(unescape(o)); o != "" && !slices.Contains(m.Options, o) {
					m.Options = append(m.Options, o)
				}
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// unescape replaces the octal escapes of an option: \054 is a comma.
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
