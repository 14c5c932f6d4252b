package tpm_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
)

// machine returns the files of a machine that has booted.
func machine(t *testing.T) fstest.MapFS {
	t.Helper()
	var chip tpmtest.Chip
	if err := chip.Boot(tpmtest.NewBoot(t, "1", "a")); err != nil {
		t.Fatal(err)
	}
	log, _ := chip.Log(t.Context())
	out := fstest.MapFS{
		"sys/class/tpm/tpm0/tpm_version_major":              {Data: []byte("2\n")},
		"sys/kernel/security/tpm0/binary_bios_measurements": {Data: tpmtest.FirmwareLog(log)},
		"run/log/systemd/tpm2-measure.log":                  {Data: tpmtest.SystemLog(log)},
	}
	for n, value := range chip.All() {
		out[fmt.Sprintf("sys/class/tpm/tpm0/pcr-sha256/%d", n)] = &fstest.MapFile{Data: fmt.Appendf(nil, "%X\n", value)}
	}
	return out
}

func TestTheRegistersAreThoseOfTheLog(t *testing.T) {
	t.Parallel()
	h := tpm.Host{Root: machine(t)}
	log, err := h.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Registers(t.Context(), 4, 7, 11)
	if err != nil {
		t.Fatal(err)
	}
	for n, value := range log.Replay() {
		if got[n] != value {
			t.Errorf("register %d is %s, and the log gives %s", n, got[n], value)
		}
	}
}

func TestAHostWithoutAUsableTPMSaysSo(t *testing.T) {
	t.Parallel()
	without := func(prefix string) fs.FS {
		m := machine(t)
		for name := range m {
			if strings.HasPrefix(name, prefix) {
				delete(m, name)
			}
		}
		return m
	}
	old := machine(t)
	old["sys/class/tpm/tpm0/tpm_version_major"] = &fstest.MapFile{Data: []byte("1\n")}
	locked := make([]byte, 27)
	binary.BigEndian.PutUint32(locked[19:], 0x200)
	binary.BigEndian.PutUint32(locked[23:], 1<<9)
	for want, c := range map[string]struct {
		root   fs.FS
		answer []byte
		kind   errkind.Kind
	}{
		"no TPM":         {without("sys/class"), nil, errkind.Unsupported},
		"version 1":      {old, nil, errkind.Unsupported},
		"SHA-256":        {without("sys/class/tpm/tpm0/pcr-sha256"), nil, errkind.Unsupported},
		"locked out":     {machine(t), locked, errkind.Precondition},
		"0x101":          {machine(t), []byte{9: 1, 8: 1}, errkind.Precondition},
		"not understood": {machine(t), make([]byte, 12), errkind.Corrupt},
		"response":       {machine(t), make([]byte, 3), errkind.Corrupt},
	} {
		h := tpm.Host{Root: c.root, Exchange: func([]byte) ([]byte, error) { return c.answer, nil }}
		if err := h.Check(t.Context()); errkind.Of(err) != c.kind || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v (%s)", want, err, errkind.Of(err))
		}
	}
}

func TestATPMInSoftwareIsCheckedAndCleared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := filepath.Join(dir, "socket")
	pid := filepath.Join(dir, "pid")
	tool(t, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+server,
		"--flags", "not-need-init,startup-clear", "--daemon", "--pid", "file="+pid)
	t.Cleanup(func() {
		n, err := strconv.Atoi(strings.TrimSpace(hosttest.Text(t, pid)))
		if err != nil || syscall.Kill(n, syscall.SIGTERM) != nil {
			t.Errorf("swtpm goes on: %v", err)
		}
	})
	c, err := net.Dial("unix", server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := tpm.Host{Root: machine(t), Exchange: func(command []byte) ([]byte, error) {
		if _, err := c.Write(command); err != nil {
			return nil, err
		}
		out := make([]byte, 4096)
		n, err := c.Read(out)
		return out[:n], err
	}}
	if err := h.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Clear(t.Context()); err != nil {
		t.Error(err)
	}
}
