//go:build root

package luks_test

import (
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
