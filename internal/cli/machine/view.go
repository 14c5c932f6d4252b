package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/interrupt"
	"github.com/trident-project/trident/proto/client"
)

// A view is a command that asks for one answer and shows it, once or again and again.
type view[T any] struct {
	use, short, long, example string
	doing                     string // in errors: "read the load"
	ask                       func(context.Context, *client.Client) (T, error)
	// write writes an answer. before is the previous one of --watch, or the zero value.
	write func(w *terminal.Table, now, before T, isWide bool)
}

// command returns the command of a view without flags of its own.
func (v view[T]) command(a *command.App) *cobra.Command {
	o := &watchOptions{}
	cmd := &cobra.Command{Use: v.use, Short: v.short, Long: v.long, Example: v.example, Args: command.Exactly()}
	o.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd, a); err != nil {
			return err
		}
		return v.run(cmd.Context(), a, o)
	}
	return cmd
}

// watchOptions are the flags of a command that can show its answer again and again.
type watchOptions struct {
	watch    bool
	interval time.Duration
}

// leastInterval is the shortest time between two answers.
const leastInterval = 100 * time.Millisecond

func (o *watchOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVarP(&o.watch, "watch", "w", false, "show it again and again, until an interrupt")
	flags.DurationVar(&o.interval, "interval", 2*time.Second, "the time between two answers of --watch")
}

func (o *watchOptions) check(cmd *cobra.Command, a *command.App) error {
	switch {
	case o.interval < leastInterval:
		return command.UsageError(cmd, fmt.Errorf("--interval is %s, and must be at least %s", o.interval, leastInterval))
	case o.watch && a.IsOneOfSeveral():
		return command.UsageError(cmd, errors.New("--watch works on one host: omit it, or name one host"))
	}
	return nil
}

// run shows the answer, with --watch until ctx ends.
func (v view[T]) run(ctx context.Context, a *command.App, o *watchOptions) error {
	return a.Ask(ctx, v.doing, func(c *client.Client) error {
		var before T
		for {
			now, err := v.ask(ctx, c)
			if err != nil {
				return err
			}
			text := func(w *terminal.Table) { v.write(w, now, before, a.Output.IsWide()) }
			if !o.watch {
				return a.Show(now, text)
			}
			if err := a.Refresh(now, text); err != nil {
				return err
			}
			before = now
			if err := interrupt.Sleep(ctx, o.interval); err != nil {
				return err
			}
		}
	})
}

// size returns a number of bytes for a table.
func size(n uint64) string { return bytesize.Format(int64(min(n, 1<<63-1))) } //nolint:gosec // at most 2^63-1

// share returns a part in percent: "12.5 %", "-" if there is no whole.
func share(part, whole float64) string {
	if whole <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", max(0, 100*part/whole))
}

// span returns a time in the two largest units, such as "3d 4h", "5m 7s", "0.42s".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}

// word returns the end of the name of an enum in lower case: "up" for LINK_STATE_UP.
func word(name fmt.Stringer, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name.String(), prefix)), "_", "-")
}
