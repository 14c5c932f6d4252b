package servicing

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// grubMenu is the grub.cfg of an image whose kernel has the release version.
func grubMenu(version string) string {
	return fmt.Sprintf("menuentry 'Test' {\n\tsearch --fs-uuid --set=root of-the-image\n"+
		"\tlinux /boot/vmlinuz-%[1]s root=UUID=of-the-image ro 'a=b c' selinux=0 rd.overlayfs=x\n\tinitrd /boot/initrd-%[1]s\n}\n", version)
}

// grubFiles are the files of GRUB in the root file system of an image.
func grubFiles(version string) fstest.MapFS {
	return fstest.MapFS{
		"boot/grub2/grub.cfg":     {Data: []byte(grubMenu(version)), Mode: 0o644},
		"boot/vmlinuz-" + version: {Data: []byte("kernel"), Mode: 0o644},
		"boot/initrd-" + version:  {Data: []byte("initrd"), Mode: 0o644},
	}
}

// grubImageOf is osImageOf for an image that boots by GRUB.
func grubImageOf(t testing.TB, version, id string, more fstest.MapFS) osImage {
	t.Helper()
	files := grubFiles(version)
	for name, f := range more {
		files[name] = f
	}
	return assembled(t, version, id, boottest.GrubESP(boot.AMD64, version), files, "", nil)
}

// As TestAnOSSurvivesPowerCuts, for hosts that boot by GRUB.
func TestAnOSWithGrubSurvivesPowerCuts(t *testing.T) {
	var scenarios []osScenario
	for _, sc := range osScenarios {
		switch sc.name {
		case "install", "update", "update, staged and finalized apart", "an image that does not boot", "an update that is not healthy", "rollback":
			scenarios = append(scenarios, sc)
		}
	}
	if cases := survivePowerCuts(t, albumOf(t, grubImageOf), scenarios); cases > 0 && cases < 150 {
		t.Errorf("%d cases only", cases)
	}
}

// put makes an image a file of the host.
func (w *osWorld) put(i osImage) {
	w.t.Helper()
	if err := os.Symlink(i.path, filepath.Join(w.root, "srv", filepath.Base(i.path))); err != nil {
		w.t.Fatal(err)
	}
}

// esp returns the text of a file on the EFI system partition of a machine.
func (w *osWorld) esp(name string) string {
	w.t.Helper()
	dir := tempDir(w.t)
	esp, _ := findLabel(w.inventory(), "esp")
	w.unpack(esp.Path, dir)
	return hosttest.Text(w.t, filepath.Join(dir, name))
}

func TestGrubOfASlotHasTheArgumentsOfImageAndConfiguration(t *testing.T) {
	a := albumOf(t, grubImageOf)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(func(a *album) string {
			return strings.Replace(v1(a), "\nos:\n", "\nos:\n  kernelCommandLine: {extraCommandLine: ['x=\"y z\" quiet']}\n", 1)
		}, true, true))
		root, _ := findLabel(w.inventory(), "root-a")
		want := fmt.Sprintf("search --no-floppy --fs-uuid --set=root %s\nlinux /boot/vmlinuz-v1 ro 'a=b c' selinux=0 root=PARTUUID=%s 'x=y z' quiet\ninitrd /boot/initrd-v1\nboot\nreboot\nexit 1\n",
			root.Content.UUID, root.UUID)
		if got := w.esp("EFI/AZLA/grub.cfg"); !strings.HasSuffix(got, want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
		w.rest()

		// The same image again: its UUIDs are only on partitions that go.
		again := newOSWorld(t, a)
		again.disk, again.vars, again.medium = w.disk, w.vars, true
		again.powerOn()
		again.must(installing(v1, true, false))
		again.rest()
	})
}

// Faults of an image that boots by GRUB are found before a disk changes.
func TestAnImageOfGrubThatCannotBootIsRefused(t *testing.T) {
	a := newAlbum(t)
	for name, c := range map[string]struct {
		files       func(root, esp fstest.MapFS)
		named, says string
	}{
		"no menu":      {func(root, _ fstest.MapFS) { delete(root, "boot/grub2/grub.cfg") }, "UpdateGrubConfigs", "neither grub2/grub.cfg or grub/grub.cfg"},
		"a broken one": {func(root, _ fstest.MapFS) { root["boot/grub2/grub.cfg"].Data = []byte("menuentry 'x {\n") }, "UpdateGrubConfigs", "line 1: a ' has no end"},
		"no kernel":    {func(root, _ fstest.MapFS) { delete(root, "boot/vmlinuz-v9") }, "UpdateGrubConfigs", `no file "/boot/vmlinuz-v9"`},
		"no noprefix":  {func(_, esp fstest.MapFS) { delete(esp, "EFI/vendor/grubx64-noprefix.efi") }, "InvalidBootConfiguration", "grubx64-noprefix.efi"},
	} {
		t.Run(name, func(t *testing.T) {
			root, esp := grubFiles("v9"), boottest.GrubESP(boot.AMD64, "v9")
			c.files(root, esp)
			image := assembled(t, "v9", "99", esp, root, "", nil)
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, a)
				w.powerOn()
				w.put(image)
				before := w.disk.Writes()
				// A script could put the image right.
				config := strings.ReplaceAll(strings.ReplaceAll(hostOf(image, ""), "  postProvision:", "  #"), "  postConfigure:", "  #")
				op := w.run("install", func(s *Service) (string, error) {
					return s.Install(t.Context(), InstallRequest{Config: w.parse(config), Stage: true, Finalize: true})
				}, "")
				if op.Phase != operation.Undone || op.Failure == nil || op.Failure.Name != c.named || !strings.Contains(op.Failure.Message, c.says) {
					t.Errorf("%+v", op.Failure)
				}
				if w.disk.Writes() != before {
					t.Error("the disk has changed")
				}
				w.rest()
			})
		})
	}
}

func TestAnUpdateToAnotherBootLoaderIsRefused(t *testing.T) {
	a := newAlbum(t)
	image := grubImageOf(t, "v9", "99", nil)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.put(image)
		op := w.run("ab-update", func(s *Service) (string, error) {
			return s.Update(t.Context(), UpdateRequest{Config: w.parse(hostOf(image, "")), Stage: true, Finalize: true})
		}, "")
		if op.Failure == nil || op.Failure.Kind != errkind.Incompatible || op.Failure.Name != "InvalidBootConfiguration" || !strings.Contains(op.Failure.Message, "boots by grub, and this host by systemd-boot") {
			t.Errorf("%+v", op.Failure)
		}
		if w.slot != slot.A {
			t.Error(w.slot)
		}
		if n, ok, err := efivar.BootNext(w.vars); ok || err != nil {
			t.Error(n, err)
		}
		w.rest()
	})
}

// besides is a configuration for an installation beside that of [hostOf].
func besides(i osImage) string {
	return fmt.Sprintf(`
image: {url: "file:///srv/%s.cosi", sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/vdb
    partitionTableType: gpt
    adoptedPartitions:
    - {id: esp, matchLabel: esp}
    - {id: first-a, matchLabel: root-a}
    - {id: first-b, matchLabel: root-b}
    - {id: first-trident, matchLabel: trident}
    partitions:
    - {id: root, type: root, size: 8M}
    - {id: trident, type: linux-generic, size: 8M}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
`, i.version, i.sha)
}

// An installation beside another system changes neither the boot files of that system nor its
// place in the order of the firmware.
func TestAnInstallBesideAnotherSystemLeavesIt(t *testing.T) {
	a := albumOf(t, grubImageOf)
	image := grubImageOf(t, "v9", "99", nil)
	synctest.Test(t, func(t *testing.T) {
		first := newOSWorld(t, a)
		first.powerOn()
		first.must(installing(func(a *album) string { return strings.Replace(v1(a), "size: grow", "size: 16M", 1) }, true, true))
		first.rest()

		w := newOSWorld(t, a)
		w.disk, w.vars, w.medium = first.disk, first.vars, true
		w.powerOn()
		w.put(image)
		install := func(i osImage) func(*Service) (string, error) {
			return func(s *Service) (string, error) {
				return s.Install(t.Context(), InstallRequest{Config: w.parse(besides(i)), Stage: true, Multiboot: true})
			}
		}
		op := w.run("install-stage", install(a.v1), "")
		if op.Failure == nil || op.Failure.Name != "DuplicateFsUuid" || !strings.Contains(op.Failure.Message, "a partition that stays") {
			t.Errorf("the image of the other system: %+v", op.Failure)
		}
		order, err := efivar.BootOrder(w.vars)
		fallback := w.esp("EFI/BOOT/grub.cfg")
		if op := w.run("install-stage", install(image), ""); op.Phase != operation.Done || err != nil {
			t.Fatalf("%+v, %v", op.Failure, err)
		}
		if _, err := w.daemon.service.FinalizeInstall(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		w.untilReboot()
		next, ok, err := efivar.BootNext(w.vars)
		now, err2 := efivar.BootOrder(w.vars)
		if !ok || err != nil || err2 != nil || !slices.Equal(append(slices.Clone(order), next), now) {
			t.Errorf("the order was %v and is %v, and %v is next: %v, %v", order, now, next, err, err2)
		}
		if got := w.esp("EFI/BOOT/grub.cfg"); got != fallback || got != w.esp("EFI/AZLA/grub.cfg") {
			t.Errorf("EFI/BOOT has changed: %s", got)
		}
		if got := w.esp("EFI/AZL2A/grub.cfg"); !strings.Contains(got, "/boot/vmlinuz-v9 ") {
			t.Errorf("the new system has %s", got)
		}
		w.rest()
	})
}

// untilReboot waits until the daemon has requested a reboot.
func (w *osWorld) untilReboot() {
	w.t.Helper()
	for range 2000 {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		w.Mu.Lock()
		reboots := w.reboots
		w.Mu.Unlock()
		if reboots {
			return
		}
	}
	w.t.Fatal("nobody requests a reboot")
}
