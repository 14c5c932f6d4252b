package machine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/interrupt"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type topOptions struct {
	watchOptions
	app   *command.App
	limit int
	order order
}

func newTopCommand(a *command.App, run func(context.Context, *topOptions) error) *cobra.Command {
	o := &topOptions{app: a, order: "cpu"}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the load, the memory and the processes that use most of the CPU",
		Long: `Top measures for the time of --interval how much of the CPU each process uses, and
shows those that use most. 100 % is one whole CPU. With --watch it goes on until an
interrupt.`,
		Example: `  trident host top
  trident host top --watch
  trident host top --sort memory --limit 10`,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd, a); err != nil {
				return err
			}
			if o.limit < 1 {
				return command.UsageError(cmd, fmt.Errorf("--limit is %d, and must be at least 1", o.limit))
			}
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().IntVar(&o.limit, "limit", 20, "the most processes to show")
	cmd.Flags().Var(&o.order, "sort", "the column to sort by: pid, or with the largest first cpu or memory")
	command.CompleteFlag(cmd, "sort", "pid", "cpu", "memory")
	return cmd
}

// sample is what the host said at one time.
type sample struct {
	taken     time.Time
	load      *machinev1.GetLoadResponse
	memory    *machinev1.GetMemoryResponse
	stat      *machinev1.GetStatResponse
	processes []*machinev1.Process
}

// busiest is the form of the answer for programs. docs/machine.md documents it.
type busiest struct {
	Load1  float64 `json:"load1"`
	Load5  float64 `json:"load5"`
	Load15 float64 `json:"load15"`
	// CPU is the share of all CPUs that was not idle.
	CPU         float64       `json:"cpuPercent"`
	MemoryTotal uint64        `json:"memoryTotal"`
	MemoryUsed  uint64        `json:"memoryUsed"`
	SwapTotal   uint64        `json:"swapTotal"`
	SwapUsed    uint64        `json:"swapUsed"`
	Tasks       uint64        `json:"tasks"`
	Processes   []busyProcess `json:"processes"`
}

type busyProcess struct {
	PID     int32  `json:"pid"`
	Command string `json:"command"`
	State   string `json:"state"`
	// CPU is 100 for one whole CPU.
	CPU      float64 `json:"cpuPercent"`
	Resident uint64  `json:"residentMemory"`
	Threads  uint32  `json:"threads"`
	// CPUTime is in seconds.
	CPUTime float64 `json:"cpuTime"`
}

func top(ctx context.Context, o *topOptions) error {
	return o.app.Ask(ctx, "show the processes of the host", func(c *client.Client) error {
		before, err := takeSample(ctx, c)
		for err == nil {
			if err = interrupt.Sleep(ctx, o.interval); err != nil {
				break
			}
			var now *sample
			if now, err = takeSample(ctx, c); err != nil {
				break
			}
			result := o.compare(now, before)
			show := func(w *terminal.Table) { result.write(w) }
			if !o.watch {
				return o.app.Show(result, show)
			}
			err, before = o.app.Refresh(result, show), now
		}
		return err
	})
}

func takeSample(ctx context.Context, c *client.Client) (*sample, error) {
	s := &sample{}
	var err error
	if s.load, err = c.System().GetLoad(ctx, &machinev1.GetLoadRequest{}); err != nil {
		return nil, err
	}
	if s.memory, err = askMemory(ctx, c); err != nil {
		return nil, err
	}
	if s.stat, err = askStat(ctx, c); err != nil {
		return nil, err
	}
	s.taken = time.Now()
	s.processes, err = c.Processes(ctx)
	return s, err
}

// compare returns what happened between two samples.
func (o *topOptions) compare(now, before *sample) *busiest {
	m, t := now.memory, spent(now.stat.GetTotal(), before.stat.GetTotal())
	out := &busiest{
		Load1: now.load.GetLoad1(), Load5: now.load.GetLoad5(), Load15: now.load.GetLoad15(), Tasks: now.load.GetTasksTotal(),
		MemoryTotal: m.GetMemTotal(), MemoryUsed: usedMemory(m), SwapTotal: m.GetSwapTotal(), SwapUsed: less(m.GetSwapTotal(), m.GetSwapFree()),
	}
	if t.all() > 0 {
		out.CPU = 100 * t.busy().Seconds() / t.all().Seconds()
	}
	earlier := map[int32]*machinev1.Process{}
	for _, p := range before.processes {
		earlier[p.GetPid()] = p
	}
	passed := now.taken.Sub(before.taken).Seconds()
	for _, p := range now.processes {
		used := p.GetCpuTime().AsDuration()
		busy := busyProcess{
			PID: p.GetPid(), Command: p.GetCommand(), State: word(p.GetState(), "PROCESS_STATE_"), Resident: p.GetResidentMemory(), Threads: p.GetThreads(),
			CPUTime: used.Seconds(),
		}
		if passed > 0 {
			busy.CPU = 100 * max(0, used-usedBefore(p, earlier[p.GetPid()])).Seconds() / passed
		}
		out.Processes = append(out.Processes, busy)
	}
	slices.SortStableFunc(out.Processes, func(a, b busyProcess) int {
		switch o.order {
		case "pid":
			return cmp.Compare(a.PID, b.PID)
		case "memory":
			return cmp.Compare(b.Resident, a.Resident)
		}
		return cmp.Or(cmp.Compare(b.CPU, a.CPU), cmp.Compare(b.CPUTime, a.CPUTime))
	})
	out.Processes = out.Processes[:min(len(out.Processes), o.limit)]
	return out
}

// usedBefore returns the CPU time of a process in the previous sample, 0 if the process is new.
// Its ID may be that of another process which has ended. The daemon computes times of start
// from the uptime, so that those of one process may differ a little.
func usedBefore(now, before *machinev1.Process) time.Duration {
	const same = 2 * time.Second
	if before == nil || now.GetStartTime().AsTime().Sub(before.GetStartTime().AsTime()).Abs() > same {
		return 0
	}
	return before.GetCpuTime().AsDuration()
}

func (b *busiest) write(w *terminal.Table) {
	w.Field("Load", "%.2f %.2f %.2f, %d tasks", b.Load1, b.Load5, b.Load15, b.Tasks)
	w.Field("CPU", "%.1f %%", b.CPU)
	w.Field("Memory", "%s of %s", size(b.MemoryUsed), size(b.MemoryTotal))
	if b.SwapTotal > 0 {
		w.Field("Swap", "%s of %s", size(b.SwapUsed), size(b.SwapTotal))
	}
	w.Head("PID", "CPU", "RESIDENT", "CPU TIME", "STATE", "THREADS", "COMMAND")
	for _, p := range b.Processes {
		w.Row(p.PID, fmt.Sprintf("%.1f %%", p.CPU), size(p.Resident), span(time.Duration(p.CPUTime*float64(time.Second))), p.State, p.Threads, p.Command)
	}
}
