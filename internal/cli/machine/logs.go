package machine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type logsOptions struct {
	app      *command.App
	units    []string
	priority int32
	since    time.Duration
	boot     string
	grep     string
	after    string
	lines    int32
	follow   bool
}

func newLogsCommand(a *command.App, run func(context.Context, *logsOptions) error) *cobra.Command {
	o := &logsOptions{app: a}
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show the journal of the host",
		Example: `  trident host logs
  trident host logs --unit sshd.service --since 1h --priority 4
  trident host logs --follow --output json`,
		Long: `Logs shows entries of the journal, by default the last 100. With --output json each
entry is a line; its cursor goes on after it: --after.`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(&o.units, "unit", "u", nil, "only entries of these units; patterns such as 'ssh*' are allowed")
	flags.Int32VarP(&o.priority, "priority", "p", 7, "only entries of this priority or a more urgent one: 0 (emergency) to 7 (debug)")
	flags.DurationVar(&o.since, "since", 0, "only entries of the last time, such as 90m")
	flags.StringVarP(&o.boot, "boot", "b", "", "only entries of this boot: its ID, 0 for this one, -1 for the one before")
	flags.StringVarP(&o.grep, "grep", "g", "", "only entries whose message matches this regular expression")
	flags.StringVar(&o.after, "after", "", "begin after the entry with this cursor")
	flags.Int32VarP(&o.lines, "lines", "n", 100, "the last entries only; 0 means all")
	flags.BoolVarP(&o.follow, "follow", "f", false, "wait for new entries")
	return cmd
}

func logs(ctx context.Context, o *logsOptions) error {
	req := &machinev1.JournalRequest{
		Units: o.units, Boot: o.boot, Grep: o.grep, AfterCursor: o.after, Tail: o.lines, Follow: o.follow,
	}
	if o.priority != 7 {
		req.MaxPriority = &o.priority
	}
	if o.since > 0 {
		req.Since = timestamppb.New(time.Now().Add(-o.since))
	}
	if o.after != "" { // all that came since, not the last ones of it
		req.Tail = 0
	}
	return receive(ctx, o.app, "read the journal", func(c *client.Client) (grpc.ServerStreamingClient[machinev1.JournalResponse], error) {
		return c.Logs().Journal(ctx, req)
	}, func(m *machinev1.JournalResponse) error {
		for _, e := range m.GetEntries() {
			if err := o.app.PrintMessage(e, entryLine(e)); err != nil {
				return err
			}
		}
		return nil
	})
}

func entryLine(e *machinev1.JournalEntry) string {
	if e.GetOmittedBytes() > 0 {
		return fmt.Sprintf("(an entry of %d bytes is omitted)", e.GetOmittedBytes())
	}
	who := e.GetIdentifier()
	if e.GetPid() > 0 {
		who = fmt.Sprintf("%s[%d]", who, e.GetPid())
	}
	message := e.GetMessage()
	if b := e.GetMessageBytes(); len(b) > 0 {
		message = fmt.Sprintf("(%d bytes that are not text)", len(b))
	}
	return fmt.Sprintf("%s %s: %s", e.GetTime().AsTime().Local().Format("2006-01-02 15:04:05"), who, message)
}

type dmesgOptions struct {
	app    *command.App
	lines  int32
	follow bool
}

func newDmesgCommand(a *command.App, run func(context.Context, *dmesgOptions) error) *cobra.Command {
	o := &dmesgOptions{app: a}
	cmd := &cobra.Command{
		Use: "dmesg", Short: "Show the log of the kernel", Example: "  trident host dmesg\n  trident host dmesg --lines 20 --follow",
		Args: command.Exactly(), RunE: command.Run(run, o),
	}
	cmd.Flags().Int32VarP(&o.lines, "lines", "n", 0, "the last records only; 0 means all")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "wait for new records")
	return cmd
}

func dmesg(ctx context.Context, o *dmesgOptions) error {
	return receive(ctx, o.app, "read the log of the kernel", func(c *client.Client) (grpc.ServerStreamingClient[machinev1.DmesgResponse], error) {
		return c.Logs().Dmesg(ctx, &machinev1.DmesgRequest{Tail: o.lines, Follow: o.follow})
	}, func(m *machinev1.DmesgResponse) error {
		for _, r := range m.GetRecords() {
			text := fmt.Sprintf("[%12.6f] %s", r.GetSinceBoot().AsDuration().Seconds(), r.GetMessage())
			if r.GetLost() {
				text = "(the kernel has overwritten records here) " + text
			}
			if err := o.app.PrintMessage(r, text); err != nil {
				return err
			}
		}
		return nil
	})
}

type eventsOptions struct {
	app    *command.App
	after  uint64
	stream string
	follow bool
}

func newEventsCommand(a *command.App, run func(context.Context, *eventsOptions) error) *cobra.Command {
	o := &eventsOptions{app: a}
	cmd := &cobra.Command{
		Use: "events", Short: "Show boots, operations, failed units and mounts of the host",
		Example: "  trident host events\n  trident host events --follow --output json",
		Long: `Events shows what the daemon remembers: its last 1024 events. It watches units and mounts
from the first call on, and misses nothing after the first event that it prints.`,
		Args: command.Exactly(), RunE: command.Run(run, o),
	}
	cmd.Flags().Uint64Var(&o.after, "after", 0, "begin after the event with this sequence number")
	cmd.Flags().StringVar(&o.stream, "stream", "", "the stream ID that came with the sequence number")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "wait for new events")
	return cmd
}

func events(ctx context.Context, o *eventsOptions) error {
	return receive(ctx, o.app, "read the events", func(c *client.Client) (grpc.ServerStreamingClient[machinev1.EventsResponse], error) {
		return c.Logs().Events(ctx, &machinev1.EventsRequest{AfterSequence: o.after, StreamId: o.stream, Follow: o.follow})
	}, func(m *machinev1.EventsResponse) error {
		e := m.GetEvent()
		kind := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(e.GetKind().String(), "HOST_EVENT_KIND_"), "_", " "))
		text := fmt.Sprintf("%d %s %s: %s %s", e.GetSequence(), e.GetTime().AsTime().Local().Format("2006-01-02 15:04:05"), kind, e.GetSubject(), e.GetText())
		if m.GetLost() {
			text = "(events before this one were lost) " + text
		}
		return o.app.PrintMessage(m, strings.TrimSpace(text))
	})
}
