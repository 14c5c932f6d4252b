package run

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAStreamHasTheOutputAndTheEndOfATool(t *testing.T) {
	s, err := Host{}.Stream(t.Context(), "sh", "-c", "echo one; echo two")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := io.ReadAll(s); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("%q, %v", got, err)
	}
	bad, err := Host{}.Stream(t.Context(), "sh", "-c", "echo one; echo broken >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	got, err := io.ReadAll(bad)
	if exit, ok := errors.AsType[*ExitError](err); string(got) != "one\n" || !ok || exit.Output != "broken" || exit.Status != "exit status 3" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (Host{}).Stream(t.Context(), "no-such-tool"); errkind.Of(err) != errkind.Precondition {
		t.Errorf("got %v", err)
	}
}

// The tool starts another process, and both end with Close or with the context.
func TestTheEndOfAStreamKillsTheTool(t *testing.T) {
	for _, byContext := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := Host{}.Stream(ctx, "sh", "-c", "sleep 1000 & echo $!; yes")
		if err != nil {
			t.Fatal(err)
		}
		pid, err := bufio.NewReaderSize(s, 16).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(pid))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(child, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if byContext {
			cancel()
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		_ = s.Close()
		cancel()
		// A descriptor of a process is readable when the process has ended (pidfd_open(2)).
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000); n != 1 || err != nil {
			t.Errorf("the child runs on: %v", err)
		}
	}
}
