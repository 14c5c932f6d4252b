package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/filekind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

const (
	// defaultConfig is where upstream looks for a Host Configuration.
	defaultConfig = "/etc/trident/config.yaml"
	// maxConfig is the largest Host Configuration that the API takes.
	maxConfig = 1 << 20
	// rebootTime is the default of app.rebootTime.
	rebootTime = 600 * time.Second
	// silence is the default of app.silence.
	silence = 5 * time.Second
)

// servicingOptions are the flags that upstream's commands for the host share.
type servicingOptions struct {
	command.FollowOptions
	statusFile, errorFile string
	// inputs are the files that the command reads; statusFile and errorFile may not
	// overwrite them.
	inputs []string
}

func newServicingOptions(a *command.App) servicingOptions {
	return servicingOptions{FollowOptions: command.FollowOptions{App: a}}
}

func (o *servicingOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVarP(&o.statusFile, "status", "s", "", "write the host's status to this file at the end, also on failure")
	flags.StringVarP(&o.errorFile, "error", "e", "", "write the error to this file on failure")
	o.FollowOptions.AddFlags(flags)
}

// verbOfHost makes one of upstream's calls and waits for its end. It returns an empty outcome
// and no error if no call was necessary.
type verbOfHost func(context.Context, *client.Client, func(*client.Event)) (client.Outcome, error)

// reporter prints the result of an operation on the host.
type reporter func(f *command.Following, out client.Outcome, op *client.Operation, err error) error

// service begins an operation on the host, follows it, and writes the files of --status and
// --error.
func (o *servicingOptions) service(ctx context.Context, doing string, begin verbOfHost) error {
	return o.serviceTo(ctx, doing, begin, o.report)
}

// serviceTo is service with another reporter.
func (o *servicingOptions) serviceTo(ctx context.Context, doing string, begin verbOfHost, report reporter) error {
	if err := o.checkFiles(); err != nil {
		return err
	}
	var out client.Outcome
	err := o.FollowTo(ctx, doing, false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		watching, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		wait := &rebootWait{most: cmp.Or(o.App.RebootTime, rebootTime), stop: stop}
		defer wait.end()
		var err error
		out, err = begin(watching, c, func(e *client.Event) { wait.event(e); fn(e) })
		if err == nil {
			err = o.reboots(watching, c, out, wait)
		}
		return out.Operation, wait.result(ctx, err)
	}, func(f *command.Following, op *client.Operation, err error) error { return report(f, out, op, err) })
	err = errors.Join(err, o.writeFiles(ctx, err))
	return command.AsUpstream(err)
}

// reboots waits for the reboot of an outcome that ends with one. The command cannot watch the
// operation through that reboot: the daemon is upstream's, or the new system has no record of
// the operation. If the caller has to reboot the host, reboots does so.
func (o *servicingOptions) reboots(ctx context.Context, c *client.Client, out client.Outcome, wait *rebootWait) error {
	status := out.Completed.GetRebootStatus()
	if status != tridentv1.RebootStatus_REBOOT_STARTED && status != tridentv1.RebootStatus_REBOOT_REQUIRED {
		return nil
	}
	fmt.Fprintln(o.App.Stderr, terminal.RequestingReboot)
	wait.begin()
	if status == tridentv1.RebootStatus_REBOOT_REQUIRED {
		reboot := o.App.Reboot
		if reboot == nil {
			reboot = o.rebootHost
		}
		if err := reboot(ctx); err != nil {
			return err
		}
	}
	return awaitLeave(ctx, c, cmp.Or(o.App.Silence, silence))
}

// awaitLeave waits until the daemon does not answer within the time silence. The reboot of
// this host ends the process before that.
func awaitLeave(ctx context.Context, c *client.Client, silence time.Duration) error {
	tick := time.NewTicker(silence / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, silence)
		_, err := c.Version(asking)
		cancel()
		if err != nil && ctx.Err() == nil {
			return nil
		}
	}
}

// rebootHost reboots this host, unless the daemon is on another one.
func (o *servicingOptions) rebootHost(ctx context.Context) error {
	if !o.App.IsLocal() {
		return errkind.WithName(errkind.Errorf(errkind.Precondition, "the host has to be rebooted, and may be another one than this"), errkind.NameReboot)
	}
	syscall.Sync()
	env := append(os.Environ(), "SYSTEMD_IGNORE_CHROOT=true")
	_, err := run.Output(ctx, run.Command{Path: "systemctl", Args: []string{"reboot"}, Env: env})
	return errkind.WithName(wrap("reboot the host", err), errkind.NameReboot)
}

// report prints the result of the operation.
func (o *servicingOptions) report(_ *command.Following, out client.Outcome, op *client.Operation, err error) error {
	text := func(w *terminal.Table) {
		switch {
		case err != nil || o.App.Quiet:
			return
		case out.Completed.GetServicingKind() == tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED:
			w.Line("There was nothing to do.")
		case op != nil:
			w.Line("Done: %s.", op.GetSummary())
		}
		if hash := out.Completed.GetImageHash(); hash != "" {
			w.Line("The image is %s.", hash)
		}
	}
	if op == nil && o.App.Output.String() != "text" {
		return err
	}
	return errors.Join(err, o.App.Show(op, text))
}

// rebootWait bounds the time between the request of a reboot and the reboot.
type rebootWait struct {
	most  time.Duration
	stop  func(error) // called when it is over
	timer *time.Timer
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
	r.timer = time.AfterFunc(r.most, func() { r.stop(command.ErrNoReboot) })
}

func (r *rebootWait) end() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

// result returns nil if the awaited shutdown terminated this process.
func (r *rebootWait) result(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, command.ErrNoReboot):
		return fmt.Errorf("%w within %s", command.ErrNoReboot, r.most)
	case r.timer != nil && errors.Is(context.Cause(ctx), command.ErrTerminated):
		return nil
	}
	return err
}

// allowedOperations is the value of upstream's flag; the zero value allows everything.
type allowedOperations struct{ given, stage, finalize bool }

func (a *allowedOperations) addFlag(cmd *cobra.Command) {
	cmd.Flags().Var(a, "allowed-operations", "stage, finalize or both, separated by a comma; \"\" only checks")
	command.CompleteFlag(cmd, "allowed-operations", "stage", "finalize", "stage,finalize")
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

// Set adds the operations in s to those of earlier flags.
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

// how returns the allowed part of an operation.
func (a allowedOperations) how() client.How {
	switch stage, finalize := a.may(); {
	case !finalize:
		return client.How{Part: client.StageOnly}
	case !stage:
		return client.How{Part: client.FinalizeOnly}
	}
	return client.How{Part: client.Everything}
}

// readConfig reads a Host Configuration from a file, or from standard input if path
// is "-".
func readConfig(ctx context.Context, path string) ([]byte, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = readStdin(ctx)
	} else {
		text, err = filekind.ReadFile(path, maxConfig, filekind.Config)
	}
	switch {
	case errors.Is(err, os.ErrNotExist) && path == defaultConfig:
		err = errkind.WithHint(err, "name the file that has the Host Configuration")
	case path == "-" && len(text) > 0 && err == nil:
		if other := filekind.Mistaken(bytes.NewReader(text), int64(len(text)), filekind.Config); other != nil {
			err = fmt.Errorf("%s: %w", configName(path), other)
		}
	}
	if err == nil {
		return text, nil
	}
	return nil, errkind.WithName(fmt.Errorf("read Host Configuration: %w", err), errkind.NameLoadHostConfigurationFile)
}

// readStdin reads a Host Configuration from standard input. It returns when ctx ends, also if
// no writer closes standard input.
func readStdin(ctx context.Context) ([]byte, error) {
	type input struct {
		text []byte
		err  error
	}
	came := make(chan input, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(command.Stdin(ctx), maxConfig+1))
		if err == nil && len(text) > maxConfig {
			err = errkind.Errorf(errkind.TooLarge, "%s has more than %d KiB", configName("-"), maxConfig>>10)
		}
		came <- input{text, err}
	}()
	select {
	case in := <-came:
		return in.text, in.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// configName returns the name of the Host Configuration at path in findings and errors.
func configName(path string) string {
	if path == "-" {
		return "<stdin>"
	}
	return path
}

// configOf returns a Host Configuration for the API, which takes UTF-8 only.
func configOf(text []byte) (*client.Config, error) {
	if !utf8.Valid(text) {
		err := errkind.Errorf(errkind.Invalid, "read Host Configuration: the text is not UTF-8")
		return nil, errkind.WithName(errkind.WithHint(err, "trident validate shows the place"), errkind.NameParseHostConfiguration)
	}
	return &client.Config{Text: string(text)}, nil
}
