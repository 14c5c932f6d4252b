//go:build vm

package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stopwatch prints what each stage took, so that a run shows where time goes.
func stopwatch(t *testing.T) func(stage string) {
	last := time.Now()
	return func(stage string) {
		t.Helper()
		t.Logf("%-40s %6.1f s", stage, time.Since(last).Seconds())
		last = time.Now()
	}
}

func base(t *testing.T) *Base {
	t.Helper()
	b, err := Image(t.Context(), Trixie())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, vm *VM, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := vm.Run(ctx, command, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, vm.Console())
	}
	return strings.TrimSpace(out)
}

func closeAfter(t *testing.T, vm *VM) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(vm.Evidence(context.Background()))
		}
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAGuestBootsIsSavedAndLoads(t *testing.T) {
	lap := stopwatch(t)
	b := base(t)
	lap("image")
	share := t.TempDir()
	if err := os.WriteFile(filepath.Join(share, "hello"), []byte("from outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	vm, err := Boot(t.Context(), b, Options{Share: share})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, vm)
	lap("cold boot to ssh")
	if err := vm.WaitBoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("cold boot to running")
	t.Log(run(t, vm, "systemd-analyze | head -1; systemctl --version | head -1"))
	if got := run(t, vm, "cat /share/hello"); got != "from outside" {
		t.Errorf("the share holds %q", got)
	}
	run(t, vm, "echo kept >/root/state; sync")
	lap("three commands")
	saved, err := vm.Save(t.Context(), filepath.Join(t.TempDir(), "saved"))
	if err != nil {
		t.Fatal(err)
	}
	lap("save")
	for range 2 {
		loaded, err := Load(t.Context(), saved)
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, loaded)
		lap("load to ssh")
		if got := run(t, loaded, "cat /root/state; echo changed >/root/state"); got != "kept" {
			t.Errorf("the loaded guest has the state %q", got)
		}
		if got := run(t, loaded, "cat /share/hello"); got != "from outside" {
			t.Errorf("the loaded guest's share holds %q", got)
		}
		clock := run(t, loaded, "date +%s")
		if off := clockOff(t, clock); off > 5*time.Second {
			t.Errorf("the loaded guest's clock is off by %s", off)
		}
	}
}

func clockOff(t *testing.T, unix string) time.Duration {
	t.Helper()
	var s int64
	if _, err := fmt.Sscan(unix, &s); err != nil {
		t.Fatal(err)
	}
	return time.Since(time.Unix(s, 0)).Abs()
}

func loaded(t *testing.T) *VM {
	t.Helper()
	s, err := Booted(t.Context(), base(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	vm, err := Load(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, vm)
	return vm
}

func TestFilesAreCopiedIntoAGuestWholeAndFast(t *testing.T) {
	lap := stopwatch(t)
	vm := loaded(t)
	lap("booted guest")
	data := make([]byte, 40_000_000)
	_, _ = rand.Read(data)
	if err := vm.Put(t.Context(), "/root/some where/file", bytes.NewReader(data), 0o640); err != nil {
		t.Fatal(err)
	}
	lap("put 40 MB")
	want := fmt.Sprintf("640 %x", sha256.Sum256(data))
	if got := run(t, vm, "stat -c %a '/root/some where/file'; sha256sum <'/root/some where/file'"); strings.Join(strings.Fields(got)[:2], " ") != want {
		t.Errorf("the guest has %s, want %s", got, want)
	}
	_, err := vm.Run(t.Context(), "echo no >&2; exit 3", nil)
	if exit := new(ExitError); !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "no\n" {
		t.Errorf("a failing command gives %v", err)
	}
}

func TestServersOnBothSidesAreReached(t *testing.T) {
	vm := loaded(t)
	l, err := vm.Listen(t.Context(), "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello from the test"))
	})}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()
	if got := run(t, vm, "busybox wget -q -O - http://127.0.0.1:8080/x"); got != "hello from the test" {
		t.Errorf("the guest got %q", got)
	}
	// The guest's side: systemd answers each connection with its own lines.
	run(t, vm, `printf '[Socket]\nListenStream=/run/echo.sock\nAccept=yes\n' >/etc/systemd/system/echo.socket
printf '[Service]\nExecStart=/bin/cat\nStandardInput=socket\n' >/etc/systemd/system/echo@.service
systemctl daemon-reload; systemctl enable --now echo.socket; printf '[Install]\nWantedBy=sockets.target\n' >>/etc/systemd/system/echo.socket
systemctl daemon-reload; systemctl enable echo.socket; sync`)
	local, err := vm.Forward("/run/echo.sock")
	if err != nil {
		t.Fatal(err)
	}
	if got := echo(t, local); got != "ping" {
		t.Errorf("the guest's socket answered %q", got)
	}
	if err := vm.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := vm.WaitBoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := echo(t, local); got != "ping" {
		t.Errorf("after a reboot the same forward answered %q", got)
	}
}

func echo(t *testing.T, socket string) string {
	t.Helper()
	c, err := net.DialTimeout("unix", socket, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = c.Write([]byte("ping"))
	_ = c.(*net.UnixConn).CloseWrite()
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestAPowerCutLosesOnlyUnsyncedFiles(t *testing.T) {
	lap := stopwatch(t)
	vm := loaded(t)
	run(t, vm, "echo safe >/root/synced; sync; echo lost >/root/unsynced")
	if err := vm.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Run(t.Context(), "true", nil); err == nil {
		t.Error("a guest without power still runs commands")
	}
	lap("until the power cut")
	if err := vm.BootAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot again to ssh")
	if got := run(t, vm, "cat /root/synced; test ! -s /root/unsynced && echo gone"); got != "safe\ngone" {
		t.Errorf("after the power cut the guest has %q", got)
	}
	if boots := run(t, vm, "journalctl --list-boots | grep -c ^"); boots == "0" {
		t.Error("no journal survived")
	}
}

func TestDeviceMapperVerityWorksInAGuest(t *testing.T) {
	vm := loaded(t)
	out := run(t, vm, `cd /root; head -c 1M /dev/urandom >data; H=$(veritysetup format data tree | sed -n 's/^Root hash:[[:space:]]*//p')
veritysetup open data v tree $H; dmsetup table v; cmp data /dev/mapper/v && echo same; veritysetup close v`)
	if !strings.Contains(out, " verity ") || !strings.HasSuffix(out, "same") {
		t.Errorf("dm-verity says %q", out)
	}
}

// Two guests of one processor each do more in the same time than one after the
// other with two: this prints by how much on this machine.
func TestTwoGuestsRunSideBySide(t *testing.T) {
	work := "for i in 1 2 3 4 5 6; do systemctl daemon-reload; systemctl restart systemd-journald; done; head -c 60M /dev/zero | sha256sum; systemctl restart ssh"
	b := base(t)
	scenario := func(cpus int) error {
		s, err := Booted(t.Context(), b, Options{CPUs: cpus})
		if err != nil {
			return err
		}
		vm, err := Load(t.Context(), s)
		if err != nil {
			return err
		}
		defer func() { _ = vm.Close() }()
		if _, err := vm.Run(t.Context(), work, nil); err != nil {
			return err
		}
		if err := vm.PowerCut(); err != nil {
			return err
		}
		return vm.BootAgain(t.Context())
	}
	for cpus := 1; cpus <= 2; cpus++ { // make both snapshots before the clock starts
		if _, err := Booted(t.Context(), b, Options{CPUs: cpus}); err != nil {
			t.Fatal(err)
		}
	}
	lap := stopwatch(t)
	results := make(chan error)
	for range 2 {
		go func() { results <- scenario(1) }()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	lap("two guests of 1 CPU, side by side")
	for range 2 {
		if err := scenario(2); err != nil {
			t.Error(err)
		}
	}
	lap("two guests of 2 CPUs, one by one")
}

func TestTheNewestSystemdBoots(t *testing.T) {
	lap := stopwatch(t)
	b, err := Image(t.Context(), Forky())
	if err != nil {
		t.Fatal(err)
	}
	lap("image")
	vm, err := Boot(t.Context(), b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, vm)
	lap("cold boot to ssh")
	if err := vm.WaitBoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	version := run(t, vm, "systemctl --version | head -1; uname -r")
	t.Log(version)
	var major int
	if _, err := fmt.Sscanf(version, "systemd %d", &major); err != nil || major < 259 {
		t.Errorf("this is %s: not newer than what the other image has", version)
	}
}
