package machine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

const evil = commandtest.Evil

func number(n uint64) *uint64 { return &n }

// Each table shows names from the host: of processes, of sockets, of disks.
func TestNoNameOfTheHostActsOnTheTerminal(t *testing.T) {
	for name, tt := range map[string]struct {
		lines int
		show  func(*command.App) error
	}{
		"disks": {2, func(a *command.App) error {
			all := &machinev1.ListDisksResponse{Disks: []*machinev1.Disk{{Name: evil, Parent: evil, MapperName: evil, Size: 1, MountPoints: []string{evil}, Model: evil}}}
			return a.Show(all, func(w *terminal.Table) { writeDisks(w, all, nil, true) })
		}},
		"mounts": {2, func(a *command.App) error {
			all := &machinev1.ListMountsResponse{Mounts: []*machinev1.MountPoint{{Target: evil, Source: evil, Type: evil, Options: []string{evil}, IsUnresponsive: true}}}
			return a.Show(all, func(w *terminal.Table) { writeMounts(w, all, nil, true) })
		}},
		"network": {2, func(a *command.App) error {
			all := &machinev1.ListNetworkDevicesResponse{Devices: []*machinev1.NetworkDevice{{Name: evil, Kind: evil, Addresses: []string{evil}}}}
			return a.Show(all, func(w *terminal.Table) { writeDevices(w, all, nil, true) })
		}},
		"netstat": {2, func(a *command.App) error {
			all := &machinev1.ListSocketsResponse{Sockets: []*machinev1.Socket{{Protocol: machinev1.SocketProtocol_SOCKET_PROTOCOL_UNIX, LocalAddress: evil, Pid: 1, Command: evil}}}
			o := netstatOptions{processes: true}
			return a.Show(all, func(w *terminal.Table) { o.write(w, all) })
		}},
		"processes": {2, func(a *command.App) error {
			all := &machinev1.ListProcessesResponse{Processes: []*machinev1.Process{{Pid: 1, Command: evil, Executable: evil}}}
			o := processesOptions{app: a}
			return a.Show(all, func(w *terminal.Table) { o.write(w, all) })
		}},
		"cpu": {6, func(a *command.App) error {
			all := &machinev1.GetCpusResponse{Models: []*machinev1.CpuModel{{Name: evil, Microcode: evil, Flags: []string{evil}, Bugs: []string{evil}}}}
			return a.Show(all, func(w *terminal.Table) { writeCPUs(w, all, nil, true) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			commandtest.Clean(t, tt.lines+strings.Count(name, "cpu"), func(a *command.App) {
				_ = tt.show(a) // a message with a text that is not UTF-8 is never sent
			})
		})
	}
}

func text(t *testing.T, write func(*terminal.Table)) string {
	t.Helper()
	a, stdout, _ := commandtest.New()
	if err := a.Show(nil, write); err != nil {
		t.Fatal(err)
	}
	return stdout.String()
}

func TestMountsAreCountedAsDfDoes(t *testing.T) {
	all := &machinev1.ListMountsResponse{Mounts: []*machinev1.MountPoint{
		{Target: "/", Type: "ext4", Source: "/dev/sda1", Size: number(1000 << 20), Free: number(300 << 20), Available: number(100 << 20)},
		{Target: "/proc", Type: "proc"},
		{Target: "/nfs", Type: "nfs4", Source: "server:/x", IsUnresponsive: true},
	}}
	got := text(t, func(w *terminal.Table) { writeMounts(w, all, nil, false) })
	want := "MOUNTED AT  TYPE  SIZE        USED       AVAILABLE  USE        SOURCE\n" +
		"/           ext4  1000.0 MiB  700.0 MiB  100.0 MiB  87.5 %     /dev/sda1\n" +
		"/nfs        nfs4  -           -          -          no answer  server:/x\n"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestTimesOfTheCPUsAreThoseSinceTheAnswerBefore(t *testing.T) {
	at := func(user, idle time.Duration) *machinev1.GetStatResponse {
		times := &machinev1.CpuTimes{User: durationpb.New(user), Idle: durationpb.New(idle)}
		return &machinev1.GetStatResponse{Total: times, Cpus: []*machinev1.CpuStat{{Number: 3, Times: times}}}
	}
	for name, tt := range map[string]struct {
		before *machinev1.GetStatResponse
		want   string
	}{
		"since the boot":               {nil, "25.0 %"},
		"since the answer":             {at(20*time.Second, 80*time.Second), "50.0 %"},
		"a counter that has gone back": {at(20*time.Second, 200*time.Second), "100.0 %"},
	} {
		got := text(t, func(w *terminal.Table) { writeStat(w, at(30*time.Second, 90*time.Second), tt.before, false) })
		if !strings.Contains(got, "all  "+tt.want) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestTopMeasuresBetweenTwoSamples(t *testing.T) {
	start := timestamppb.New(time.Unix(1_700_000_000, 0))
	process := func(pid int32, cpu time.Duration, began *timestamppb.Timestamp) *machinev1.Process {
		return &machinev1.Process{Pid: pid, CpuTime: durationpb.New(cpu), StartTime: began}
	}
	taken := time.Unix(1_700_000_100, 0)
	before := &sample{memory: &machinev1.GetMemoryResponse{}, taken: taken, processes: []*machinev1.Process{process(1, 10*time.Second, start), process(2, time.Hour, start)}}
	// The times of start differ by what a computation from the uptime does; process 2 is another one.
	little, later := timestamppb.New(start.AsTime().Add(-9*time.Millisecond)), timestamppb.New(taken)
	now := &sample{memory: &machinev1.GetMemoryResponse{}, taken: taken.Add(2 * time.Second), processes: []*machinev1.Process{process(1, 11*time.Second, little), process(2, 3*time.Second, later), process(3, 0, later)}}
	o := topOptions{limit: 2, order: "cpu"}
	got := o.compare(now, before)
	if len(got.Processes) != 2 || got.Processes[0].PID != 2 || got.Processes[0].CPU != 150 || got.Processes[1].PID != 1 || got.Processes[1].CPU != 50 {
		t.Errorf("%+v", got.Processes)
	}
}

func TestFlagsOfNetstatBecomeARequest(t *testing.T) {
	tcp, udp := machinev1.SocketProtocol_SOCKET_PROTOCOL_TCP, machinev1.SocketProtocol_SOCKET_PROTOCOL_UDP
	for args, want := range map[string]*machinev1.ListSocketsRequest{
		"":       {Protocols: []machinev1.SocketProtocol{tcp, udp}},
		"-t -p":  {Protocols: []machinev1.SocketProtocol{tcp}, WithProcesses: true},
		"-t -l":  {Protocols: []machinev1.SocketProtocol{tcp}, States: []machinev1.SocketState{10}},
		"-l":     {Protocols: []machinev1.SocketProtocol{tcp, udp}, States: []machinev1.SocketState{10, 7}},
		"--unix": {Protocols: []machinev1.SocketProtocol{3}},
	} {
		o, err := commandtest.Parse(t, newNetstatCommand, strings.Fields(args)...)
		if err != nil || o.request().String() != want.String() {
			t.Errorf("%q: %v, %v", args, o.request(), err)
		}
	}
}

func TestWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"a limit of 0": func() error {
			_, err := commandtest.Parse(t, newTopCommand, "--limit", "0")
			return err
		},
		"a short interval": func() error {
			_, err := commandtest.Parse(t, newTopCommand, "--interval", "1ms")
			return err
		},
		"an unknown column": func() error {
			_, err := commandtest.Parse(t, newProcessesCommand, "--sort", "colour")
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSpansHaveTwoUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00s", 1500 * time.Millisecond: "1.50s", 61 * time.Second: "1m 1s", 25 * time.Hour: "1d 1h", 119 * time.Minute: "1h 59m",
	} {
		if got := span(d); got != want {
			t.Errorf("%d is %s, want %s", d, got, want)
		}
	}
}

func TestSocketsAndProcessesCanBeWatched(t *testing.T) {
	a, _, _ := commandtest.New()
	var got []*watchOptions
	for _, args := range [][]string{{"--watch", "--interval", "3s"}, {"--watch", "--interval", "1ms"}, nil} {
		sockets := newNetstatCommand(a, func(_ context.Context, o *netstatOptions) error { got = append(got, &o.watchOptions); return nil })
		all := newProcessesCommand(a, func(_ context.Context, o *processesOptions) error { got = append(got, &o.watchOptions); return nil })
		for _, cmd := range []*cobra.Command{sockets, all} {
			cmd.SetArgs(args)
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			if err := cmd.ExecuteContext(t.Context()); (err != nil) != (len(args) == 3 && args[2] == "1ms") {
				t.Errorf("%s %q: %v", cmd.Name(), args, err)
			}
		}
	}
	if len(got) != 4 || !got[0].watch || !got[1].watch || got[0].interval != 3*time.Second || got[2].watch || got[3].watch {
		t.Errorf("%+v", got)
	}
}
