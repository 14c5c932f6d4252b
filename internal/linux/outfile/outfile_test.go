package outfile_test

import (
	"context"
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
	"github.com/trident-project/trident/internal/linux/outfile"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func stream(f outfile.File, text string) error {
	return f.Stream(context.Background(), func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func TestAFileIsReplacedAndALinkToItStays(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "old")
	if err := os.Mkdir(filepath.Join(dir, "links"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct{ name, target string }{
		{"relative", "../file"}, {"absolute", file}, {"of-a-link", "relative"}, {"to-nothing", "../new"},
	} {
		name, target := l.name, l.target
		link := filepath.Join(dir, "links", name)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if err := stream((outfile.File{Path: link, Mode: 0o640}), name); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(link); err != nil || got != target {
			t.Errorf("%s: the link is %q, %v", name, got, err)
		}
		if got := read(t, link); got != name {
			t.Errorf("%s: the file behind the link has %q", name, got)
		}
		if info, err := os.Stat(link); err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAFailureLeavesTheOldFile(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "file"), "old")
	f := outfile.File{Path: file, Mode: 0o644}
	fails := errors.New("full")
	for _, err := range []error{
		f.Stream(context.Background(), func(w io.Writer) error { _, _ = io.WriteString(w, "half"); return fails }),
	} {
		if !errors.Is(err, fails) {
			t.Error(err)
		}
		if got := read(t, file); got != "old" {
			t.Errorf("the file has %q", got)
		}
	}
}

func TestADeviceOrAPipeIsWrittenIntoAndStays(t *testing.T) {
	dir := t.TempDir()
	null := filepath.Join(dir, "null")
	if err := unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		null = os.DevNull // the test user makes no devices; this one cannot be replaced by that user either
	}
	if err := stream(outfile.File{Path: null}, "text"); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(null); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("the device is %v now, %v", info.Mode(), err)
	}

	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		text, _ := os.ReadFile(fifo)
		got <- string(text)
	}()
	if err := stream(outfile.File{Path: fifo}, "through a pipe"); err != nil {
		t.Error(err)
	}
	if text := <-got; text != "through a pipe" {
		t.Errorf("the reader got %q", text)
	}
	if _, err := (outfile.File{Path: fifo}).Whole(); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a result in any order into a pipe: %v", err)
	}
}

func TestAFileThatTheProcessHasOpenIsWrittenInPlace(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "file"), "old")
	f, err := os.OpenFile(file, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// As with /dev/stdout and a shell's redirection.
	if err := stream(outfile.File{Path: fmt.Sprintf("/proc/self/fd/%d", f.Fd())}, "new"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(f); err != nil || string(text) != "new" {
		t.Errorf("the open file has %q, %v", text, err)
	}
}

func TestADashIsStandardOutputWhereThereIsOne(t *testing.T) {
	t.Chdir(t.TempDir())
	var out strings.Builder
	f := outfile.File{Path: "-", Stdout: &out, Mode: 0o600}
	if err := stream(f, "text"); err != nil || out.String() != "text" || f.IsFile() {
		t.Errorf("%v, %q", err, out.String())
	}
	_, whole := f.Whole()
	f.Stdout = nil
	for _, err := range []error{whole, stream(f, "text")} {
		if err == nil || !strings.Contains(err.Error(), "write -: standard output cannot take") {
			t.Errorf("where nothing takes a stream: %v", err)
		}
	}
	if err := stream(outfile.File{Path: "./-", Mode: 0o600}, "text"); err != nil || read(t, "-") != "text" {
		t.Errorf("a file whose name is a hyphen: %v", err)
	}
}

func TestAnUnusableDestinationIsRefusedBeforeTheCommandBegins(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(dir, "file"), "old")
	for _, path := range []string{"", dir, dir + "/", file + "/", socket, loop, filepath.Join(dir, "missing/file"), filepath.Join(file, "below")} {
		f := outfile.File{Path: path}
		_, whole := f.Whole()
		for _, err := range []error{f.CheckStream(), whole} {
			if err == nil || !strings.Contains(err.Error(), "write "+path) {
				t.Errorf("%q: %v", path, err)
			}
		}
	}
	if err := (outfile.File{Path: file + "/"}).CheckStream(); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a file as a folder: %v", err)
	}
	if _, err := (outfile.File{Path: "/dev/null"}).Whole(); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a device for a result in any order: %v", err)
	}
	block := filepath.Join(dir, "block")
	if err := unix.Mknod(block, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))); err != nil {
		t.Skipf("a block device cannot be made: %v", err)
	}
	if err := (outfile.File{Path: block}).CheckStream(); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a block device: %v", err)
	}
}

func TestAnInputIsNotOverwrittenUnderAnyName(t *testing.T) {
	dir := t.TempDir()
	input := write(t, filepath.Join(dir, "input"), "precious")
	if err := os.Link(input, filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("input", filepath.Join(dir, "soft")); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "usr/share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("tree/usr", filepath.Join(dir, "to-usr")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	inputs := []string{"", "missing", filepath.Join(dir, "soft"), filepath.Join(tree, "usr")}
	for _, path := range []string{
		"input", "hard", "soft", "./tree/../input", "tree/usr/new", "tree/usr/share/new", "to-usr/new", filepath.Join(tree, "usr/new"),
	} {
		f := outfile.File{Path: path, Inputs: inputs}
		if err := stream(f, "lost"); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := read(t, input); got != "precious" {
		t.Errorf("the input has %q", got)
	}
	for _, path := range []string{"tree/beside.raw", "other"} {
		if err := stream(outfile.File{Path: path, Inputs: inputs, Mode: 0o600}, "fine"); err != nil {
			t.Error(err)
		}
	}
}

func TestAFileOfAnotherUserIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	victim := write(t, filepath.Join(t.TempDir(), "victim"), "old")
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	for _, err := range []error{os.Symlink(victim, link), os.Lchown(link, 1000, 1000), unix.Mkfifo(fifo, 0o666), os.Chown(fifo, 1000, 1000)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{link, fifo} {
		if err := stream(outfile.File{Path: path}, "secret"); errkind.Of(err) != errkind.Precondition || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := read(t, victim); got != "old" {
		t.Errorf("the file behind the link has %q", got)
	}
	own := filepath.Join(dir, "own")
	if err := os.Symlink(victim, own); err != nil {
		t.Fatal(err)
	}
	if err := stream(outfile.File{Path: own, Mode: 0o600}, "mine"); err != nil || read(t, victim) != "mine" {
		t.Error(err)
	}
}

func TestALinkOfAUserLeadsToFilesOfThatUserAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
	const user = 1000
	dir := t.TempDir() // not sticky, as a home folder
	for _, err := range []error{os.Chown(dir, user, user), os.Chmod(dir, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	roots, users := write(t, filepath.Join(t.TempDir(), "of-root"), "old"), write(t, filepath.Join(t.TempDir(), "of-user"), "old")
	if err := os.Chown(users, user, user); err != nil {
		t.Fatal(err)
	}
	for target, allowed := range map[string]bool{roots: false, filepath.Join(dir, "nothing"): false, users: true} {
		link := filepath.Join(dir, "link")
		if err := errors.Join(os.Symlink(target, link), os.Lchown(link, user, user)); err != nil {
			t.Fatal(err)
		}
		f := outfile.File{Path: link, Mode: 0o600}
		_, whole := f.Whole()
		for _, err := range []error{whole, f.CheckStream(), f.Stream(t.Context(), func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err })} {
			if (err == nil) != allowed || err != nil && (errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == "") {
				t.Errorf("%s: %v", target, err)
			}
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, roots); got != "old" {
		t.Errorf("root's file has %q", got)
	}
	if got := read(t, users); got != "new" {
		t.Errorf("the user's file has %q", got)
	}
}
