package daemon

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
	"github.com/trident-project/trident/proto/client"
)

// The gateway of the host is restarted in the version of the extension at the start of the
// daemon and after each operation, but not during one.
func TestAGatewayWhoseProgramWasReplacedIsRestartedWhenNoOperationIsUnsettled(t *testing.T) {
	const unit = "trident-gateway.service"
	root := shortDir(t)
	program := filepath.Join(root, "usr/bin/trident-gateway")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	install := func(tail string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program+".new", append(data[:len(data):len(data)], tail...), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	install("")
	running := exec.Command(program, "infinity")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = running.Process.Kill(), running.Wait() })
	state := systemd.Unit{Active: "active", Sub: "running", MainPID: uint32(running.Process.Pid)}

	asked, restarted := make(chan struct{}, 100), make(chan struct{}, 100)
	bus := &systemdtest.Fake{Hook: func(_ context.Context, c systemdtest.Call) error {
		switch {
		case c.Unit == unit && c.Method == "Unit":
			asked <- struct{}{}
		case c.Unit == unit && c.Method == "Restart":
			restarted <- struct{}{}
		}
		return nil
	}}
	bus.Set(unit, state)
	c := testConfig(root)
	c.Systemd = bus
	socket, stop := start(t, c)
	wait := func(event chan struct{}, what string) {
		t.Helper()
		select {
		case <-event:
		case <-soon(t).Done():
			t.Fatal(what)
		}
	}
	wait(asked, "the daemon does not look at the gateway at its start")

	api, err := client.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	bytes, sender := io.Pipe()
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		_, err := api.Stage(soon(t), client.Source{Upload: bytes, Size: 1 << 20}, false, func(*client.Event) {
			if first {
				first = false
				close(begun)
			}
		})
		ended <- err
	}()
	wait(begun, "the operation does not begin")
	install("2")
	if len(asked)+len(restarted) > 0 {
		t.Errorf("during an operation the daemon asked %d times for the gateway, and restarted it %d times", len(asked), len(restarted))
	}
	_ = sender.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-ended; err == nil {
		t.Fatal("the upload has ended well")
	}
	wait(restarted, "the daemon does not restart the gateway after the operation")
	stop()

	bus.Set(unit, state) // as if the restart had been lost
	_, stop = start(t, c)
	wait(restarted, "the next daemon does not restart the gateway")
	stop()
}
