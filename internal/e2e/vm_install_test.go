//go:build vm

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
)

// A hostedImage is an image on a web server that guests reach.
type hostedImage struct {
	osimage.Image
	url string
}

// imagePort is where guests find images.
const imagePort = "127.0.0.1:8099"

// serveImages serves images to the guest until the guest goes off.
func (g *guest) serveImages(images ...osimage.Image) []hostedImage {
	g.t.Helper()
	var out []hostedImage
	mux := http.NewServeMux()
	for _, img := range images {
		name := filepath.Base(img.Path)
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, img.Path) })
		out = append(out, hostedImage{img, "http://" + imagePort + "/" + name})
	}
	g.serveHandler(mux)
	return out
}

// serveHandler answers the guest's requests, unless another handler does so since the last
// boot.
func (g *guest) serveHandler(h http.Handler) {
	g.t.Helper()
	l, err := g.Listen(g.t.Context(), imagePort)
	if err != nil {
		g.t.Logf("images are served already: %v", err)
		return
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(l) }()
	g.t.Cleanup(func() { server.Close() })
}

// config returns a Host Configuration for the image: a disk with two slots and a volume for
// Trident.
func (i hostedImage) config(more string) string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 256M}
    - {id: root-a, type: root, size: 1536M}
    - {id: root-b, type: root, size: 1536M}
    - {id: trident, type: linux-generic, size: grow}
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os:
  hostname: lab-installed
  users: [{name: fleet, sshMode: key-only, sshPublicKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJWeQNu1eRTVuVmV9oCvGS2rQ9oOUmQHRPmdVUFhpL9O fleet"]}]
  additionalFiles: [{destination: /etc/of.conf, content: "of %s\n", permissions: "0644"}]
  modules: [{name: loop, loadMode: always}]
health:
  checks:
  - {name: healthy, systemdServices: [%s], timeoutSeconds: 120, runOn: [clean-install, ab-update]}
scripts:
  postConfigure: [{name: mark, runOn: [clean-install, ab-update], content: "echo $SERVICING_TYPE in $TARGET_ROOT > /etc/marked"}]
internalParams: {trialTime: 4min}
%s`, i.url, i.SHA384, i.SHA384[:8], osimage.HealthUnit, more)
}

func (g *guest) file(text string) string {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// install installs an image on the disk of a live guest and boots from it.
func (g *guest) install(img hostedImage) {
	g.t.Helper()
	g.sh("touch /override-trident-safety-check")
	said := g.runAcrossReboots(g.BootInstalled, "install", g.file(img.config("")))
	if said.code != 0 {
		g.t.Fatalf("install: %+v", said)
	}
	g.t.Log(said.out + said.errs)
	g.awaitSettled()
}

// A commandResult is the output and the exit code of a command.
type commandResult struct {
	out, errs string
	code      int
}

// runAcrossReboots runs a command that reboots the guest, and returns its result. The
// command runs on this machine; meanwhile runAcrossReboots switches the guest on with boot
// whenever the guest goes off.
func (g *guest) runAcrossReboots(boot func(context.Context) error, args ...string) commandResult {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.f.trident, append([]string{"--socket", g.socket}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	booting := g.reboots(ctx, boot)
	err := cmd.Wait()
	cancel()
	<-booting
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return commandResult{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// reboots switches the guest on again whenever it goes off, first with boot, until
// ctx ends. The channel is closed then.
func (g *guest) reboots(ctx context.Context, boot func(context.Context) error) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := g.WaitOff(ctx)
			if err == nil {
				err = boot(ctx)
			}
			if err != nil && !errors.Is(err, lab.ErrOff) && ctx.Err() == nil {
				g.t.Errorf("boot: %v", err)
				return
			}
			boot = g.BootAgain
		}
	}()
	return done
}

// noMoreWork waits until no operation is pending. When a machine shuts down, it unmounts
// /var/lib/trident before it stops the shell, so the command checks the mount last. A live
// system has no such mount.
const noMoreWork = "until ! test -e /var/lib/trident/unsettled && { findmnt /var/lib/trident || ! grep -w /var/lib/trident /etc/fstab; } >/dev/null; do sleep 0.2; done"

// awaitSettled waits until the operation that was pending at boot has ended.
func (g *guest) awaitSettled() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 8*time.Minute)
	defer cancel()
	if _, err := g.Run(ctx, noMoreWork, nil); err != nil {
		out, errs, _ := g.trident("operation", "list")
		g.t.Fatal(err, out, errs)
	}
}

// status returns what trident get status prints.
func (g *guest) status() string {
	g.t.Helper()
	out, errs, code := g.trident("get", "status")
	if code != 0 {
		g.t.Fatalf("get status: %d, %s", code, errs)
	}
	return out
}

// checkOS checks which image and slot the guest runs, and its status.
func (g *guest) checkOS(img hostedImage, volume string) {
	g.t.Helper()
	g.checkBooted(img.Image)
	st := g.status()
	for _, want := range []string{"servicingState: provisioned", "abActiveVolume: " + volume, img.SHA384} {
		if !strings.Contains(st, want) {
			g.t.Errorf("the status does not say %q:\n%s", want, st)
		}
	}
	for command, want := range map[string]string{
		"cat /etc/of.conf":                                          "of " + img.SHA384[:8],
		"hostname; id -un fleet":                                    "lab-installed\nfleet",
		"findmnt -n -o FSTYPE /boot/efi":                            "vfat",
		"findmnt -n -o FSTYPE /var/lib/trident":                     "ext4",
		"ls /etc/systemd/system/trident-trial* 2>/dev/null || true": "",
		"findmnt -rno TARGET | grep /run/trident/ || true":          "",
	} {
		if got := g.sh(command); !strings.Contains(got, want) || want == "" && got != "" {
			g.t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

func TestAHostIsInstalledUpdatedIntoTheOtherSlotAndRolledBack(t *testing.T) {
	lap := stopwatch(t)
	g := liveGuest(t)
	lap("live system")
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"}))
	lap("two images")
	g.install(images[0])
	lap("installed and settled")
	g.checkOS(images[0], "volume-a")
	if got := g.sh("cat /etc/marked"); got != "clean-install in /" {
		t.Errorf("the script said %q", got)
	}
	t.Log(g.sh("systemctl status trident.service --no-pager | head -20; lsblk; cat /etc/fstab"))
	lap("looked at")

	images = g.serveImages(images[0].Image, images[1].Image)
	machine := g.sh("cat /etc/machine-id")
	update := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].config("")))
	if update.code != 0 {
		t.Fatalf("update: %+v", update)
	}
	t.Log(update.out + update.errs)
	g.awaitSettled()
	lap("updated and settled")
	g.checkOS(images[1], "volume-b")
	if got := g.sh("cat /etc/machine-id"); got != machine {
		t.Errorf("the machine is %s, was %s", got, machine)
	}

	out, errs, code := g.trident("rollback", "--check")
	if code != 0 || strings.TrimSpace(out) != "ab" {
		t.Errorf("rollback --check: %d, %s%s", code, out, errs)
	}
	if back := g.runAcrossReboots(g.BootAgain, "rollback"); back.code != 0 {
		t.Fatalf("rollback: %+v", back)
	}
	g.awaitSettled()
	lap("rolled back")
	g.checkOS(images[0], "volume-a")
}
