package machine

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/machine/network"
	"github.com/trident-project/trident/internal/machine/system"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// text returns s as the UTF-8 that a message requires. Names of processes and files may
// contain any bytes.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = text(s)
	}
	return out
}

func cpusToWire(all system.CPUs) *machinev1.GetCpusResponse {
	out := &machinev1.GetCpusResponse{}
	for _, c := range all.All {
		out.Cpus = append(out.Cpus, &machinev1.Cpu{
			Number: c.Number, ModelIndex: uint32(c.Model), PackageId: c.Package, CoreId: c.Core, //nolint:gosec // an index
			CurrentHertz: c.Current, MinHertz: c.Min, MaxHertz: c.Max, Governor: text(c.Governor),
		})
	}
	for _, m := range all.Models {
		out.Models = append(out.Models, &machinev1.CpuModel{
			Vendor: text(m.Vendor), Name: text(m.Name), Family: text(m.Family), Model: text(m.Model), Stepping: text(m.Stepping), Microcode: text(m.Microcode),
			CacheBytes: m.Cache, Flags: texts(m.Flags), Bugs: texts(m.Bugs),
		})
	}
	return out
}

func statToWire(s system.Stat) *machinev1.GetStatResponse {
	out := &machinev1.GetStatResponse{
		Total: timesToWire(s.Total), Interrupts: s.Interrupts, SoftInterrupts: s.SoftInterrupts, ContextSwitches: s.ContextSwitches, Forks: s.Forks,
		ProcessesRunning: s.Running, ProcessesBlocked: s.Blocked,
	}
	if !s.Boot.IsZero() {
		out.BootTime = timestamppb.New(s.Boot)
	}
	for _, c := range s.CPUs {
		out.Cpus = append(out.Cpus, &machinev1.CpuStat{Number: c.Number, Times: timesToWire(c.Times)})
	}
	return out
}

func timesToWire(t system.Times) *machinev1.CpuTimes {
	return &machinev1.CpuTimes{
		User: durationpb.New(t.User), Nice: durationpb.New(t.Nice), System: durationpb.New(t.System), Idle: durationpb.New(t.Idle),
		Iowait: durationpb.New(t.Iowait), Irq: durationpb.New(t.IRQ), SoftIrq: durationpb.New(t.SoftIRQ), Steal: durationpb.New(t.Steal),
		Guest: durationpb.New(t.Guest), GuestNice: durationpb.New(t.GuestNice),
	}
}

func diskToWire(d system.Disk) *machinev1.Disk {
	s := d.Statistics
	return &machinev1.Disk{
		Name: text(d.Name), Kind: kindToWire(d.Kind), Major: d.Major, Minor: d.Minor, Parent: text(d.Parent), Size: d.Size,
		LogicalBlockSize: d.LogicalBlockSize, ReadOnly: d.ReadOnly, Removable: d.Removable, Rotational: d.Rotating,
		Model: text(d.Model), Serial: text(d.Serial), Wwid: text(d.WWID), MapperName: text(d.MapperName), Members: texts(d.Members),
		MountPoints: texts(d.MountPoints), Statistics: &machinev1.DiskStatistics{
			Reads: s.Reads, ReadsMerged: s.ReadsMerged, BytesRead: s.BytesRead, ReadTime: durationpb.New(s.ReadTime),
			Writes: s.Writes, WritesMerged: s.WritesMerged, BytesWritten: s.BytesWritten, WriteTime: durationpb.New(s.WriteTime),
			InFlight: s.InFlight, BusyTime: durationpb.New(s.BusyTime), WeightedTime: durationpb.New(s.WeightedTime),
			Discards: s.Discards, DiscardsMerged: s.DiscardsMerged, BytesDiscarded: s.BytesDiscarded, DiscardTime: durationpb.New(s.DiscardTime),
			Flushes: s.Flushes, FlushTime: durationpb.New(s.FlushTime),
		},
	}
}

func kindToWire(k system.BlockKind) machinev1.BlockKind {
	switch k {
	case system.PlainDisk:
		return machinev1.BlockKind_BLOCK_KIND_DISK
	case system.Partition:
		return machinev1.BlockKind_BLOCK_KIND_PARTITION
	case system.Loop:
		return machinev1.BlockKind_BLOCK_KIND_LOOP
	case system.RAID:
		return machinev1.BlockKind_BLOCK_KIND_RAID
	case system.Mapped:
		return machinev1.BlockKind_BLOCK_KIND_MAPPED
	case system.Optical:
		return machinev1.BlockKind_BLOCK_KIND_OPTICAL
	case system.InMemory:
		return machinev1.BlockKind_BLOCK_KIND_MEMORY
	}
	return machinev1.BlockKind_BLOCK_KIND_UNSPECIFIED
}

func mountToWire(m system.Mount) *machinev1.MountPoint {
	out := &machinev1.MountPoint{
		Source: text(m.Source), Target: text(m.Target), Type: text(m.Type), Options: texts(m.Options), Root: text(m.Root), Major: m.Major, Minor: m.Minor,
		IsUnresponsive: m.Unresponsive,
	}
	if s := m.Space; s != nil {
		out.Size, out.Free, out.Available, out.Files, out.FilesFree = &s.Size, &s.Free, &s.Available, &s.Files, &s.FilesFree
	}
	return out
}

func processToWire(p system.Process) *machinev1.Process {
	return &machinev1.Process{
		Pid: p.PID, Ppid: p.PPID, State: processStateToWire(p.State), Threads: p.Threads, CpuTime: durationpb.New(p.CPU), VirtualMemory: p.Virtual,
		ResidentMemory: p.Resident, Command: text(p.Command), Executable: text(p.Executable), StartTime: timestamppb.New(p.Start), Uid: p.UID, IsKernel: p.IsKernel,
	}
}

func processStateToWire(s system.ProcessState) machinev1.ProcessState {
	switch s {
	case system.StateRunning:
		return machinev1.ProcessState_PROCESS_STATE_RUNNING
	case system.StateSleeping:
		return machinev1.ProcessState_PROCESS_STATE_SLEEPING
	case system.StateBlocked:
		return machinev1.ProcessState_PROCESS_STATE_BLOCKED
	case system.StateZombie:
		return machinev1.ProcessState_PROCESS_STATE_ZOMBIE
	case system.StateStopped:
		return machinev1.ProcessState_PROCESS_STATE_STOPPED
	case system.StateTraced:
		return machinev1.ProcessState_PROCESS_STATE_TRACED
	case system.StateDead:
		return machinev1.ProcessState_PROCESS_STATE_DEAD
	case system.StateIdle:
		return machinev1.ProcessState_PROCESS_STATE_IDLE
	case system.StateParked:
		return machinev1.ProcessState_PROCESS_STATE_PARKED
	}
	return machinev1.ProcessState_PROCESS_STATE_UNSPECIFIED
}

func deviceToWire(d network.Device) *machinev1.NetworkDevice {
	out := &machinev1.NetworkDevice{
		Name: text(d.Name), Index: d.Index, Kind: text(d.Kind), HardwareAddress: d.Address, Mtu: d.MTU, State: linkStateToWire(d.State),
		IsEnabled: d.Enabled, IsLoopback: d.Loopback, IsPromiscuous: d.Promiscuous, MasterIndex: d.Master,
		Statistics: &machinev1.NetworkStatistics{
			BytesReceived: d.Statistics.BytesReceived, PacketsReceived: d.Statistics.PacketsReceived,
			ReceiveErrors: d.Statistics.ReceiveErrors, ReceiveDropped: d.Statistics.ReceiveDropped,
			BytesSent: d.Statistics.BytesSent, PacketsSent: d.Statistics.PacketsSent, SendErrors: d.Statistics.SendErrors, SendDropped: d.Statistics.SendDropped,
			MulticastReceived: d.Statistics.Multicast, Collisions: d.Statistics.Collisions,
		},
	}
	for _, p := range d.Prefixes {
		out.Addresses = append(out.Addresses, p.String())
	}
	return out
}

// linkStateToWire uses that the enum has the values of RFC 2863 in Linux, each plus one.
func linkStateToWire(s uint8) machinev1.LinkState {
	state := machinev1.LinkState(s) + machinev1.LinkState_LINK_STATE_UNKNOWN
	if _, ok := machinev1.LinkState_name[int32(state)]; !ok {
		return machinev1.LinkState_LINK_STATE_UNKNOWN
	}
	return state
}

// protocols has the protocols of the API and those of the reader.
func protocols() map[machinev1.SocketProtocol]network.Protocol {
	return map[machinev1.SocketProtocol]network.Protocol{
		machinev1.SocketProtocol_SOCKET_PROTOCOL_TCP: network.TCP, machinev1.SocketProtocol_SOCKET_PROTOCOL_UDP: network.UDP,
		machinev1.SocketProtocol_SOCKET_PROTOCOL_UNIX: network.Unix,
	}
}

// filterFromWire refuses protocols and states that the API does not have. The values of the
// states are those of the kernel.
func filterFromWire(req *machinev1.ListSocketsRequest) (f network.Filter, err error) {
	for i, p := range req.GetProtocols() {
		known, ok := protocols()[p]
		if !ok {
			return f, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d is not a protocol of sockets", p), fmt.Sprintf("protocols[%d]", i))
		}
		f.Protocols = append(f.Protocols, known)
	}
	for i, s := range req.GetStates() {
		if s < network.StateEstablished || s > network.StateClosing {
			return f, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d is not a state of sockets", s), fmt.Sprintf("states[%d]", i))
		}
		f.States = append(f.States, uint8(s))
	}
	return f, nil
}

func socketToWire(s network.Socket, owner network.Owner) *machinev1.Socket {
	out := &machinev1.Socket{
		IsIpv6: s.IPv6, State: machinev1.SocketState(s.State), LocalAddress: text(s.Local), LocalPort: uint32(s.LocalPort),
		RemoteAddress: s.Remote, RemotePort: uint32(s.RemotePort), ReceiveQueue: s.ReceiveQueue, SendQueue: s.SendQueue, Uid: s.UID, Inode: s.Inode,
		Pid: owner.PID, Command: text(owner.Command),
	}
	for wire, known := range protocols() {
		if known == s.Protocol {
			out.Protocol = wire
		}
	}
	return out
}
