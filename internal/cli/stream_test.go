package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// noiseFile is a file that does not get smaller when it is packed.
func noiseFile(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "noise")
	f, err := os.Create(path)
	if err == nil {
		_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), int64(size))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func buildArgs(t *testing.T, to string) []string {
	release := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(release, []byte("ID=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"image", "build", to, "--arch", "x86_64", "--os-release", release, "--bootloader", "grub",
		"--partition", "name=root,type=root,mount=/,fstype=ext4,fsuuid=3a5b8e4e-2b52-4a0e-9d0e-0a3b0b0b0b0b,file=" + noiseFile(t, 1<<20)}
}

// within fails a test in which a command goes on for too long.
const within = 20 * time.Second

func TestACommandThatWritesIntoAPipeWithoutAReaderEndsWhenItIsInterrupted(t *testing.T) {
	s := clienttest.New(clienttest.Config{Version: "1.0.0"})
	socket := filepath.Join(t.TempDir(), "sock")
	if err := s.Listen(socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"image build": buildArgs(t, pipe), "diagnose": {"diagnose", "-o", pipe, "--socket", socket}, "get": {"get", "-o", pipe, "--socket", socket},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			a, _, stderr := commandtest.New()
			ended := make(chan int)
			go func() { ended <- execute(ctx, a, args) }()
			cancel(command.ErrTerminated)
			select {
			case code := <-ended:
				if code != exitInterrupted {
					t.Errorf("exit code %d:\n%s", code, stderr)
				}
			case <-time.After(within):
				t.Fatal("it waits on")
			}
		})
	}
}

func TestACommandThatNobodyReadsFromEndsAtTheFirstSignal(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		stdin bool // what keeps the command is its input
	}{
		{"standard output", buildArgs(t, "-"), false}, {"/dev/stdout", buildArgs(t, "/dev/stdout"), false},
		{"standard input", []string{"validate", "-", "-v", "INFO"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("trident", c.args...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.stdin { // it reads once a pipe that was full has room
				if _, err := in.Write(make([]byte, 256<<10)); err != nil {
					t.Fatal(err)
				}
			} else if _, err := bufio.NewReaderSize(out, 16).Peek(1); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { _, err := cmd.Process.Wait(); ended <- err }()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(within):
				_ = cmd.Process.Kill()
				t.Fatalf("trident %v outlives the first signal", c.args[:2])
			}
		})
	}
}
