package slots

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
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

func TestTheTreeOfAnImageIsReadAsTheNewSystemSeesIt(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "root")
	for _, name := range []string{"etc", "var", "srv/real"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"nowhere": "/no/such/folder", "inside": "/srv/real", "other": "/var/lib/trident/x"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "mkfs.ext4", "-q", "-d", dir, file, "8M")
	image, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	root, done, err := openTree(image, "ext4")
	if errkind.Of(err) == errkind.Unsupported || errors.Is(err, fs.ErrPermission) {
		t.Skip("needs loop devices: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = done() }()
	for destination, says := range map[string]string{
		"/etc/a": "", "/new/folder/a": "", "/inside/a": "", "/other/a": "", "/nowhere/a": "/nowhere is a link to nowhere", "/srv": "neither a file nor a link",
		"/boot/efi/a": "",
	} {
		c, err := hostconfig.ParseRecorded([]byte("storage: {filesystems: [{deviceId: root, source: image, mountPoint: /}, {deviceId: shared, source: new, mountPoint: /var/lib/trident}, {deviceId: esp, source: image, mountPoint: /boot/efi}]}\nos: {additionalFiles: [{destination: /x, content: y}]}"))
		if err != nil {
			t.Fatal(err)
		}
		c = c.Amend(func(spec *hostconfig.Spec) { spec.OS.AdditionalFiles[0].Destination = destination })
		err = (&Service{}).checkPlaces(root, &examined{config: c})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", destination, err, says)
		}
	}
}
