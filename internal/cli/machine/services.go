package machine

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type servicesOptions struct {
	app      *command.App
	patterns []string
	states   []string
}

func newServicesCommand(a *command.App, run func(context.Context, *servicesOptions) error) *cobra.Command {
	o := &servicesOptions{app: a}
	cmd := &cobra.Command{
		Use:   "services [PATTERN]...",
		Short: "List the units of systemd, by default its services",
		Example: `  trident host services
  trident host services --state failed
  trident host services 'ssh*' '*.timer'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.patterns = args
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringSliceVar(&o.states, "state", nil, "only units in these states, such as failed or running")
	return cmd
}

func services(ctx context.Context, o *servicesOptions) error {
	if len(o.patterns) == 0 {
		o.patterns = []string{"*.service"}
	}
	return command.Print(ctx, o.app, "list units", func(c *client.Client) (*machinev1.ListUnitsResponse, error) {
		return c.Units().ListUnits(ctx, &machinev1.ListUnitsRequest{Patterns: o.patterns, States: o.states})
	}, func(w *terminal.Table, all *machinev1.ListUnitsResponse) {
		w.Head("UNIT", "ACTIVE", "STATE", "DESCRIPTION")
		for _, u := range all.GetUnits() {
			w.Row(u.GetName(), terminal.StateCell(u.GetActiveState()), u.GetSubState(), u.GetDescription())
		}
		if n := all.GetOmitted(); n > 0 {
			w.Line("%d more units: name a pattern to see fewer", n)
		}
	})
}

type serviceOptions struct {
	app           *command.App
	unit          string
	mayDisconnect bool
}

// newServiceCommand returns the group trident host service.
func newServiceCommand(a *command.App) *cobra.Command {
	return command.Group("service", "Show, start, stop and restart a unit",
		newServiceShowCommand(a, showService),
		newJobCommand(a, "start", "Start a unit, and wait until it has started", start),
		newJobCommand(a, "stop", "Stop a unit, and wait until it has stopped", stop),
		newJobCommand(a, "restart", "Restart a unit, and wait until it runs again", restart),
	)
}

func newServiceShowCommand(a *command.App, run func(context.Context, *serviceOptions) error) *cobra.Command {
	o := &serviceOptions{app: a}
	return &cobra.Command{
		Use: "show UNIT", Short: "Show a unit", Example: "  trident host service show sshd.service",
		Args: command.Exactly("UNIT"), ValidArgsFunction: a.CompleteWith(unitNames), RunE: command.Run(run, o, &o.unit),
	}
}

func newJobCommand(a *command.App, job, short string, run func(context.Context, *serviceOptions) error) *cobra.Command {
	o := &serviceOptions{app: a}
	cmd := &cobra.Command{
		Use: job + " UNIT", Short: short, Example: "  trident host service " + job + " nginx.service",
		Args: command.Exactly("UNIT"), ValidArgsFunction: a.CompleteWith(unitNames), RunE: command.Run(run, o, &o.unit),
	}
	if job != "start" {
		cmd.Long = short + `. The daemon refuses the job if it would stop tridentd, the way to it, or
what systemd needs, also through a dependency.`
		cmd.Flags().BoolVar(&o.mayDisconnect, "allow-disconnect", false, "also "+job+" a unit through which people reach the host, such as sshd.service")
	}
	return cmd
}

func showService(ctx context.Context, o *serviceOptions) error {
	return command.Print(ctx, o.app, "show "+o.unit, func(c *client.Client) (*machinev1.ShowUnitResponse, error) {
		return c.Units().ShowUnit(ctx, &machinev1.ShowUnitRequest{Name: o.unit})
	}, writeUnit)
}

func writeUnit(w *terminal.Table, u *machinev1.ShowUnitResponse) {
	w.Field("Unit", "%s (%s)", u.GetUnit().GetName(), u.GetUnit().GetDescription())
	w.FieldOf("Active", terminal.StateCell(u.GetUnit().GetActiveState()))
	w.Field("State", "%s, since %s", u.GetUnit().GetSubState(), terminal.FormatTime(u.GetStateChangeTime()))
	if u.GetResult() != "" {
		w.Field("Result", "%s", u.GetResult())
	}
	w.Field("File", "%s (%s, %s)", u.GetFragmentPath(), u.GetUnit().GetLoadState(), u.GetUnitFileState())
	if u.GetMainPid() > 0 {
		w.Field("Process", "%d", u.GetMainPid())
	}
	if u.MemoryBytes != nil {
		w.Field("Memory", "%d bytes", u.GetMemoryBytes())
	}
	w.Field("Restarts", "%d", u.GetRestarts())
	if u.GetProtected() != "" {
		w.Field("Protected", "%s", u.GetProtected())
	}
}

func start(ctx context.Context, o *serviceOptions) error {
	return o.job(ctx, "start", "started", func(c *client.Client) error {
		_, err := c.Units().StartUnit(ctx, &machinev1.StartUnitRequest{Name: o.unit})
		return err
	})
}

func stop(ctx context.Context, o *serviceOptions) error {
	return o.job(ctx, "stop", "stopped", func(c *client.Client) error {
		_, err := c.Units().StopUnit(ctx, &machinev1.StopUnitRequest{Name: o.unit, AllowDisconnect: o.mayDisconnect})
		return err
	})
}

func restart(ctx context.Context, o *serviceOptions) error {
	return o.job(ctx, "restart", "restarted", func(c *client.Client) error {
		_, err := c.Units().RestartUnit(ctx, &machinev1.RestartUnitRequest{Name: o.unit, AllowDisconnect: o.mayDisconnect})
		return err
	})
}

// job runs a job, and shows the unit after it.
func (o *serviceOptions) job(ctx context.Context, verb, done string, call func(*client.Client) error) error {
	return command.Print(ctx, o.app, verb+" "+o.unit, func(c *client.Client) (*machinev1.ShowUnitResponse, error) {
		if err := call(c); err != nil {
			return nil, err
		}
		return c.Units().ShowUnit(ctx, &machinev1.ShowUnitRequest{Name: o.unit})
	}, func(w *terminal.Table, u *machinev1.ShowUnitResponse) {
		w.Line("Unit %s is %s: %s (%s).", u.GetUnit().GetName(), done, u.GetUnit().GetActiveState(), u.GetUnit().GetSubState())
	})
}

func unitNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Units().ListUnits(ctx, &machinev1.ListUnitsRequest{Patterns: []string{"*.service", "*.socket", "*.timer", "*.target"}})
	var words []string
	for _, u := range all.GetUnits() {
		words = append(words, terminal.Line(u.GetName())+"\t"+terminal.Line(u.GetDescription()))
	}
	return words, err
}
