package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

const (
	// defaultConfig is where upstream looks for a Host Configuration.
	defaultConfig = "/etc/trident/config.yaml"
	// maxConfig is the largest Host Configuration that the API takes.
	maxConfig = 1 << 20
	// rebootTime is how long a reboot that was requested may take to happen.
	rebootTime = 600 * time.Second
)

// requestingReboot is what upstream says too; tests of whole systems look for it.
const requestingReboot = "Requesting reboot"

// errNoReboot is that the host still runs.
var errNoReboot = errors.New("the reboot did not happen")

// servicingOptions are what upstream's commands that service the host share.
type servicingOptions struct {
	followOptions
	statusFile, errorFile string
}

func newServicingOptions(a *app) servicingOptions {
	return servicingOptions{followOptions: followOptions{app: a}}
}

func (o *servicingOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVarP(&o.statusFile, "status", "s", "", "write the host's status to this file afterwards, also on failure")
	flags.StringVarP(&o.errorFile, "error", "e", "", "write the error to this file on failure")
	o.followOptions.addFlags(flags)
}

// opener begins one of upstream's calls; nil and no error is that there is
// nothing to begin.
type opener func(context.Context, *client.Client) (*servicing, error)

// service begins an operation on the host, follows it, and writes the files that
// were asked for.
func (o *servicingOptions) service(ctx context.Context, doing string, open opener) error {
	var s *servicing
	err := o.followTo(ctx, doing, false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		// Tells a daemon that cannot be reached from one that refuses.
		if _, err := c.Version(ctx); err != nil {
			return nil, err
		}
		watching, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		var err error
		if s, err = open(watching, c); err != nil || s == nil {
			return nil, plain(err)
		}
		go s.read(o.app)
		if s.operation == "" {
			return nil, o.withoutOperation(ctx, s)
		}
		reboot := &rebootWait{most: o.app.rebootTime, stop: stop}
		defer reboot.end()
		op, err := c.Watch(watching, s.operation, 0, func(e *client.Event) { reboot.event(e); fn(e) })
		if err == nil {
			err = s.outcome(ctx, c)
		}
		return op, reboot.result(ctx, err)
	}, func(_ *following, op *client.Operation, err error) error { return o.report(s, op, err) })
	err = errors.Join(err, o.writeFiles(ctx, err))
	return asUpstream(err)
}

// withoutOperation goes on with a call that is no operation: there was nothing to
// do, or the daemon is upstream's.
func (o *servicingOptions) withoutOperation(ctx context.Context, s *servicing) error {
	<-s.done
	if err := s.failure(); err != nil || s.completed.GetRebootStatus() != tridentv1.RebootStatus_REBOOT_STARTED {
		return err
	}
	fmt.Fprintln(o.app.stderr, requestingReboot)
	reboot := &rebootWait{most: o.app.rebootTime}
	reboot.begin()
	defer reboot.end()
	select {
	case <-ctx.Done():
		return reboot.result(ctx, context.Cause(ctx))
	case <-reboot.over:
		return errNoReboot
	}
}

// report says how the operation ended.
func (o *servicingOptions) report(s *servicing, op *client.Operation, err error) error {
	text := func(w io.Writer) {
		switch {
		case err != nil:
		case s != nil && s.completed.GetServicingKind() == tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED:
			fmt.Fprintln(w, "There was nothing to do.")
		case op != nil:
			fmt.Fprintf(w, "Done: %s.\n", line(op.GetSummary()))
		}
	}
	if op == nil && o.app.output.String() != "text" {
		return err
	}
	return errors.Join(err, o.app.show(op, text))
}

// rebootWait is the time between the request of a reboot and the end of us.
type rebootWait struct {
	most  time.Duration
	stop  func(error) // called when it is over; may be nil
	timer *time.Timer
	over  chan struct{} // closed then
}

func (r *rebootWait) event(e *client.Event) {
	switch waiting := e.GetChange().GetWaiting(); {
	case e.GetChange() == nil:
	case waiting == "reboot":
		r.begin()
	default:
		r.end()
	}
}

func (r *rebootWait) begin() {
	if r.timer != nil {
		return
	}
	r.over = make(chan struct{})
	over := r.over
	r.timer = time.AfterFunc(r.most, func() {
		close(over)
		if r.stop != nil {
			r.stop(errNoReboot)
		}
	})
}

func (r *rebootWait) end() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

// result is success for who is ended by the shutdown that it waits for.
func (r *rebootWait) result(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errNoReboot):
		return fmt.Errorf("%w within %s", errNoReboot, r.most)
	case r.timer != nil && errors.Is(context.Cause(ctx), errTerminated):
		return nil
	}
	return err
}

// allowedOperations is what may be done, in upstream's words; the zero value is
// everything.
type allowedOperations struct{ given, stage, finalize bool }

func (a *allowedOperations) addFlag(cmd *cobra.Command) {
	cmd.Flags().Var(a, "allowed-operations", "what may be done, separated by commas: stage, finalize; nothing only checks")
	words := cobra.FixedCompletions([]string{"stage", "finalize", "stage,finalize"}, cobra.ShellCompDirectiveNoFileComp)
	must(cmd.RegisterFlagCompletionFunc("allowed-operations", words))
}

func (a allowedOperations) String() string {
	switch stage, finalize := a.may(); {
	case stage && finalize:
		return "stage,finalize"
	case stage:
		return "stage"
	case finalize:
		return "finalize"
	}
	return ""
}

func (allowedOperations) Type() string { return "OPERATIONS" }

// Set adds to what was given before.
func (a *allowedOperations) Set(s string) error {
	a.given = true
	for word := range strings.SplitSeq(s, ",") {
		switch strings.TrimSpace(word) {
		case "":
		case "stage":
			a.stage = true
		case "finalize":
			a.finalize = true
		default:
			return errors.New("it must be made of stage and finalize")
		}
	}
	return nil
}

func (a allowedOperations) may() (stage, finalize bool) {
	return a.stage || !a.given, a.finalize || !a.given
}

// readConfig reads a Host Configuration.
func readConfig(path string) ([]byte, error) {
	text, err := readAtMost(path, maxConfig)
	switch {
	case errors.Is(err, os.ErrNotExist) && path == defaultConfig:
		err = errkind.WithHint(err, "name the file that has the Host Configuration")
	case err == nil:
		return text, nil
	}
	return nil, errkind.WithName(fmt.Errorf("read Host Configuration: %w", err), "LoadHostConfigurationFile")
}

// readAtMost reads a whole file, or stream, of at most max bytes.
func readAtMost(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(text)) > max {
		err = errkind.Errorf(errkind.TooLarge, "%s has more than %d KiB", path, max>>10)
	}
	return text, err
}

// configMessage is a Host Configuration as the API takes it: a string, in which
// only UTF-8 can be.
func configMessage(text []byte) (*tridentv1.HostConfiguration, error) {
	if !utf8.Valid(text) {
		err := errkind.Errorf(errkind.Invalid, "read Host Configuration: it is not UTF-8")
		return nil, errkind.WithName(errkind.WithHint(err, "trident validate shows the place"), "ParseHostConfiguration")
	}
	return &tridentv1.HostConfiguration{Config: string(text)}, nil
}

// tridentReboots has the daemon reboot the host.
func tridentReboots() *tridentv1.RebootManagement {
	return &tridentv1.RebootManagement{Handling: tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT}
}

// atMostOne takes one argument or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, fmt.Errorf("there is no place for %q", args[1]))
	}
	return nil
}

// argument is the only one, or what stands for it.
func argument(args []string, otherwise string) string {
	if len(args) == 0 {
		return otherwise
	}
	return args[0]
}
