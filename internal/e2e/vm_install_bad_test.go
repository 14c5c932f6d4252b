//go:build vm

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/image"
)

// forARM is an image for another architecture; the test never boots it.
func forARM(t *testing.T) (content []byte, sha384 string) {
	t.Helper()
	var parts []image.Part
	for _, name := range []string{"esp", "root"} {
		typ, ok := image.ParsePartType(name, image.ARM64)
		if !ok {
			t.Fatal(name)
		}
		parts = append(parts, image.Part{Name: name, Type: typ, Content: bytes.NewReader(make([]byte, 1<<20)), Size: 1 << 20})
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	sha384, err = image.Write(t.Context(), &out, image.Spec{
		Arch: image.ARM64, OSRelease: "ID=debian\n", Disk: disk, DiskSize: size, Temp: t.TempDir(), Packages: []image.Package{},
		Bootloader: image.Bootloader{Type: image.SystemdBoot, SystemdBoot: &image.SystemdBootSet{Entries: []image.BootEntry{
			{Type: image.UKIStandalone, Path: "/boot/efi/EFI/Linux/x.efi", Cmdline: "quiet", Kernel: "6.12"},
		}}},
		Mounts: []image.Mount{{Number: 1, MountPoint: "/boot/efi", Type: "vfat", UUID: "AAAA-AAAA"}, {Number: 2, MountPoint: "/", Type: "ext4", UUID: "840b5bf4-8c1b-8b11-b7a6-72898d23a6b4"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), sha384
}

func TestAnImpossibleInstallationIsRefusedWithOneError(t *testing.T) {
	t.Parallel()
	g := liveGuest(t)
	img := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	whole, err := os.ReadFile(img.Path)
	if err != nil {
		t.Fatal(err)
	}
	arm, armSHA := forARM(t)
	mux := http.NewServeMux()
	content := func(name string, data []byte) {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"`+name+`"`)
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
		})
	}
	content("good.cosi", whole)
	content("arm.cosi", arm)
	content("cut.cosi", whole[:len(whole)/2])
	bad := bytes.Clone(whole)
	bad[len(bad)-1<<20] ^= 1
	content("bad.cosi", bad)
	var asked atomic.Int32
	mux.HandleFunc("/changes.cosi", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, asked.Add(1)/6)) // once it is open
		http.ServeContent(w, r, "changes.cosi", time.Time{}, bytes.NewReader(whole))
	})
	g.serveHandler(mux)
	config := func(name string) string {
		return hostedImage{img, "http://" + imagePort + "/" + name}.config("")
	}
	swap := func(text, old, new string) string { return strings.Replace(text, old, new, 1) }
	const mkfs, mount = "mkfs.ext4 -q -F /dev/disk/by-id/virtio-disk0", "mount /dev/disk/by-id/virtio-disk0 /mnt"
	for _, c := range []struct {
		name, config, before, after, want string
	}{
		{"not a live system", config("good.cosi"), "rm -f /override-trident-safety-check", "touch /override-trident-safety-check", "this system runs from a disk"},
		{"a disk that is too small", strings.ReplaceAll(config("good.cosi"), "1536M", "9G"), "", "", "the disk is too small"},
		{"a disk that is not there", swap(config("good.cosi"), "virtio-disk0", "virtio-other"), "", "", "virtio-other"},
		{"another architecture", swap(config("arm.cosi"), img.SHA384, armSHA), "", "", "the image is for the architecture arm64"},
		{"another hash", swap(config("good.cosi"), img.SHA384, strings.Repeat("a", 96)), "", "", "the SHA-384 of metadata.json is"},
		{"a truncated image", config("cut.cosi"), "", "", "the archive is cut short"},
		{"a disk that is mounted", config("good.cosi"), mkfs + " && " + mount, "umount /mnt && wipefs -qa /dev/disk/by-id/virtio-disk0", "mounted at /mnt"},
		{"a sealed command line", swap(config("good.cosi"), "  hostname: lab-installed", "  kernelCommandLine: {extraCommandLine: [debug]}"), "", "", "debug"},
		{"an image that is not what it says", config("bad.cosi"), "", "", "read images/partition-2"},
		{"an image that changes", config("changes.cosi"), "", "", "the source changed while it was being read"},
	} {
		if c.before != "" {
			g.sh(c.before)
		}
		out, errs, code := g.trident("install", g.file(c.config))
		last := errs[strings.LastIndex(strings.TrimSpace(errs), "\n")+1:]
		if code != 2 || !strings.Contains(errs, c.want) || strings.Count("\n"+errs, "\ntrident: ") != 1 {
			t.Errorf("%s: %d\n%s\n%s", c.name, code, out, errs)
		}
		t.Logf("%s: %s", c.name, last)
		if st := g.status(); !strings.Contains(st, "servicingState: not-provisioned") || !strings.Contains(st, "lastError:") {
			t.Errorf("%s: the status is\n%s", c.name, st)
		}
		if c.after != "" {
			g.sh(c.after)
		}
	}
	out, errs, code := g.trident("install", "--plan", g.file(config("good.cosi")))
	if code != 0 || !strings.Contains(out, "root-b") || !strings.Contains(out, "1.5 GiB") {
		t.Errorf("install --plan: %d\n%s%s", code, out, errs)
	}
	t.Log(out)
}

func TestAWholeDiskIsStreamedAndBoots(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	g.sh("touch /override-trident-safety-check")
	img := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	hosted := g.serveImages(img)[0]
	lap("live system")
	out, errs, code := g.trident("grpc-client", "stream-disk", hosted.url, "--hash", "sha384:"+img.SHA384)
	if code != 0 {
		t.Fatalf("stream-disk: %d\n%s\n%s", code, out, errs)
	}
	t.Log(out + errs)
	lap("streamed")
	if err := g.BootInstalled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.WaitBoot(t.Context()); err != nil {
		t.Error(err)
	}
	g.checkBooted(img)
}
