// Package provisiontest has live images, OS images and machines in memory that boot them, for
// tests of provisioning.
package provisiontest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/isopatch"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// Room is the size of upstream's placeholders, in bytes.
const Room = 17055

// HostConfiguration is a document that installs the image of OSImage.
const HostConfiguration = `image:
  url: https://example.org/os.cosi
  sha384: ignored
storage:
  disks:
  - id: disk
    device: /dev/vda
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 64M}
    - {id: root, type: root, size: 4G}
    - {id: state, size: 128M}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: state, source: new, mountPoint: /var/lib/trident}
`

// Placeholder returns a placeholder of size bytes.
func Placeholder(path string, size int) string {
	head := isopatch.Magic + ":" + path + ":"
	return head + strings.Repeat("#", size-len(head)-1) + "\n"
}

// LiveImage writes a file with these placeholders, or else those of upstream's live images.
func LiveImage(t testing.TB, placeholders ...string) string {
	t.Helper()
	if placeholders == nil {
		placeholders = []string{Placeholder("/etc/trident/config.yaml", Room), Placeholder("/trident_cdrom/rcp-agent.yaml", Room)}
	}
	return Write(t, "live.iso", "iso"+strings.Join(placeholders, strings.Repeat("\x00", 5000))+"end")
}

// Write writes a file into a folder of its own.
func Write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// OSImage writes a small COSI file for amd64.
func OSImage(t testing.TB) string {
	t.Helper()
	var parts []image.Part
	for _, name := range []string{"esp", "root"} {
		typ, _ := image.ParsePartType(name, image.AMD64)
		parts = append(parts, image.Part{Name: name, Type: typ, Content: bytes.NewReader(make([]byte, 64<<10)), Size: 64 << 10})
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	_, err = image.Write(t.Context(), &out, image.Spec{
		Arch: image.AMD64, OSRelease: "ID=debian\n", Disk: disk, DiskSize: size, Temp: t.TempDir(), Packages: []image.Package{},
		Bootloader: image.Bootloader{Type: image.GRUB},
		Mounts: []image.Mount{
			{Number: 1, MountPoint: "/boot/efi", Type: "vfat", UUID: "AAAA-AAAA"},
			{Number: 2, MountPoint: "/", Type: "ext4", UUID: "840b5bf4-8c1b-8b11-b7a6-72898d23a6b4"},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Write(t, "os.cosi", out.String())
}

// Get returns what a server has at a URL.
func Get(t testing.TB, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return body
}

// ReadFile returns a file of the live image that is served at url. original is the image
// before it was patched.
func ReadFile(t testing.TB, url, original, path string) []byte {
	t.Helper()
	iso := Get(t, url)
	before, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	found, err := isopatch.Find(t.Context(), bytes.NewReader(before), int64(len(before)))
	if err != nil || len(iso) != len(before) {
		t.Fatal(err, len(iso), len(before))
	}
	for _, p := range found {
		if p.Path == path {
			return iso[p.Offset : p.Offset+p.Size]
		}
	}
	t.Fatalf("the image has no place for %s", path)
	return nil
}

// Boot boots a machine from the live image at url: it reads the configuration of its agent out
// of the image. The agent connects, with daemon behind it, until stop or the end of the test.
func Boot(t testing.TB, url, original string, daemon *clienttest.Server) (stop func()) {
	t.Helper()
	return Agent(t, ReadFile(t, url, original, "/trident_cdrom/rcp-agent.yaml"), daemon)
}

// Agent runs the agent of a machine by a configuration, as Boot does.
func Agent(t testing.TB, config []byte, daemon *clienttest.Server) (stop func()) {
	t.Helper()
	c, warnings, err := connect.Parse(config)
	if err != nil || len(warnings) > 0 || c.Socket != connect.DefaultSocket {
		t.Fatalf("%v, %v, %s", err, warnings, c.Socket)
	}
	c.Socket = filepath.Join(t.TempDir(), "s")
	c.Proxy, c.MinPause, c.MaxPause = "none", 20*time.Millisecond, 100*time.Millisecond
	if err := daemon.Listen(c.Socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Close)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { connect.Run(ctx, c, slog.New(slog.DiscardHandler)) })
	stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	t.Cleanup(stop)
	return stop
}
