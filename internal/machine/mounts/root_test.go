//go:build root

package mounts

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Of a real kernel: a process that works in a file system, and files that are open and mapped.
func TestRealHoldersAreFound(t *testing.T) {
	where := t.TempDir()
	if err := unix.Mount("tmpfs", where, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(where, 0); err != nil {
			t.Error(err)
		}
	})
	open, mappedFile := filepath.Join(where, "open"), filepath.Join(where, "mapped")
	f, err := os.Create(open)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(open); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mappedFile, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := os.Open(mappedFile)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(m.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Close()
	cmd := exec.Command("sh", "-c", "echo ready; read end")
	cmd.Dir = where
	in, ierr := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err := cmd.Start(); ierr != nil || oerr != nil || err != nil {
		t.Fatal(ierr, oerr, err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s := Service{Root: "/"}
	found, isCut, err := s.Holders(where)
	if err != nil || isCut {
		t.Fatal(isCut, err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	self := string(comm[:len(comm)-1])
	for _, want := range []Holder{
		{OpenFile, os.Getpid(), self, open}, {MappedFile, os.Getpid(), self, mappedFile}, {WorkingDirectory, cmd.Process.Pid, "sh", where},
	} {
		if !slices.Contains(found, want) {
			t.Errorf("%+v is missing in %+v", want, found)
		}
	}
	if len(found) != 3 {
		t.Errorf("%+v", found)
	}
	_ = in.Close()
	_ = cmd.Wait()
	if err := unix.Munmap(memory); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if found, _, err := s.Holders(where); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}
