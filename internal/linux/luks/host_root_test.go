//go:build root

package luks_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/luks/lukstest"
	"github.com/trident-project/trident/internal/linux/run"
)

// enter runs a command in a tree that sees the folder of the test at /mnt.
const enter = `set -e; tree=$1 dir=$2; shift 2
mount --bind "$dir" "$tree/mnt"; mount -t proc proc "$tree/proc"; mount --rbind /dev "$tree/dev"
exec chroot "$tree" "$@"`

// workshop runs the tools of Debian 13 on files and a TPM in software. Older tools cannot bind
// to literal registers.
type workshop struct {
	tree, dir string
	tpm       string // as the tools name it
}

func (w workshop) run(ctx context.Context, c run.Command) ([]byte, error) {
	args := []string{"--mount", "--propagation=private", "sh", "-c", enter, "sh", w.tree, w.dir, c.Path}
	for _, a := range c.Args {
		args = append(args, strings.ReplaceAll(a, w.dir, "/mnt"))
	}
	return run.Output(ctx, run.Command{Path: "unshare", Args: args, Stdin: c.Stdin})
}

// needTree returns the tree of Debian 13, or skips the test.
func needTree(t *testing.T) string {
	t.Helper()
	tree := os.Getenv("TRIDENT_TRIXIE_TREE")
	for _, tool := range []string{"systemd-cryptenroll", "tpm2_pcrread"} {
		if _, err := os.Stat(filepath.Join(tree, "usr/bin", tool)); tree == "" || err != nil {
			t.Skipf("TRIDENT_TRIXIE_TREE names no tree of Debian 13 with %s", tool)
		}
	}
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed")
	}
	return tree
}

func newWorkshop(t *testing.T) workshop {
	t.Helper()
	w := workshop{tree: needTree(t), dir: t.TempDir()}
	port := freePorts(t)
	w.tpm = fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)
	pid := filepath.Join(w.dir, "pid")
	args := []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + w.dir, "--server", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port+1), "--flags", "not-need-init,startup-clear",
		"--daemon", "--pid", "file=" + pid,
	}
	if _, err := run.Output(t.Context(), run.Command{Path: "swtpm", Args: args}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		text, err := os.ReadFile(pid)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err := errors.Join(err, syscall.Kill(n, syscall.SIGTERM)); err != nil {
			t.Error(err)
		}
	})
	return w
}

// freePorts returns the first of two ports in sequence that nobody uses.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		first.Close()
		if err == nil {
			second.Close()
			return port
		}
	}
	t.Fatal("no two free ports in sequence")
	return 0
}

func (w workshop) tool(t *testing.T, name string, args ...string) {
	t.Helper()
	args = append(args, "-T", w.tpm)
	if _, err := w.run(context.Background(), run.Command{Path: name, Args: args}); err != nil {
		t.Fatal(err)
	}
}

func TestTheRealToolsPassTheSuite(t *testing.T) {
	lukstest.Suite(t, func(t *testing.T) lukstest.Bench {
		w := newWorkshop(t)
		file := filepath.Join(w.dir, "volume")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 20<<20)); err != nil {
			t.Fatal(err)
		}
		return lukstest.Bench{
			Manager: luks.Host{Run: w.run, TPM: w.tpm},
			Volume:  luks.Volume{Device: file, Name: "data", UUID: "11111111-2222-4333-8444-555555555555"},
			Registers: func() map[int][]byte {
				out := map[int][]byte{}
				for _, n := range []int{7, 23} {
					name := filepath.Join(w.dir, "pcr")
					w.tool(t, "tpm2_pcrread", "-o", name, fmt.Sprintf("sha256:%d", n))
					value, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					out[n] = value
				}
				return out
			},
			Extend: func(n int, by [32]byte) {
				w.tool(t, "tpm2_pcrextend", fmt.Sprintf("%d:sha256=%s", n, hex.EncodeToString(by[:])))
			},
		}
	})
}

// A process that is killed while it binds a key leaves a header that can be read, and at most
// one key slot more.
func TestAKilledEnrolmentIsRepeated(t *testing.T) {
	w := newWorkshop(t)
	file := filepath.Join(w.dir, "volume")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 20<<20)); err != nil {
		t.Fatal(err)
	}
	h := luks.Host{Run: w.run, TPM: w.tpm}
	v := luks.Volume{Device: file, Name: "data", UUID: "11111111-2222-4333-8444-555555555555"}
	key := luks.Key("key")
	if err := h.Format(t.Context(), v, key); err != nil {
		t.Fatal(err)
	}
	to := func(n byte) luks.Binding {
		return luks.Binding{PCRs: map[int][]byte{23: bytes.Repeat([]byte{n}, 32)}}
	}
	begun := time.Now()
	if _, err := h.Enroll(t.Context(), v, key, to(0xff)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	const cases = 12
	killed := 0
	for n := range byte(cases) {
		ctx, cancel := context.WithTimeout(t.Context(), took*time.Duration(n+1)/cases)
		_, err := h.Enroll(ctx, v, key, to(n))
		cancel()
		if err != nil {
			killed++
		}
		head, err := h.Header(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		halves := head.Bare()[1:]
		if len(halves) > 1 {
			t.Errorf("case %d: slots without a token: %v", n, halves)
		}
		for _, slot := range halves {
			if err := h.KillSlot(t.Context(), v, slot); err != nil {
				t.Fatal(err)
			}
		}
		token, err := h.Enroll(t.Context(), v, key, to(n))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.Test(t.Context(), v, key), h.Wipe(t.Context(), v, token)); err != nil {
			t.Fatal(err)
		}
	}
	if head, err := h.Header(t.Context(), file); err != nil || len(head.Tokens) != 1 || len(head.Slots) != 2 || killed == 0 {
		t.Errorf("%d killed: %+v, %v", killed, head, err)
	}
}
