package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// FollowOptions are the flags of the commands that follow an operation.
type FollowOptions struct {
	App               *App
	CancelOnInterrupt bool
	Detach            bool
	Silent            bool // how it ended is not printed
}

// AddFlags adds the flags of all commands that begin an operation.
func (o *FollowOptions) AddFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.CancelOnInterrupt, "cancel-on-interrupt", false, "when interrupted, cancel the operation and wait until it is undone")
	flags.BoolVar(&o.Detach, "detach", false, "return as soon as the operation runs, and print its ID")
}

// errDetached ends the watch of a command with --detach.
var errDetached = errors.New("detached")

// Verb begins an operation, or watches one, to its end.
type Verb func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error)

// Follow runs a verb and shows its progress. uploads says that this command sends the image
// of the first step, so that --detach has to wait for the end of that step.
func (o *FollowOptions) Follow(ctx context.Context, doing string, uploads bool, run Verb) error {
	return o.FollowTo(ctx, doing, uploads, run, (*Following).settled)
}

// FollowTo is Follow with a function that reports the end.
func (o *FollowOptions) FollowTo(ctx context.Context, doing string, uploads bool, run Verb, report func(*Following, *client.Operation, error) error) error {
	return o.App.Ask(ctx, doing, func(c *client.Client) error {
		f := &Following{o: o, Client: c, Progress: terminal.NewProgress(&o.App.Streams), ctx: ctx, doing: doing, report: report}
		f.Progress.Answering = f.version
		f.Progress.WatchCommand = func(id string) string { return f.o.App.command("watch", id) }
		ctx, detach := context.WithCancelCause(ctx)
		defer detach(nil)
		first := ""
		op, err := run(ctx, c, func(e *client.Event) {
			if ctx.Err() != nil { // those that were on their way
				return
			}
			if first == "" {
				first = e.GetStep()
			}
			f.Progress.Event(e)
			if o.Detach && (!uploads || e.GetStep() != first) {
				detach(errDetached)
			}
		})
		return f.end(op, err)
	})
}

// Following is an operation that a command follows.
type Following struct {
	o        *FollowOptions
	Client   *client.Client
	Progress *terminal.Progress
	ctx      context.Context // of the command
	doing    string
	report   func(*Following, *client.Operation, error) error
}

func (f *Following) version() string {
	ctx, cancel := Quick(f.ctx)
	defer cancel()
	v, err := f.Client.Version(ctx)
	if err != nil {
		return ""
	}
	return terminal.Line(v)
}

func (f *Following) end(op *client.Operation, err error) error {
	f.Progress.End()
	detached, ok := errors.AsType[*client.DetachedError](err)
	if failure := f.Progress.Reason(); ok && failure != "" { // what the end would say
		f.Progress.Line("The operation failed and undoes its steps: %s", failure)
	}
	switch {
	case !ok:
		return f.report(f, op, err)
	case errors.Is(detached, errDetached):
		return f.printDetached(detached.Operation)
	case f.o.CancelOnInterrupt && errors.Is(detached, ErrInterrupted):
		return f.cancel(detached)
	case detached.Uploading:
		return errkind.WithHint(err, "The image was not sent whole, so the operation undoes its steps. See: %s", f.o.App.command("show", detached.Operation))
	}
	return errkind.WithHint(err, "The operation goes on. Watch it again: %s", f.o.App.command("watch", detached.Operation))
}

// printDetached prints the ID of the operation, which goes on in the daemon.
func (f *Following) printDetached(id string) error {
	ctx, cancel := Quick(f.ctx)
	defer cancel()
	op, err := f.Client.Operation(ctx, id)
	if err != nil {
		return err
	}
	return f.o.App.Show(op, func(w *terminal.Table) { w.Line("%s", op.GetId()) })
}

// cancel cancels the operation and waits until it is undone. A second interrupt ends the
// process.
func (f *Following) cancel(at *client.DetachedError) error {
	f.Progress.Line("Cancelling operation %s; interrupt again to stop waiting", at.Operation)
	ctx, stop := Quick(f.ctx)
	defer stop()
	if _, err := f.Client.Cancel(ctx, at.Operation); err != nil {
		f.Progress.Line("It cannot be cancelled: %v", err)
	}
	op, err := f.Client.Watch(context.WithoutCancel(f.ctx), at.Operation, at.Sequence, f.Progress.Event)
	f.Progress.End()
	if client.Kind(err) == client.KindCancelled {
		return fmt.Errorf("operation %s was cancelled: %w", at.Operation, ErrInterrupted)
	}
	return f.report(f, op, err)
}

// settled prints the result of the operation.
func (f *Following) settled(op *client.Operation, err error) error {
	if op == nil {
		return err
	}
	running, evidence := f.outcome(op.GetId())
	if evidence != "" {
		f.Progress.Line("The evidence of the failed version is on the host, in %s", evidence)
	}
	if err != nil && running != "" && !f.o.App.Quiet {
		f.Progress.Line("Trident %s runs.", running)
	}
	if f.o.Silent {
		return err
	}
	text := func(w *terminal.Table) {
		if err == nil && !f.o.App.Quiet {
			w.Line("%s", successText(op, running))
		}
	}
	return errors.Join(err, f.o.App.Show(op, text))
}

func successText(op *client.Operation, running string) string {
	if op.GetKind() == "self-stage" || running == "" {
		return fmt.Sprintf("Done: %s.", terminal.Line(op.GetSummary()))
	}
	return fmt.Sprintf("Trident %s runs now.", running)
}

// outcome asks the daemon for the running version and for the evidence of the operation.
func (f *Following) outcome(id string) (running, evidence string) {
	ctx, cancel := Quick(f.ctx)
	defer cancel()
	s, err := f.Client.Status(ctx)
	if err != nil {
		return "", ""
	}
	if last := s.GetLast(); last.GetOperationId() == id {
		evidence = terminal.Line(last.GetEvidence())
	}
	return terminal.Line(s.GetRunningVersion()), evidence
}
