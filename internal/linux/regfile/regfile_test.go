package regfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("file"), []byte("content"), 0o600))
	must(os.Symlink("file", at("link")))
	must(unix.Mkfifo(at("fifo"), 0o600))
	must(os.Symlink("fifo", at("link to fifo")))
	must(os.Symlink("loop", at("loop")))
	l, err := net.Listen("unix", at("socket"))
	must(err)
	defer l.Close()
	r, w, err := os.Pipe()
	must(err)
	defer r.Close()
	defer w.Close()
	held, err := os.Open(at("file"))
	must(err)
	defer held.Close()

	for name, says := range map[string]string{
		"file": "", "link": "", fmt.Sprintf("/proc/self/fd/%d", held.Fd()): "",
		"fifo": "is a pipe, not a regular file", "link to fifo": "is a pipe", "socket": "is a socket", ".": "is a folder",
		"/dev/zero": "is a character device", fmt.Sprintf("/proc/self/fd/%d", r.Fd()): "is a pipe", fmt.Sprintf("/dev/fd/%d", r.Fd()): "is a pipe",
	} {
		if !strings.HasPrefix(name, "/") {
			name = at(name)
		}
		f, err := Open(name)
		if says != "" {
			if f != nil || errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v, want %q", name, err, says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := io.ReadAll(f)
		if err != nil || string(text) != "content" || f.Name() != name {
			t.Errorf("%s: %q, %v", f.Name(), text, err)
		}
		must(f.Close())
	}
	for name, want := range map[string]error{"none": fs.ErrNotExist, "loop": unix.ELOOP, "file/x": unix.ENOTDIR, "a\x00b": unix.EINVAL} {
		if _, err := Open(at(name)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	if _, err := OpenPlain(at("link")); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "is a symbolic link") {
		t.Errorf("a link: %v", err)
	}
	if _, err := OpenDisk(at("fifo")); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "or a block device") {
		t.Errorf("a pipe as a disk: %v", err)
	}
	if text, err := ReadFile(at("file"), 7); err != nil || string(text) != "content" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := ReadFile(at("file"), 6); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a large file: %v", err)
	}
}

// A FIFO notices when it is opened, as a watchdog would: a writer can open it
// without waiting then.
func TestARefusedFileIsNotOpened(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, fifo, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fifo); err == nil {
		t.Error("it was taken")
	}
	if n, err := unix.Read(watch, make([]byte, 4096)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("it was opened: %d, %v", n, err)
	}
}

func TestAURLInThePlaceOfAFileHasAHint(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"FILE:///no/such/file":        "name /no/such/file.",
		"oci://registry.example/os:1": "oras pull registry.example/os:1",
		"https://example.org/os.cosi": "curl -fLO https://example.org/os.cosi",
		"/no/such/file":               "",
		"no/such/dir://file":          "",
	} {
		for _, open := range []func(string) error{
			func(name string) error { _, err := Open(name); return err },
			func(name string) error { _, err := ReadFile(name, 10); return err },
		} {
			err := open(name)
			if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(errkind.Hint(err), want) || (want == "") != (errkind.Hint(err) == "") {
				t.Errorf("%s: %v, hint %q; want %q", name, err, errkind.Hint(err), want)
			}
		}
	}
}

func TestAPathDescriptorIsReopenedForReading(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600), unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	at := func(name string) *os.File {
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), name)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	file, err := Reopen(at("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if text, err := io.ReadAll(file); err != nil || string(text) != "content" {
		t.Errorf("the file has %q, %v", text, err)
	}
	folder, err := Reopen(at("."))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if names, err := folder.Readdirnames(-1); err != nil || len(names) != 2 {
		t.Errorf("the folder has %q, %v", names, err)
	}
	if f, err := Reopen(at("pipe")); f != nil || errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "pipe is a pipe, not a regular file") {
		t.Errorf("the pipe: %v", err)
	}
	closed := at("file")
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err := Reopen(closed); f != nil || !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed descriptor: %v", err)
	}
}

func TestAFileWhoseContentCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	if data, err := ReadFile("/proc/self/mem", 10); !errors.Is(err, unix.EIO) { // nothing is mapped at 0
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestTheKindOfAFileIsNamed(t *testing.T) {
	t.Parallel()
	for mode, want := range map[fs.FileMode]string{
		0o644: "a regular file", fs.ModeDir: "a folder", fs.ModeNamedPipe: "a pipe", fs.ModeSocket: "a socket", fs.ModeSymlink: "a symbolic link",
		fs.ModeDevice | fs.ModeCharDevice: "a character device", fs.ModeDevice: "a block device", fs.ModeIrregular: "of the type ?---------",
	} {
		if got := KindOf(mode); got != want {
			t.Errorf("%v is %s, and not %s", mode, got, want)
		}
	}
}

// The state of a file changes with each write, even if somebody sets the time back.
func TestTheStateOfAFileShowsAWrite(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	first, err := StateOf(f)
	if err != nil || first.Size != 7 {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := StateOf(f); err != nil || again != first {
		t.Errorf("without a write: %+v, %v", again, err)
	}
	if _, err := f.WriteString("longer content"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Unix(first.modified.Unix()), time.Unix(first.modified.Unix())); err != nil {
		t.Fatal(err)
	}
	if after, err := StateOf(f); err != nil || after == first {
		t.Errorf("after a write: %+v, %v", after, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := StateOf(f); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: %v", err)
	}
}
