package cli

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

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

func (s *system) GetVersion(context.Context, *machinev1.GetVersionRequest) (*machinev1.GetVersionResponse, error) {
	return &machinev1.GetVersionResponse{Hostname: "web", OsPrettyName: "Linux 3", Kernel: "Linux", KernelRelease: "6.6", KernelVersion: "#1", Machine: "x86_64", OsId: "linux", OsVersionId: "3"}, nil
}

func (s *system) GetUptime(context.Context, *machinev1.GetUptimeRequest) (*machinev1.GetUptimeResponse, error) {
	return &machinev1.GetUptimeResponse{Uptime: durationpb.New(90 * time.Minute), BootTime: timestamppb.New(answeredAt), BootId: "b00t"}, nil
}

func (s *system) GetMemory(context.Context, *machinev1.GetMemoryRequest) (*machinev1.GetMemoryResponse, error) {
	of := func(n uint64) *uint64 { return &n }
	return &machinev1.GetMemoryResponse{
		MemTotal: of(8 << 30), MemFree: of(1 << 30), MemAvailable: of(6 << 30), Cached: of(3 << 30), SwapTotal: of(1 << 30), SwapFree: of(1 << 29),
		Dirty: of(4096), HugePagesTotal: of(4), HugePagesFree: of(3), HugePageSize: of(2 << 20),
	}, nil
}

func (s *system) GetCpus(context.Context, *machinev1.GetCpusRequest) (*machinev1.GetCpusResponse, error) {
	one := uint32(1)
	return &machinev1.GetCpusResponse{
		Models: []*machinev1.CpuModel{{Vendor: "Acme", Model: "9", CacheBytes: 1 << 20, Flags: []string{"fpu", "aes"}}},
		Cpus:   []*machinev1.Cpu{{Number: 0, PackageId: &one, CurrentHertz: 1_500_000_000, MinHertz: 800_000_000, MaxHertz: 3_000_000_000, Governor: "powersave"}, {Number: 1}},
	}, nil
}

// GetStat has a second of work and a second of idling more at each question.
func (s *system) GetStat(context.Context, *machinev1.GetStatRequest) (*machinev1.GetStatResponse, error) {
	spent := durationpb.New(time.Duration(s.questions.Load()) * time.Second)
	return &machinev1.GetStatResponse{Total: &machinev1.CpuTimes{User: spent, Idle: spent}, SoftInterrupts: 77, Forks: 5, BootTime: timestamppb.New(answeredAt)}, nil
}

func (s *system) ListDisks(context.Context, *machinev1.ListDisksRequest) (*machinev1.ListDisksResponse, error) {
	return &machinev1.ListDisksResponse{Disks: []*machinev1.Disk{{Name: "sda", Size: 1 << 30}, {Name: "sda1", Parent: "sda", Size: 1 << 29, MountPoints: []string{"/"}}}}, nil
}

func (s *system) ListMounts(context.Context, *machinev1.ListMountsRequest) (*machinev1.ListMountsResponse, error) {
	size := uint64(1 << 30)
	return &machinev1.ListMountsResponse{Mounts: []*machinev1.MountPoint{{Target: "/", Type: "ext4", Source: "/dev/sda1", Size: &size, Free: &size, Available: &size}}}, nil
}

func (s *system) ListNetworkDevices(context.Context, *machinev1.ListNetworkDevicesRequest) (*machinev1.ListNetworkDevicesResponse, error) {
	return &machinev1.ListNetworkDevicesResponse{Devices: []*machinev1.NetworkDevice{{Name: "eth0", Addresses: []string{"192.0.2.7/24"}}}}, nil
}

func (s *system) ListSockets(in *machinev1.ListSocketsRequest, out grpc.ServerStreamingServer[machinev1.ListSocketsResponse]) error {
	all := []*machinev1.Socket{
		{Protocol: machinev1.SocketProtocol_SOCKET_PROTOCOL_TCP, IsIpv6: true, State: machinev1.SocketState_SOCKET_STATE_LISTEN, LocalAddress: "::", LocalPort: 22, RemoteAddress: "::"},
	}
	if in.GetWithProcesses() {
		all[0].Pid, all[0].Command = 9, "sshd"
	}
	return out.Send(&machinev1.ListSocketsResponse{Sockets: all})
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

func TestCommandsThatShowTheSystem(t *testing.T) {
	fleet(t, map[string]*clienttest.Config{"a": {System: &system{}}})
	for args, parts := range map[string][]string{
		"version -o wide":              {"Linux 6.6", "Linux 3", "linux 3", "#1"},
		"uptime":                       {"1h 30m", "b00t"},
		"memory -o wide":               {"RAM     8.0 GiB  2.0 GiB    1.0 GiB    6.0 GiB    3.0 GiB", "swap    1.0 GiB  512.0 MiB  512.0 MiB  -", "3 of 4 free, 2.0 MiB each"},
		"cpu -o wide":                  {"Acme 9", "fpu aes", "0.80 GHz to 3.00 GHz", "powersave", "1    -        -     -         -"},
		"stat -o wide":                 {"Soft interrupts", "77", "5 begun since the boot"},
		"disks":                        {"sda1"},
		"mounts":                       {"/dev/sda1"},
		"network":                      {"eth0", "192.0.2.7/24"},
		"netstat -p":                   {"tcp6", "[::]:22", "[::]:*", "9 sshd"},
		"processes":                    {"worker"},
		"top --interval 100ms":         {"Memory", "2.0 GiB of 8.0 GiB", "512.0 MiB of 1.0 GiB", "50.0 %", "worker"},
		"top --interval 100ms -o json": {`"cpuPercent": 50`, `"memoryTotal": 8589934592`, `"command": "worker"`},
		"top --interval 100ms --sort pid --limit 1": {"1    0.0 %"},
		"top --interval 100ms --sort memory":        {"worker"},
	} {
		code, stdout, stderr := trident(t, append([]string{"host", "--host", "a"}, strings.Fields(args)...)...)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d: %s", args, code, stderr)
		}
		for _, part := range parts {
			if !strings.Contains(stdout, part) {
				t.Errorf("%s: %q is missing in\n%s", args, part, stdout)
			}
		}
	}
	fleet(t, map[string]*clienttest.Config{"old": {Upstream: true}})
	for _, name := range []string{"version", "uptime", "memory", "cpu", "stat", "disks", "mounts", "network", "netstat", "processes", "top"} {
		if code, stdout, stderr := trident(t, "host", name, "--host", "old"); code == 0 || stdout != "" || !strings.Contains(stderr, "does not have") {
			t.Errorf("%s of a daemon without the service: exit code %d\n%s%s", name, code, stdout, stderr)
		}
	}
}

func TestTopGoesOnUntilAnInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	fleet(t, map[string]*clienttest.Config{"a": {System: &system{last: 3, end: func() { cancel(command.ErrInterrupted) }}}})
	a, stdout, _ := commandtest.New()
	code := execute(ctx, a, []string{"host", "top", "--host", "a", "--watch", "--interval", "100ms", "--output", "json"})
	if code != exitInterrupted || !strings.Contains(stdout.String(), `"load1":2`) {
		t.Errorf("exit code %d:\n%s", code, stdout)
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
