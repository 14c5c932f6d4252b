package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// askTime bounds the small questions that are asked beside an operation.
const askTime = 10 * time.Second

// connect returns a client of the daemon.
func (a *app) connect() (*client.Client, error) {
	if scheme, _, ok := strings.Cut(a.socket, "://"); ok {
		err := errkind.Errorf(errkind.Unsupported, "connect to tridentd at %s: this command reaches a daemon through a unix socket alone, not by %s", a.socket, scheme)
		return nil, errkind.WithHint(err, "Forward the socket of the other host: ssh -L ./trident.sock:%s HOST, then --socket ./trident.sock", defaultSocket)
	}
	logger := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: a.verbosity}))
	return client.Dial(a.socket, client.WithLogger(logger))
}

// ask connects, asks, and says what for when there is no answer.
func (a *app) ask(ctx context.Context, doing string, question func(*client.Client) error) error {
	c, err := a.connect()
	if err == nil {
		err = errors.Join(question(c), c.Close())
	}
	if err != nil {
		return failedTo(doing, interrupted(ctx, err))
	}
	return nil
}

// failedTo says what the command was doing when err came. A service says it in fewer words
// already ("roll back"), which are not said twice.
func failedTo(doing string, err error) error {
	said := fmt.Errorf("%s: %w", doing, err)
	if verb, cause, ok := strings.Cut(err.Error(), ": "); ok && strings.HasPrefix(strings.ToLower(doing)+" ", verb+" ") {
		return restated{doing + ": " + cause, said}
	}
	return said
}

// restated is an error in other words.
type restated struct {
	text string
	error
}

func (e restated) Error() string { return e.text }
func (e restated) Unwrap() error { return e.error }

// say prints a word of success to standard error.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.stderr, line(fmt.Sprintf(format, args...)))
	}
}

// followOptions are how a command goes along with an operation.
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

// errEnough ends the watch of a command that was asked to detach.
var errEnough = errors.New("detached")

// verb begins an operation, or watches one, to its end.
type verb func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error)

// follow runs a verb and shows how it goes. uploads says that the operation
// needs us until its first step is over.
func (o *followOptions) follow(ctx context.Context, doing string, uploads bool, run verb) error {
	return o.followTo(ctx, doing, uploads, run, (*following).settled)
}

// followTo is follow with a report of how it ended.
func (o *followOptions) followTo(ctx context.Context, doing string, uploads bool, run verb, report func(*following, *client.Operation, error) error) error {
	return o.app.ask(ctx, doing, func(c *client.Client) error {
		f := &following{o: o, client: c, progress: newProgress(o.app), ctx: ctx, doing: doing, report: report}
		f.progress.answering = f.version
		ctx, enough := context.WithCancelCause(ctx)
		defer enough(nil)
		first := ""
		op, err := run(ctx, c, func(e *client.Event) {
			if ctx.Err() != nil { // those that were on their way
				return
			}
			if first == "" {
				first = e.GetStep()
			}
			f.progress.event(e)
			if o.detach && (!uploads || e.GetStep() != first) {
				enough(errEnough)
			}
		})
		return f.end(op, err)
	})
}

// following is one operation that a command goes along with.
type following struct {
	o        *followOptions
	client   *client.Client
	progress *progress
	ctx      context.Context // of the command
	doing    string
	report   func(*following, *client.Operation, error) error
}

// quick is a context for a question that outlives an interrupt.
func (f *following) quick() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(f.ctx), askTime)
}

func (f *following) version() string {
	ctx, cancel := f.quick()
	defer cancel()
	v, err := f.client.Version(ctx)
	if err != nil {
		return ""
	}
	return line(v)
}

func (f *following) end(op *client.Operation, err error) error {
	f.progress.end()
	detached, ok := errors.AsType[*client.DetachedError](err)
	if failure := f.progress.reason(); ok && failure != "" { // what the end would say
		f.progress.line("The operation failed and undoes its steps: %s", failure)
	}
	switch {
	case !ok:
		return f.report(f, op, err)
	case errors.Is(detached, errEnough):
		return f.left(detached.Operation)
	case f.o.cancelOnInterrupt && errors.Is(detached, errInterrupted):
		return f.cancel(detached)
	case detached.Uploading:
		return errkind.WithHint(err, "The image was not sent whole, so the operation undoes its steps. See: %s", f.command("show", detached.Operation))
	}
	return errkind.WithHint(err, "The operation goes on. Watch it again: %s", f.command("watch", detached.Operation))
}

// command is what to type to see more of an operation.
func (f *following) command(verb, id string) string { return f.o.app.command(verb, id) }

func (a *app) command(verb, id string) string {
	words := []string{"trident", "operation", verb, id}
	if a.socket != "" && a.socket != defaultSocket {
		words = append(words, "--socket", a.socket)
	}
	return strings.Join(words, " ")
}

// left prints the operation that goes on without us.
func (f *following) left(id string) error {
	ctx, cancel := f.quick()
	defer cancel()
	op, err := f.client.Operation(ctx, id)
	if err != nil {
		return err
	}
	return f.o.app.show(op, func(w *table) { w.line("%s", op.GetId()) })
}

// cancel takes the operation back and waits for that; a second interrupt ends
// the process.
func (f *following) cancel(at *client.DetachedError) error {
	f.progress.line("Cancelling operation %s; interrupt again to leave it", at.Operation)
	ctx, stop := f.quick()
	defer stop()
	if _, err := f.client.Cancel(ctx, at.Operation); err != nil {
		f.progress.line("It cannot be cancelled: %v", err)
	}
	op, err := f.client.Watch(context.WithoutCancel(f.ctx), at.Operation, at.Sequence, f.progress.event)
	f.progress.end()
	if client.Kind(err) == client.KindCancelled {
		return fmt.Errorf("operation %s was cancelled: %w", at.Operation, errInterrupted)
	}
	return f.report(f, op, err)
}

// settled says how the operation ended.
func (f *following) settled(op *client.Operation, err error) error {
	if op == nil {
		return err
	}
	running, evidence := f.outcome(op.GetId())
	if evidence != "" {
		f.progress.line("What was kept of the version that failed is on the host, in %s", evidence)
	}
	if err != nil && running != "" && !f.o.app.quiet {
		f.progress.line("Trident %s runs.", running)
	}
	if f.o.silent {
		return err
	}
	text := func(w *table) {
		if err == nil && !f.o.app.quiet {
			w.line("%s", successText(op, running))
		}
	}
	return errors.Join(err, f.o.app.show(op, text))
}

func successText(op *client.Operation, running string) string {
	if op.GetKind() == "self-stage" || running == "" {
		return fmt.Sprintf("Done: %s.", line(op.GetSummary()))
	}
	return fmt.Sprintf("Trident %s runs now.", running)
}

// outcome asks what runs after the operation, and where the evidence is.
func (f *following) outcome(id string) (running, evidence string) {
	ctx, cancel := f.quick()
	defer cancel()
	s, err := f.client.Status(ctx)
	if err != nil {
		return "", ""
	}
	if last := s.GetLast(); last.GetOperationId() == id {
		evidence = line(last.GetEvidence())
	}
	return line(s.GetRunningVersion()), evidence
}
