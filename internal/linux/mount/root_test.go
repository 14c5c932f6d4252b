package mount

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// inside is set in a process that has mounts of its own, which others take over.
const inside = "TRIDENT_MOUNT_TEST"

func TestWhatIsUnmountedIsGoneForServicesWithMountsOfTheirOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "shared", os.Args[0], "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(string(out), "unshare:") {
				t.Skipf("cannot mount here: %s", out)
			}
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	service := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo here; cat")
	in, err := service.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := service.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	mounts := func(pid string) string {
		data, err := os.ReadFile("/proc/" + pid + "/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	theirs := strconv.Itoa(service.Process.Pid)
	before := mounts("self")

	var h Host
	target := filepath.Join(os.Getenv(inside), "tree")
	dev := filepath.Join(target, "dev")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mountOn(FileSystem{Source: "none", Type: "tmpfs", Options: "size=64k"}, target); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dev, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mountOn(FileSystem{Source: "/dev", Type: Bind}, dev); err != nil {
		t.Fatal(err)
	}
	if got := mounts(theirs); !strings.Contains(got, " "+dev+" ") {
		t.Errorf("the service does not see it: it proves nothing\n%s", got)
	}
	if err := h.Unmount(target); err != nil {
		t.Error(err)
	}
	if got := mounts(theirs); strings.Contains(got, target) {
		t.Errorf("the service still has\n%s", got)
	}
	if got := mounts("self"); got != before {
		t.Errorf("this host has\n%s, and had\n%s", got, before)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := service.Wait(); err != nil {
		t.Error(err)
	}
}
