package newos

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
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

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
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 makes the file system")
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-d", dir, file, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	image, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	root, done, err := machine.Real("/", "amd64").Tree(image, "ext4")
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
		err = (&OS{}).checkPlaces(root, &record.Examined{Config: c, Record: &record.Record{}})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", destination, err, says)
		}
	}
}
