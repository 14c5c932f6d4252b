// Package machine has the calls of the API about the running system of the host: it converts
// requests, reads the kernel, and converts the results.
package machine

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/machine/network"
	"github.com/trident-project/trident/internal/machine/system"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// pageSize is the number of entries in a message of a stream.
const pageSize = 500

// maxOwners bounds the calls that find the processes of sockets at the same time.
const maxOwners = 4

// maxPIDs bounds the processes that a request names.
const maxPIDs = 1000

// A System serves SystemService.
type System struct {
	machinev1.UnimplementedSystemServiceServer
	root   string
	reader *system.Reader
	// owners has the calls that know the processes of all sockets, which may need 16 MiB each.
	owners chan struct{}
}

// NewSystem returns the service for a host whose OS is below root. Everything else is that of
// the running kernel, whatever root is.
func NewSystem(root string) *System {
	return &System{root: root, reader: system.New("/"), owners: make(chan struct{}, maxOwners)}
}

// GetVersion names the host, its OS and its kernel. A host without os-release(5) has no OS in
// the answer.
func (s *System) GetVersion(context.Context, *machinev1.GetVersionRequest) (*machinev1.GetVersionResponse, error) {
	v, err := s.reader.Version()
	if err != nil {
		return nil, err
	}
	out := &machinev1.GetVersionResponse{
		Hostname: text(v.Hostname), Kernel: text(v.Kernel), KernelRelease: text(v.Release), KernelVersion: text(v.KernelBuild), Machine: text(v.Machine),
	}
	if os, err := hostinfo.Read(s.root); err == nil {
		out.OsId, out.OsVersionId, out.OsPrettyName = text(os.ID), text(os.VersionID), text(os.PrettyName)
	}
	return out, nil
}

// GetUptime says when the host has booted.
func (s *System) GetUptime(context.Context, *machinev1.GetUptimeRequest) (*machinev1.GetUptimeResponse, error) {
	u, err := s.reader.Uptime()
	if err != nil {
		return nil, err
	}
	return &machinev1.GetUptimeResponse{Uptime: durationpb.New(u.Since), BootTime: timestamppb.New(u.Boot), BootId: text(u.BootID)}, nil
}

// GetLoad returns the load averages.
func (s *System) GetLoad(context.Context, *machinev1.GetLoadRequest) (*machinev1.GetLoadResponse, error) {
	l, err := s.reader.Load()
	if err != nil {
		return nil, err
	}
	return &machinev1.GetLoadResponse{Load1: l.Load1, Load5: l.Load5, Load15: l.Load15, TasksRunnable: l.Runnable, TasksTotal: l.Tasks}, nil
}

// GetMemory returns the use of the memory.
func (s *System) GetMemory(context.Context, *machinev1.GetMemoryRequest) (*machinev1.GetMemoryResponse, error) {
	m, err := s.reader.Memory()
	if err != nil {
		return nil, err
	}
	return memoryToWire(m), nil
}

// GetCpus returns the CPUs that are online.
func (s *System) GetCpus(context.Context, *machinev1.GetCpusRequest) (*machinev1.GetCpusResponse, error) {
	all, err := s.reader.CPUs()
	if err != nil {
		return nil, err
	}
	return cpusToWire(all), nil
}

// GetStat returns the times of the CPUs and the counters of the kernel.
func (s *System) GetStat(context.Context, *machinev1.GetStatRequest) (*machinev1.GetStatResponse, error) {
	stat, err := s.reader.Stat()
	if err != nil {
		return nil, err
	}
	return statToWire(stat), nil
}

// ListDisks returns the block devices.
func (s *System) ListDisks(ctx context.Context, _ *machinev1.ListDisksRequest) (*machinev1.ListDisksResponse, error) {
	all, err := s.reader.Disks(ctx)
	if err != nil {
		return nil, err
	}
	out := &machinev1.ListDisksResponse{}
	for _, d := range all {
		out.Disks = append(out.Disks, diskToWire(d))
	}
	return out, nil
}

// ListMounts returns the mounts.
func (s *System) ListMounts(ctx context.Context, _ *machinev1.ListMountsRequest) (*machinev1.ListMountsResponse, error) {
	all, err := s.reader.Mounts(ctx)
	if err != nil {
		return nil, err
	}
	out := &machinev1.ListMountsResponse{}
	for _, m := range all {
		out.Mounts = append(out.Mounts, mountToWire(m))
	}
	return out, nil
}

// ListNetworkDevices returns the network devices.
func (s *System) ListNetworkDevices(ctx context.Context, _ *machinev1.ListNetworkDevicesRequest) (*machinev1.ListNetworkDevicesResponse, error) {
	all, err := network.Devices(ctx)
	if err != nil {
		return nil, err
	}
	out := &machinev1.ListNetworkDevicesResponse{}
	for _, d := range all {
		out.Devices = append(out.Devices, deviceToWire(d))
	}
	return out, nil
}

// ListSockets sends the sockets in pages. At most maxOwners calls at a time find their
// processes.
func (s *System) ListSockets(req *machinev1.ListSocketsRequest, stream grpc.ServerStreamingServer[machinev1.ListSocketsResponse]) error {
	filter, err := filterFromWire(req)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	var owners map[uint64]network.Owner
	if req.GetWithProcesses() {
		select {
		case s.owners <- struct{}{}:
			defer func() { <-s.owners }()
		default: // a call that a slow caller holds up must not hold up this one
			return errkind.WithHint(errkind.Errorf(errkind.Unavailable, "find the processes of sockets: %d other calls do so", maxOwners),
				"try again, or ask without the processes")
		}
		if owners, err = network.Owners(ctx, "/proc"); err != nil {
			return err
		}
	}
	page := pages[*machinev1.Socket]{send: func(all []*machinev1.Socket) error {
		return stream.Send(&machinev1.ListSocketsResponse{Sockets: all})
	}}
	err = network.Sockets(ctx, filter, func(found network.Socket) error {
		return page.add(socketToWire(found, owners[found.Inode]))
	})
	if err != nil {
		return err
	}
	return page.end()
}

// ListProcesses sends the processes in pages.
func (s *System) ListProcesses(req *machinev1.ListProcessesRequest, stream grpc.ServerStreamingServer[machinev1.ListProcessesResponse]) error {
	if err := checkPIDs(req.GetPids()); err != nil {
		return err
	}
	page := pages[*machinev1.Process]{send: func(all []*machinev1.Process) error {
		return stream.Send(&machinev1.ListProcessesResponse{Processes: all})
	}}
	err := s.reader.Processes(stream.Context(), req.GetPids(), func(p system.Process) error { return page.add(processToWire(p)) })
	if err != nil {
		return err
	}
	return page.end()
}

// GetArguments returns command lines until the answer has maxArguments bytes.
func (s *System) GetArguments(ctx context.Context, req *machinev1.GetArgumentsRequest) (*machinev1.GetArgumentsResponse, error) {
	if len(req.GetPids()) == 0 {
		return nil, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: pids is missing"), "pids")
	}
	if err := checkPIDs(req.GetPids()); err != nil {
		return nil, err
	}
	out, size := &machinev1.GetArgumentsResponse{}, 0
	err := s.reader.Arguments(ctx, req.GetPids(), func(a system.Arguments) error {
		one := &machinev1.ProcessArguments{Pid: a.PID, IsTruncated: a.Truncated}
		for _, word := range a.Words {
			one.Arguments = append(one.Arguments, text(word))
			size += len(word)
		}
		if size > maxArguments {
			return errkind.WithHint(errkind.Errorf(errkind.TooLarge, "read the arguments of processes: they have more than %d bytes together", maxArguments),
				"name fewer processes in one call")
		}
		out.Processes = append(out.Processes, one)
		return nil
	})
	return out, err
}

// maxArguments bounds the command lines of an answer together, in bytes.
const maxArguments = 2 << 20

func checkPIDs(pids []int32) error {
	if len(pids) > maxPIDs {
		return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d processes, at most %d are permitted", len(pids), maxPIDs), "pids")
	}
	for i, pid := range pids {
		if pid < 1 {
			return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: pids[%d] is %d, and must be at least 1", i, pid), fmt.Sprintf("pids[%d]", i))
		}
	}
	return nil
}

// pages sends entries in messages of pageSize.
type pages[T any] struct {
	send func([]T) error
	all  []T
}

func (p *pages[T]) add(one T) error {
	if p.all = append(p.all, one); len(p.all) < pageSize {
		return nil
	}
	return p.end()
}

// end sends what is left.
func (p *pages[T]) end() error {
	if len(p.all) == 0 {
		return nil
	}
	all := p.all
	p.all = nil
	return p.send(all)
}
