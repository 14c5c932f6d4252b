package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func TestMirrorIsWhereThisMachinesAptTakesDebianFrom(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing set": {nil, "http://deb.debian.org/debian"},
		"one line": {map[string]string{
			"sources.list": "# deb http://old/debian bookworm main\ndeb [arch=amd64 signed-by=/k] http://near/debian/ bookworm main contrib\n",
		}, "http://near/debian"},
		"security and backports are not the archive": {map[string]string{
			"sources.list": "deb http://near/security bookworm-security main\ndeb http://near/bpo bookworm-backports main\ndeb http://near/d trixie main\n",
		}, "http://near/d"},
		"other vendors are not Debian": {map[string]string{
			"sources.list.d/node.list": "deb https://vendor.example/node nodistro main\n",
			"sources.list.d/u.list":    "deb http://vendor.example/u noble main\n",
		}, "http://deb.debian.org/debian"},
		"deb822": {map[string]string{
			"sources.list.d/debian.sources": "Types: deb\n# URIs: http://no/debian\nURIs: https://near/deb\nSuites: bookworm bookworm-updates\nComponents: main\n" +
				"Signed-By: /usr/share/keyrings/k.gpg\n\nTypes: deb\nURIs: http://sec/x\nSuites: bookworm-security\nComponents: main\n",
		}, "https://near/deb"},
		"disabled and source-only stanzas do not count": {map[string]string{
			"sources.list.d/debian.sources": "Types: deb\nEnabled: no\nURIs: http://off/d\nSuites: sid\nComponents: main\n\nTypes: deb-src\nURIs: http://src/d\nSuites: sid\nComponents: main\n",
		}, "http://deb.debian.org/debian"},
		"a CD is no mirror": {map[string]string{"sources.list": "deb cdrom:[x]/ trixie main\n"}, "http://deb.debian.org/debian"},
	} {
		t.Run(name, func(t *testing.T) {
			etc := fstest.MapFS{}
			for path, text := range c.files {
				etc[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if diff := cmp.Diff(c.want, mirror(etc)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAKeyFollowsItsRecipe(t *testing.T) {
	key := func(r Recipe) string {
		k, err := r.key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key(Trixie())
	if again := key(Trixie()); again != first {
		t.Errorf("one recipe has the keys %s and %s", first, again)
	}
	changed := Trixie()
	changed.Packages = append(changed.Packages, "jq")
	if key(changed) == first {
		t.Error("another package gives the same key")
	}
	if !strings.HasPrefix(first, "trixie-") {
		t.Errorf("key %s does not begin with the recipe's name", first)
	}
}

func TestTheGuestKeepsWhatTheProductNeeds(t *testing.T) {
	masked := strings.Join(maskedUnits(), " ")
	if masked == "" {
		t.Fatal("the list of masked units is empty")
	}
	for _, unit := range []string{"systemd-sysext", "systemd-tmpfiles-setup.service", "systemd-sysusers", "systemd-udevd", "dbus", "systemd-journald", "sockets.target"} {
		if strings.Contains(masked, unit) {
			t.Errorf("%s is masked", unit)
		}
	}
}

// bzImage returns the smallest file that kernelPayload takes.
func bzImage(payload []byte) []byte {
	image := make([]byte, 1024)
	image[0x1f1] = 1
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint32(image[0x24c:], uint32(len(payload)+4))
	return append(append(image, payload...), 9, 9, 9, 9)
}

func TestKernelPayloadIsFoundByTheBootProtocol(t *testing.T) {
	zstd := []byte{0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3}
	got, err := kernelPayload(bzImage(zstd))
	if diff := cmp.Diff(zstd, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for name, c := range map[string]struct {
		image []byte
		want  errkind.Kind
	}{
		"empty":          {nil, errkind.Corrupt},
		"no header":      {make([]byte, 4096), errkind.Corrupt},
		"cut short":      {bzImage(zstd)[:1028], errkind.Corrupt},
		"empty payload":  {bzImage(nil), errkind.Corrupt},
		"another format": {bzImage([]byte("gzip!")), errkind.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := kernelPayload(c.image); errkind.Of(err) != c.want {
				t.Errorf("got %v (%s), want kind %s", err, errkind.Of(err), c.want)
			}
		})
	}
}

func TestCpioUnpacksWithCpio(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("no cpio here to compare with")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.cpio"))
	if err != nil {
		t.Fatal(err)
	}
	err = writeCPIO(f, []cpioFile{{"bin", 0o40755, nil}, {"bin/x", 0o100755, []byte("hello")}, {"init", 0o100644, []byte("12345678")}})
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "cpio --quiet -i <a.cpio && stat -c '%A %s %n' bin/x init && cat bin/x init")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if diff := cmp.Diff("-rwxr-xr-x 5 bin/x\n-rw-r--r-- 8 init\nhello12345678", string(out)); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestOldQEMUIsRefusedWithAWayOut(t *testing.T) {
	if err := checkQEMU("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"); err != nil {
		t.Error(err)
	}
	err := checkQEMU("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)")
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(errkind.Hint(err), "bookworm-backports") {
		t.Errorf("7.2 gives %v with the hint %q", err, errkind.Hint(err))
	}
	if err := checkQEMU("something else"); err == nil {
		t.Error("a version that cannot be read passes")
	}
}

func TestMissingToolsAreNamedTogether(t *testing.T) {
	err := needTools(map[string]string{"sh": "dash", "no-such-tool-a": "pkg-b", "no-such-tool-b": "pkg-a", "no-such-tool-c": "pkg-a"})
	if errkind.Of(err) != errkind.Precondition || errkind.Hint(err) != "apt-get install pkg-a pkg-b" {
		t.Errorf("got %v with the hint %q", err, errkind.Hint(err))
	}
	if err := needTools(map[string]string{"sh": "dash"}); err != nil {
		t.Error(err)
	}
}

func TestOnlyWholeFoldersEnterTheCache(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(cacheEnv, cache)
	broken := errors.New("broken")
	fill := func(result error) func(string) error {
		return func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), result)
		}
	}
	if _, err := once(t.Context(), "x", fill(broken)); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "x*")); len(left) != 1 || filepath.Ext(left[0]) != ".lock" {
		t.Errorf("a failure leaves %v", left)
	}
	// What a killed process leaves is not taken for an image.
	if err := os.MkdirAll(filepath.Join(cache, "x.part", "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := once(t.Context(), "x", fill(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "old")); err == nil {
		t.Error("a half-made folder was gone on with")
	}
	if _, err := once(t.Context(), "x", fill(broken)); err != nil {
		t.Errorf("it was made again: %v", err)
	}
}

func TestOneOfManyProcessesMakesTheSharedImage(t *testing.T) {
	t.Setenv(cacheEnv, t.TempDir())
	var made int // guarded by the lock under test
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := once(t.Context(), "y", func(string) error { made++; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("it was made %d times", made)
	}
}

func TestWaitingForTheCacheEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// monitorServer answers one connection from a script: what QEMU would write
// after the greeting and after each command.
func monitorServer(t *testing.T, answers ...string) *qmp {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte(`{"QMP": {"capabilities": []}}`))
		commands := json.NewDecoder(c)
		for _, answer := range append([]string{`{"return": {}}`}, answers...) {
			var command any
			if commands.Decode(&command) != nil {
				return
			}
			_, _ = c.Write([]byte(answer))
		}
	}()
	q, err := dialQMP(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.close)
	return q
}

func TestMonitorTellsAnswersFromEvents(t *testing.T) {
	q := monitorServer(t, `{"event": "RESUME"} {"return": {"status": "running"}}`, `{"error": {"class": "GenericError", "desc": "no such device"}}`)
	var state struct{ Status string }
	if err := q.do(t.Context(), "query-status", nil, &state); err != nil || state.Status != "running" {
		t.Errorf("got %q, %v", state.Status, err)
	}
	if err := q.wait(t.Context(), "RESUME"); err != nil {
		t.Errorf("the event before the answer was lost: %v", err)
	}
	err := q.do(t.Context(), "device_del", nil, nil)
	if err == nil || err.Error() != "monitor command device_del: no such device" {
		t.Errorf("got %v", err)
	}
	if err := q.wait(t.Context(), "SHUTDOWN"); err == nil {
		t.Error("an event came from a monitor that has gone")
	}
}

func TestTheForwardedPortIsReadFromTheMonitorsTable(t *testing.T) {
	const table = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n" +
		"  TCP[ESTABLISHED]   22       127.0.0.1 40001       10.0.2.15    22     0     0\n" +
		"  TCP[HOST_FORWARD]  13       127.0.0.1 41233       10.0.2.15    22     0     0\n"
	if port, err := forwardedPort(table); port != 41233 || err != nil {
		t.Errorf("got %d, %v", port, err)
	}
	if _, err := forwardedPort("Hub -1 (net):\n"); err == nil {
		t.Error("a table without a forward passes")
	}
}

func TestQuoteSurvivesTheShell(t *testing.T) {
	for _, word := range []string{"plain", "two words", "it's", "$HOME `id` \"x\"", ""} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(word)).Output()
		if diff := cmp.Diff(word, string(out)); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	l := &limited{max: 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := l.Write([]byte(s)); n != 3 || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if diff := cmp.Diff("abcde", l.String()); diff != "" {
		t.Error(diff)
	}
}
