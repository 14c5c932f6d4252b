package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	chipFolder = "tpm"      // what the chip keeps without power
	chipSocket = "tpm.sock" // control channel of swtpm
)

// chip is the TPM of one run of QEMU: a process of swtpm, which ends with that run.
type chip struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startChip starts a TPM that keeps its state in the folder, which it makes.
func startChip(ctx context.Context, folder, socket string) (*chip, error) {
	program, err := lookTool("swtpm")
	if err != nil {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "the lab lacks the TPM for guests: %w", err), "apt-get install swtpm")
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	c := &chip{done: make(chan struct{})}
	c.cmd = exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+folder, "--ctrl", "type=unixio,path="+socket, "--terminate")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the TPM of a guest: %w", err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	for { // swtpm makes its socket a moment after it starts
		if _, err := os.Stat(socket); err == nil {
			return c, nil
		}
		select {
		case <-c.done:
			return nil, errors.New("start the TPM of a guest: swtpm ended at once")
		default:
		}
		if err := pause(ctx, pollPause); err != nil {
			c.stop()
			return nil, err
		}
	}
}

// stop ends the process. A TPM has saved each change before it answers.
func (c *chip) stop() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// chipArgs returns QEMU's arguments for the TPM.
func chipArgs(socket string) []string {
	return []string{"-chardev", "socket,id=tpm,path=" + socket, "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"}
}
