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
func TestWhatIsRefusedIsNotOpened(t *testing.T) {
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
