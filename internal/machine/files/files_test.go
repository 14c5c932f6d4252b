package files

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree makes a host with files, each with its mode.
func tree(t testing.TB, files map[string]string) (*Service, string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		full := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		if target, isLink := strings.CutPrefix(text, "-> "); isLink {
			must(t, os.Symlink(target, full))
			continue
		}
		must(t, os.WriteFile(full, []byte(text), 0o644))
	}
	return &Service{Root: root}, root
}

func (s *Service) text(ctx context.Context, name string, offset, most int64) (text string, isTruncated bool, err error) {
	var out bytes.Buffer
	isTruncated, err = s.Read(ctx, name, offset, most, func(Info) error { return nil }, func(b []byte) error { out.Write(b); return nil })
	return out.String(), isTruncated, err
}

func TestAFileBelowATreeIsRead(t *testing.T) {
	s, _ := tree(t, map[string]string{"etc/app.conf": "0123456789", "etc/link": "-> app.conf", "etc/d/up": "-> ../app.conf", "etc/empty": ""})
	for _, c := range []struct {
		name         string
		offset, most int64
		want         string
		truncated    bool
	}{
		{"/etc/app.conf", 0, 0, "0123456789", false},
		{"/etc//./app.conf", 0, 10, "0123456789", false},
		{"/etc/app.conf", 0, 4, "0123", true},
		{"/etc/app.conf", 6, 0, "6789", false},
		{"/etc/app.conf", 100, 0, "", false},
		{"/etc/link", 0, 0, "0123456789", false},
		{"/etc/d/up", 0, 0, "0123456789", false},
		{"/etc/empty", 0, 0, "", false},
	} {
		got, truncated, err := s.text(t.Context(), c.name, c.offset, c.most)
		if err != nil || got != c.want || truncated != c.truncated {
			t.Errorf("%s: %q, %t, %v", c.name, got, truncated, err)
		}
	}
}

func TestNoPathLeadsOutOfTheTrees(t *testing.T) {
	s, root := tree(t, map[string]string{
		"etc/app.conf": "x", "srv/data": "secret", "home/u/x": "secret", "etc-other/x": "secret",
		"etc/abs": "-> /srv/data", "etc/rel": "-> ../srv/data", "etc/dir": "-> ../srv", "etc/loop": "-> loop", "etc/self": "-> /proc/self/environ",
	})
	must(t, os.Symlink(root+"/etc/app.conf", root+"/etc/host"))
	for name, kind := range map[string]errkind.Kind{
		"/srv/data": errkind.Denied, "/etc-other/x": errkind.Denied, "/": errkind.Denied, "/proc/self/environ": errkind.Denied, "/dev/zero": errkind.Denied,
		"/etc/abs": errkind.Denied, "/etc/rel": errkind.Denied, "/etc/dir/data": errkind.Denied, "/etc/self": errkind.Denied, "/etc/host": errkind.Denied,
		"/etc/../srv/data": errkind.Invalid, "/etc/..": errkind.Invalid, "etc/app.conf": errkind.Invalid, "": errkind.Invalid, "/etc/a\x00b": errkind.Invalid,
		"/etc/" + strings.Repeat("x/", 3000): errkind.Invalid, "/etc/" + strings.Repeat("x", 300): errkind.Invalid,
		"/etc/loop": errkind.Invalid, "/etc/app.conf/x": errkind.Invalid, "/etc/absent": errkind.NotFound, "/usr/absent": errkind.NotFound,
	} {
		if _, _, err := s.text(t.Context(), name, 0, 0); err == nil || errkind.Of(err) != kind {
			t.Errorf("read %.60q: %v (%s), want %s", name, err, errkind.Of(err), kind)
		}
		if _, err := s.Copy(t.Context(), name, 0, func([]byte) error { return nil }); err == nil || errkind.Of(err) != kind {
			t.Errorf("copy %.60q: %v", name, err)
		}
	}
}

func TestNobodyGetsPasswordsAndKeys(t *testing.T) {
	locked := []string{
		"etc/shadow", "etc/gshadow-", "etc/ssh/ssh_host_ed25519_key", "etc/trident/gateway/server.key", "etc/trident/update.conf", "etc/ssl/private/a/b.pem",
		"etc/pki/tls/private/x", "etc/NetworkManager/system-connections/wifi", "boot/loader/random-seed", "etc/app/tls.key",
	}
	files := map[string]string{"etc/ssh/sshd_config": "open", "usr/share/root.key": "open", "etc/alias": "-> shadow"}
	for _, name := range locked {
		files[name] = "SECRET"
	}
	s, root := tree(t, files)
	must(t, os.Chmod(root+"/etc/app/tls.key", 0o600))
	must(t, os.Link(root+"/etc/shadow", root+"/etc/other-name"))
	for _, name := range append(locked, "etc/alias", "etc/other-name") {
		if _, _, err := s.text(t.Context(), "/"+name, 0, 0); errkind.Of(err) != errkind.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"/etc/ssh/sshd_config", "/usr/share/root.key"} {
		if got, _, err := s.text(t.Context(), name, 0, 0); err != nil || got != "open" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	archive, skipped := copied(t, s, "/etc")
	if strings.Contains(archive, "SECRET") || !strings.Contains(archive, "open") {
		t.Error("the archive has a secret, or not the rest")
	}
	if len(skipped) < 7 || !slices.ContainsFunc(skipped, func(i Info) bool { return i.Path == "/etc/shadow" }) {
		t.Errorf("skipped %v", skipped)
	}
	if _, err := s.List(t.Context(), "/etc/trident", 0, func([]Info) error { return nil }); errkind.Of(err) != errkind.Denied {
		t.Errorf("list: %v", err)
	}
}

func copied(t *testing.T, s *Service, name string) (string, []Info) {
	t.Helper()
	var out bytes.Buffer
	skipped, err := s.Copy(t.Context(), name, 0, func(b []byte) error { out.Write(b); return nil })
	must(t, err)
	return out.String(), skipped
}

// A FIFO without a writer, a socket and a device are refused, and the call returns.
func TestSpecialFilesAreRefusedWithoutBlocking(t *testing.T) {
	s, root := tree(t, map[string]string{"etc/file": "x"})
	must(t, unix.Mkfifo(root+"/etc/fifo", 0o644))
	t.Chdir(root + "/etc")
	l, err := net.Listen("unix", "socket")
	must(t, err)
	defer l.Close()
	for _, name := range []string{"/etc/fifo", "/etc/socket", "/etc"} {
		if _, _, err := s.text(t.Context(), name, 0, 0); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, skipped := copied(t, s, "/etc"); len(skipped) != 2 {
		t.Errorf("skipped %v", skipped)
	}
	// A writer could open the FIFO without waiting if somebody had opened it to read.
	if fd, err := unix.Open(root+"/etc/fifo", unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		_ = unix.Close(fd)
		t.Error("the FIFO was opened")
	}
	fd, err := openAt(unix.AT_FDCWD, "/dev/zero", 0, 0)
	must(t, err)
	zero, err := (&vault{}).examine(fd, "/dev/zero")
	must(t, err)
	defer zero.close()
	if _, err := zero.open(); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "a character device") {
		t.Errorf("a device: %v", err)
	}
}

// Files of the kernel say that they have no bytes, and have some.
func TestFilesOfSizeZeroAreReadToTheirEnd(t *testing.T) {
	fd, err := openAt(unix.AT_FDCWD, "/proc/self/status", 0, 0)
	must(t, err)
	n, err := (&vault{}).examine(fd, "/proc/self/status")
	must(t, err)
	defer n.close()
	f, err := n.open()
	must(t, err)
	defer f.close()
	var text []byte
	for buf := make([]byte, 100); ; {
		size, err := f.readAt(buf, int64(len(text)))
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text = append(text, buf[:size]...)
	}
	if n.st.Size != 0 || !bytes.HasSuffix(text, []byte("\n")) || !bytes.Contains(text, []byte("nonvoluntary_ctxt_switches")) {
		t.Errorf("size %d, %d bytes", n.st.Size, len(text))
	}
	var out bytes.Buffer
	c := &copier{ctx: t.Context(), out: &pieces{most: 1 << 20, send: func([]byte) error { return nil }}, tar: tar.NewWriter(&out)}
	must(t, c.add(n))
	must(t, c.tar.Close())
	r := tar.NewReader(&out)
	h, err := r.Next()
	must(t, err)
	if got, err := io.ReadAll(r); err != nil || h.Size == 0 || !bytes.Contains(got, []byte("Pid:")) {
		t.Errorf("in the archive: %d bytes, %v", h.Size, err)
	}
}

func TestASparseFileOf100GiBIsBounded(t *testing.T) {
	s, root := tree(t, map[string]string{"var/log/small": "x", "var/log/huge": ""})
	if err := os.Truncate(root+"/var/log/huge", 100<<30); err != nil {
		t.Skipf("the file system has no such files: %v", err)
	}
	sent := int64(0)
	isTruncated, err := s.Read(t.Context(), "/var/log/huge", 0, 3<<20, func(Info) error { return nil }, func(b []byte) error { sent += int64(len(b)); return nil })
	if err != nil || !isTruncated || sent != 3<<20 {
		t.Errorf("%d bytes, %t, %v", sent, isTruncated, err)
	}
	if _, err := s.Copy(t.Context(), "/var/log", 0, func([]byte) error { return nil }); errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "/var/log/huge") {
		t.Errorf("copy: %v", err)
	}
	usage, _, err := s.Usage(t.Context(), "/var/log", 0)
	if err != nil || usage[0].Used > 1<<20 || usage[0].Files != 2 {
		t.Errorf("%+v, %v", usage, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Read(ctx, "/var/log/huge", 0, MaxBytes, func(Info) error { return nil }, func([]byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a read that the caller ends: %v", err)
	}
}

func TestBoundsThatCannotBeAreRefused(t *testing.T) {
	s, _ := tree(t, map[string]string{"etc/x": "x"})
	for _, err := range []error{
		second(s.text(t.Context(), "/etc/x", -1, 0)), second(s.text(t.Context(), "/etc/x", 0, -1)), second(s.text(t.Context(), "/etc/x", 0, MaxBytes+1)),
		first(s.List(t.Context(), "/etc", -1, nil)), first(s.List(t.Context(), "/etc", 17, nil)),
		second3(s.Usage(t.Context(), "/etc", 4)),
	} {
		if errkind.Of(err) != errkind.Invalid {
			t.Errorf("got %v", err)
		}
	}
}

func second(_ string, _ bool, err error) error         { return err }
func first(_ bool, err error) error                    { return err }
func second3(_ []FolderUsage, _ bool, err error) error { return err }

func TestAFolderIsListedSortedToItsDepth(t *testing.T) {
	s, root := tree(t, map[string]string{"etc/b": "12345", "etc/a/deep/x": "", "etc/c": "-> /srv/out", "srv/out": ""})
	must(t, os.Chmod(root+"/etc/b", 0o750|os.ModeSetuid))
	list := func(name string, depth int) (paths []string, all []Info) {
		t.Helper()
		_, err := s.List(t.Context(), name, depth, func(found []Info) error { all = append(all, found...); return nil })
		must(t, err)
		for _, i := range all {
			paths = append(paths, i.Path)
		}
		return paths, all
	}
	paths, all := list("/etc", 0)
	if !slices.Equal(paths, []string{"/etc/a", "/etc/b", "/etc/c"}) {
		t.Errorf("%q", paths)
	}
	if b := all[1]; b.Size != 5 || b.Mode != 0o750|os.ModeSetuid || b.UID != uint32(os.Geteuid()) || time.Since(b.Modified) > time.Hour {
		t.Errorf("%+v", b)
	}
	if all[2].Target != "/srv/out" || all[2].Mode&os.ModeSymlink == 0 {
		t.Errorf("%+v", all[2])
	}
	if paths, _ = list("/etc", 3); !slices.Equal(paths, []string{"/etc/a", "/etc/a/deep", "/etc/a/deep/x", "/etc/b", "/etc/c"}) {
		t.Errorf("%q", paths)
	}
	if paths, _ = list("/etc/b", 0); !slices.Equal(paths, []string{"/etc/b"}) {
		t.Errorf("%q", paths)
	}
	if i, err := s.Stat("/etc/c"); err != nil || i.Target != "/srv/out" {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestAnArchiveHasWhatTheFolderHas(t *testing.T) {
	s, root := tree(t, map[string]string{"etc/app/a": strings.Repeat("a", 200_000), "etc/app/d/b": "b", "etc/app/l": "-> d/b", "etc/app/empty": ""})
	must(t, os.Chmod(root+"/etc/app/d/b", 0o640))
	var out bytes.Buffer
	biggest := 0
	skipped, err := s.Copy(t.Context(), "/etc/app", 0, func(b []byte) error { biggest = max(biggest, len(b)); out.Write(b); return nil })
	if err != nil || len(skipped) > 0 || biggest > 256<<10 {
		t.Fatalf("%v, %v, pieces of %d", skipped, err, biggest)
	}
	got := map[string]string{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		if len(text) > 10 {
			text = text[:3]
		}
		got[h.Name] = string(text) + h.Linkname
		if h.Name == "etc/app/d/b" && h.Mode != 0o640 {
			t.Errorf("mode %o", h.Mode)
		}
	}
	want := map[string]string{"etc/app/": "", "etc/app/a": "aaa", "etc/app/d/": "", "etc/app/d/b": "b", "etc/app/l": "d/b", "etc/app/empty": ""}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %q", name, got[name])
		}
	}
	if _, err := s.Copy(t.Context(), "/etc/app", 4096, func([]byte) error { return nil }); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("an archive over its bound: %v", err)
	}
	broken := errors.New("the caller is gone")
	if _, err := s.Copy(t.Context(), "/etc/app", 0, func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// While a reader works, another process swaps a folder of the path for a link out of the
// tree, and a file for a link to a secret.
func TestLinksThatAreSwappedWhileReadingDoNotLeadOut(t *testing.T) {
	s, root := tree(t, map[string]string{"etc/d/f": "open", "out/f": "SECRET", "etc/shadow": "SECRET", "etc/d/g": "open"})
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swapped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Symlink("../out", root+"/etc/link")
			_ = unix.Renameat2(unix.AT_FDCWD, root+"/etc/link", unix.AT_FDCWD, root+"/etc/d", unix.RENAME_EXCHANGE)
			_ = os.Symlink("../shadow", root+"/etc/real/l")
			_ = unix.Renameat2(unix.AT_FDCWD, root+"/etc/link", unix.AT_FDCWD, root+"/etc/d", unix.RENAME_EXCHANGE)
		}
	}()
	reads := 0
	for range 3000 {
		text, _, err := s.text(t.Context(), "/etc/d/f", 0, 0)
		if strings.Contains(text, "SECRET") {
			t.Fatal("the link led out")
		}
		if err == nil {
			reads++
		}
	}
	for range 300 {
		var out bytes.Buffer
		if _, err := s.Copy(t.Context(), "/etc", 0, func(b []byte) error { out.Write(b); return nil }); err == nil && strings.Contains(out.String(), "SECRET") {
			t.Fatal("the archive has what a link led to")
		}
	}
	close(stop)
	<-swapped
	t.Logf("%d of 3000 reads found the file", reads)
}

func TestUsageCountsAFileWithSeveralNamesOnce(t *testing.T) {
	s, root := tree(t, map[string]string{"usr/a/x": strings.Repeat("x", 100_000), "usr/b/y": "y", "usr/a/in/z": "z"})
	must(t, os.Link(root+"/usr/a/x", root+"/usr/b/x2"))
	usage, incomplete, err := s.Usage(t.Context(), "/usr", 1)
	if err != nil || incomplete || len(usage) != 3 || usage[1].Path != "/usr/a" || usage[2].Path != "/usr/b" {
		t.Fatalf("%+v, %t, %v", usage, incomplete, err)
	}
	if usage[0].Files != 3 || usage[1].Files != 2 || usage[2].Files != 1 || usage[0].Used < usage[1].Used || usage[1].Used < 100_000 || usage[2].Used > 50_000 {
		t.Errorf("%+v", usage)
	}
}

func TestTheOwnerChoosesTheTrees(t *testing.T) {
	s, root := tree(t, map[string]string{"srv/data": "data", "etc/trident/files.conf": "# what support may see\n/srv # all of it\n\n", "etc/x": "x"})
	if got, _, err := s.text(t.Context(), "/srv/data", 0, 0); err != nil || got != "data" {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := s.text(t.Context(), "/etc/x", 0, 0); errkind.Of(err) != errkind.Denied || !strings.Contains(errkind.Hint(err), "/srv") {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
	for _, conf := range []string{"srv", "/", "/proc", "/proc/sys", "/dev/shm", "/srv/..", strings.Repeat("/srv/a\n", 65), strings.Repeat("#", maxConf+1)} {
		must(t, os.WriteFile(root+"/etc/trident/files.conf", []byte(conf), 0o644))
		if _, _, err := s.text(t.Context(), "/srv/data", 0, 0); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), ConfFile) {
			t.Errorf("%.20q: %v", conf, err)
		}
	}
}

// Whatever the path: the kernel opens a file below the tree, or there is an error.
func FuzzAPathStaysInItsTree(f *testing.F) {
	s, _ := tree(f, map[string]string{"etc/a/b": "open", "etc/l": "-> ../srv", "srv/x": "SECRET", "etc/shadow": "SECRET", "etc/a/s": "-> ../shadow", "etc/in": "-> a"})
	for _, name := range []string{"/etc/a/b", "/etc/l/x", "/etc/../srv/x", "/etc/a/s", "//etc//in/./b", "/etc/in/../shadow", "/etc/\x00", "etc", "/etc/l/../../srv/x"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		text, _, err := s.text(context.Background(), name, 0, 0)
		if err == nil && text != "open" {
			t.Errorf("%q: %q", name, text)
		}
		if i, err := s.Stat(name); err == nil && !strings.HasPrefix(i.Path, "/etc") {
			t.Errorf("%q is %s", name, i.Path)
		}
	})
}
