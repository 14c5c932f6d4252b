package machine

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func newStatCommand(a *command.App) *cobra.Command {
	return view[*machinev1.GetStatResponse]{
		use: "stat", short: "Show the times of the CPUs and the counters of the kernel",
		long: `Stat shows how the CPUs have spent their time since the boot, in percent, and the
counters of the kernel. With --watch, the second and later answers show the time since
the answer before.`,
		example: "  trident host stat\n  trident host stat --watch --interval 5s",
		doing:   "read the counters of the host",
		ask:     askStat,
		write:   writeStat,
	}.command(a)
}

func askStat(ctx context.Context, c *client.Client) (*machinev1.GetStatResponse, error) {
	return c.System().GetStat(ctx, &machinev1.GetStatRequest{})
}

func writeStat(w *terminal.Table, now, before *machinev1.GetStatResponse, isWide bool) {
	w.Head("CPU", "USER", "NICE", "SYSTEM", "IDLE", "IOWAIT", "IRQ", "SOFTIRQ", "STEAL")
	row := func(name any, now, before *machinev1.CpuTimes) {
		t := spent(now, before)
		all := t.all().Seconds()
		cell := func(d time.Duration) string { return share(d.Seconds(), all) }
		w.Row(name, cell(t.user), cell(t.nice), cell(t.system), cell(t.idle), cell(t.iowait), cell(t.irq), cell(t.softIRQ), cell(t.steal))
	}
	row("all", now.GetTotal(), before.GetTotal())
	earlier := map[uint32]*machinev1.CpuTimes{}
	for _, c := range before.GetCpus() {
		earlier[c.GetNumber()] = c.GetTimes()
	}
	for _, c := range now.GetCpus() {
		row(c.GetNumber(), c.GetTimes(), earlier[c.GetNumber()])
	}
	w.Line("")
	w.Field("Processes", "%d running, %d blocked, %d begun since the boot", now.GetProcessesRunning(), now.GetProcessesBlocked(), now.GetForks())
	w.Field("Interrupts", "%d", now.GetInterrupts())
	w.Field("Context switches", "%d", now.GetContextSwitches())
	if isWide {
		w.Field("Soft interrupts", "%d", now.GetSoftInterrupts())
		w.Field("Booted", "%s", terminal.FormatTime(now.GetBootTime()))
	}
}

// times is the time that a CPU spent in each mode. The time of guests is a part of user.
type times struct{ user, nice, system, idle, iowait, irq, softIRQ, steal time.Duration }

// spent returns the times between two answers. A counter of the kernel may go back a little:
// that counts as 0.
func spent(now, before *machinev1.CpuTimes) times {
	of := func(get func(*machinev1.CpuTimes) time.Duration) time.Duration { return max(0, get(now)-get(before)) }
	return times{
		user:    of(func(t *machinev1.CpuTimes) time.Duration { return t.GetUser().AsDuration() }),
		nice:    of(func(t *machinev1.CpuTimes) time.Duration { return t.GetNice().AsDuration() }),
		system:  of(func(t *machinev1.CpuTimes) time.Duration { return t.GetSystem().AsDuration() }),
		idle:    of(func(t *machinev1.CpuTimes) time.Duration { return t.GetIdle().AsDuration() }),
		iowait:  of(func(t *machinev1.CpuTimes) time.Duration { return t.GetIowait().AsDuration() }),
		irq:     of(func(t *machinev1.CpuTimes) time.Duration { return t.GetIrq().AsDuration() }),
		softIRQ: of(func(t *machinev1.CpuTimes) time.Duration { return t.GetSoftIrq().AsDuration() }),
		steal:   of(func(t *machinev1.CpuTimes) time.Duration { return t.GetSteal().AsDuration() }),
	}
}

func (t times) all() time.Duration {
	return t.user + t.nice + t.system + t.idle + t.iowait + t.irq + t.softIRQ + t.steal
}

// busy returns the time in which the CPU was not idle.
func (t times) busy() time.Duration { return t.all() - t.idle - t.iowait }
