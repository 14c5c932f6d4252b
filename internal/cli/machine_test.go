package cli

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/proto/client/clienttest"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// system is a host whose load grows with each question. At the question number last it calls
// end.
type system struct {
	machinev1.UnimplementedSystemServiceServer
	questions atomic.Int64
	last      int64
	end       func()
}

func (s *system) GetLoad(context.Context, *machinev1.GetLoadRequest) (*machinev1.GetLoadResponse, error) {
	n := s.questions.Add(1)
	if n == s.last {
		s.end()
	}
	return &machinev1.GetLoadResponse{Load1: float64(n), TasksTotal: 7}, nil
}

func (s *system) ListProcesses(_ *machinev1.ListProcessesRequest, stream grpc.ServerStreamingServer[machinev1.ListProcessesResponse]) error {
	for pid := range int32(2) {
		page := &machinev1.ListProcessesResponse{Processes: []*machinev1.Process{{Pid: pid + 1, Command: "worker", Executable: "/usr/bin/worker"}}}
		if err := stream.Send(page); err != nil {
			return err
		}
	}
	return nil
}

func TestTheSystemOfSeveralHostsIsOneTable(t *testing.T) {
	fleet(t, map[string]*clienttest.Config{"a": {System: &system{}}, "b": {System: &system{}}, "old": {Upstream: true}})
	code, stdout, stderr := trident(t, "host", "load", "--host", "a,b")
	if lines := strings.Split(stdout, "\n"); code != 0 || len(lines) < 3 || !strings.HasPrefix(lines[0], "HOST  1 MINUTE") || !strings.HasPrefix(lines[1], "a     1.00") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = trident(t, "host", "processes", "--host", "a,b", "--output", "wide")
	if code != 0 || strings.Count(stdout, "/usr/bin/worker") != 4 {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr = trident(t, "host", "load", "--host", "a,b", "--watch"); code != 2 || !strings.Contains(stderr, "--watch works on one host") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr = trident(t, "host", "load", "--host", "old"); code == 0 || !strings.Contains(stderr, "does not have GetLoad") {
		t.Errorf("a daemon without the service: exit code %d: %s", code, stderr)
	}
}

func TestWatchGoesOnUntilAnInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := &system{last: 3, end: func() { cancel(command.ErrInterrupted) }}
	fleet(t, map[string]*clienttest.Config{"a": {System: s}})
	a, stdout, _ := commandtest.New()
	code := execute(ctx, a, []string{"host", "load", "--host", "a", "--watch", "--interval", "100ms", "--output", "json"})
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if code != exitInterrupted || len(lines) < 2 || !strings.Contains(lines[1], `"load1":2`) {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}
