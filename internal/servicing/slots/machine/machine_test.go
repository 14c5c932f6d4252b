package machine

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

// tool runs a tool that makes file systems, or skips the test without the tool.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s makes the file systems", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestAnESPShowsItsFilesAndItsRoomWithoutAMount(t *testing.T) {
	t.Parallel()
	file, dir := filepath.Join(t.TempDir(), "esp"), t.TempDir()
	hosttest.Write(t, filepath.Join(dir, "f"), strings.Repeat("x", 3<<20))
	tool(t, "mkfs.vfat", "-C", file, "8192")
	tool(t, "mmd", "-i", file, "::EFI")
	tool(t, "mcopy", "-i", file, filepath.Join(dir, "f"), "::EFI/f")
	files, room, done, err := espNow(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = done() }()
	if data, err := fs.ReadFile(files, "EFI/f"); err != nil || len(data) != 3<<20 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if room.Free < 4<<20 || room.Free > 5<<20 || room.Block < 512 {
		t.Errorf("room: %+v", room)
	}
	if _, _, _, err := espNow(filepath.Join(dir, "f")); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a file that is not an ESP: %v", err)
	}
}
