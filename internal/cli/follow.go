package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// followOptions are the flags of the commands that follow an operation.
type followOptions struct {
	app               *app
	cancelOnInterrupt bool
	detach            bool
	silent            bool // how it ended is not printed
}

func (o *followOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.cancelOnInterrupt, "cancel-on-interrupt", false, "when interrupted, cancel the operation and wait until it is undone")
	flags.BoolVar(&o.detach, "detach", false, "return as soon as the operation runs, and print its ID")
}

// errDetached ends the watch of a command with --detach.
var errDetached = errors.New("detached")

// Verb begins an operation, or watches one, to its end.
type Verb func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error)

// follow runs a verb and shows its progress. uploads says that this command sends the image
// of the first step, so that --detach has to wait for the end of that step.
func (o *followOptions) follow(ctx context.Context, doing string, uploads bool, run Verb) error {
	return o.followTo(ctx, doing, uploads, run, (*following).settled)
}

// followTo is follow with a function that reports the end.
func (o *followOptions) followTo(ctx context.Context, doing string, uploads bool, run Verb, report func(*following, *client.Operation, error) error) error {
	return o.app.ask(ctx, doing, func(c *client.Client) error {
		f := &following{o: o, client: c, progress: terminal.NewProgress(&o.app.Streams), ctx: ctx, doing: doing, report: report}
		f.progress.Answering = f.version
		f.progress.WatchCommand = func(id string) string { return f.o.app.command("watch", id) }
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
			f.progress.Event(e)
			if o.detach && (!uploads || e.GetStep() != first) {
				detach(errDetached)
			}
		})
		return f.end(op, err)
	})
}

// following is an operation that a command follows.
type following struct {
	o        *followOptions
	client   *client.Client
	progress *terminal.Progress
	ctx      context.Context // of the command
	doing    string
	report   func(*following, *client.Operation, error) error
}

func (f *following) version() string {
	ctx, cancel := quick(f.ctx)
	defer cancel()
	v, err := f.client.Version(ctx)
	if err != nil {
		return ""
	}
	return terminal.Line(v)
}

func (f *following) end(op *client.Operation, err error) error {
	f.progress.End()
	detached, ok := errors.AsType[*client.DetachedError](err)
	if failure := f.progress.Reason(); ok && failure != "" { // what the end would say
		f.progress.Line("The operation failed and undoes its steps: %s", failure)
	}
	switch {
	case !ok:
		return f.report(f, op, err)
	case errors.Is(detached, errDetached):
		return f.printDetached(detached.Operation)
	case f.o.cancelOnInterrupt && errors.Is(detached, errInterrupted):
		return f.cancel(detached)
	case detached.Uploading:
		return errkind.WithHint(err, "The image was not sent whole, so the operation undoes its steps. See: %s", f.o.app.command("show", detached.Operation))
	}
	return errkind.WithHint(err, "The operation goes on. Watch it again: %s", f.o.app.command("watch", detached.Operation))
}

// printDetached prints the ID of the operation, which goes on in the daemon.
func (f *following) printDetached(id string) error {
	ctx, cancel := quick(f.ctx)
	defer cancel()
	op, err := f.client.Operation(ctx, id)
	if err != nil {
		return err
	}
	return f.o.app.Show(op, func(w *terminal.Table) { w.Line("%s", op.GetId()) })
}

// cancel cancels the operation and waits until it is undone. A second interrupt ends the
// process.
func (f *following) cancel(at *client.DetachedError) error {
	f.progress.Line("Cancelling operation %s; interrupt again to stop waiting", at.Operation)
	ctx, stop := quick(f.ctx)
	defer stop()
	if _, err := f.client.Cancel(ctx, at.Operation); err != nil {
		f.progress.Line("It cannot be cancelled: %v", err)
	}
	op, err := f.client.Watch(context.WithoutCancel(f.ctx), at.Operation, at.Sequence, f.progress.Event)
	f.progress.End()
	if client.Kind(err) == client.KindCancelled {
		return fmt.Errorf("operation %s was cancelled: %w", at.Operation, errInterrupted)
	}
	return f.report(f, op, err)
}

// settled prints the result of the operation.
func (f *following) settled(op *client.Operation, err error) error {
	if op == nil {
		return err
	}
	running, evidence := f.outcome(op.GetId())
	if evidence != "" {
		f.progress.Line("The evidence of the failed version is on the host, in %s", evidence)
	}
	if err != nil && running != "" && !f.o.app.Quiet {
		f.progress.Line("Trident %s runs.", running)
	}
	if f.o.silent {
		return err
	}
	text := func(w *terminal.Table) {
		if err == nil && !f.o.app.Quiet {
			w.Line("%s", successText(op, running))
		}
	}
	return errors.Join(err, f.o.app.Show(op, text))
}

func successText(op *client.Operation, running string) string {
	if op.GetKind() == "self-stage" || running == "" {
		return fmt.Sprintf("Done: %s.", terminal.Line(op.GetSummary()))
	}
	return fmt.Sprintf("Trident %s runs now.", running)
}

// outcome asks the daemon for the running version and for the evidence of the operation.
func (f *following) outcome(id string) (running, evidence string) {
	ctx, cancel := quick(f.ctx)
	defer cancel()
	s, err := f.client.Status(ctx)
	if err != nil {
		return "", ""
	}
	if last := s.GetLast(); last.GetOperationId() == id {
		evidence = terminal.Line(last.GetEvidence())
	}
	return terminal.Line(s.GetRunningVersion()), evidence
}
