package machine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type processesOptions struct {
	watchOptions
	app   *command.App
	order order
}

// An order is a flag with the column by which processes are sorted.
type order string

func (o *order) String() string { return string(*o) }
func (o *order) Type() string   { return "COLUMN" }

func (o *order) Set(text string) error {
	if !slices.Contains([]string{"pid", "cpu", "memory"}, text) {
		return errors.New("the columns are pid, cpu and memory")
	}
	*o = order(text)
	return nil
}

func newProcessesCommand(a *command.App, run func(context.Context, *processesOptions) error) *cobra.Command {
	o := &processesOptions{app: a, order: "pid"}
	cmd := &cobra.Command{
		Use:   "processes",
		Short: "List the processes of the host",
		Long: `Processes lists the processes, without their arguments, which may contain passwords.
Threads of the kernel are only listed with --output wide, json and yaml.`,
		Example: `  trident host processes
  trident host processes --sort memory
  trident host processes --sort cpu --watch
  trident host processes --output wide`,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd, a); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().Var(&o.order, "sort", "the column to sort by: pid, or with the largest first cpu or memory")
	command.CompleteFlag(cmd, "sort", "pid", "cpu", "memory")
	return cmd
}

func processes(ctx context.Context, o *processesOptions) error {
	return view[*machinev1.ListProcessesResponse]{
		doing: "list the processes of the host",
		ask: func(ctx context.Context, c *client.Client) (*machinev1.ListProcessesResponse, error) {
			all, err := c.Processes(ctx)
			o.sort(all)
			return &machinev1.ListProcessesResponse{Processes: all}, err
		},
		write: func(w *terminal.Table, all, _ *machinev1.ListProcessesResponse, _ bool) { o.write(w, all) },
	}.run(ctx, o.app, &o.watchOptions)
}

// sort leaves the order of the daemon, which is that of the IDs, for pid.
func (o *processesOptions) sort(all []*machinev1.Process) {
	slices.SortStableFunc(all, func(a, b *machinev1.Process) int {
		switch o.order {
		case "cpu":
			return cmp.Compare(b.GetCpuTime().AsDuration(), a.GetCpuTime().AsDuration())
		case "memory":
			return cmp.Compare(b.GetResidentMemory(), a.GetResidentMemory())
		}
		return 0
	})
}

func (o *processesOptions) write(w *terminal.Table, all *machinev1.ListProcessesResponse) {
	isWide := o.app.Output.IsWide()
	head := []string{"PID", "PARENT", "STATE", "THREADS", "CPU TIME", "RESIDENT", "COMMAND"}
	if isWide {
		head = []string{"PID", "PARENT", "UID", "STATE", "THREADS", "CPU TIME", "VIRTUAL", "RESIDENT", "STARTED", "COMMAND", "EXECUTABLE"}
	}
	w.Head(head...)
	for _, p := range all.GetProcesses() {
		state, cpu := word(p.GetState(), "PROCESS_STATE_"), span(p.GetCpuTime().AsDuration().Round(10*time.Millisecond))
		switch {
		case isWide:
			w.Row(p.GetPid(), p.GetPpid(), p.GetUid(), state, p.GetThreads(), cpu, size(p.GetVirtualMemory()), size(p.GetResidentMemory()), terminal.FormatTime(p.GetStartTime()), p.GetCommand(), p.GetExecutable())
		case !p.GetIsKernel():
			w.Row(p.GetPid(), p.GetPpid(), state, p.GetThreads(), cpu, size(p.GetResidentMemory()), p.GetCommand())
		}
	}
}
