package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// cancelTime bounds the request to undo an installation that nobody waits for any more.
const cancelTime = 10 * time.Second

// Result is a machine that was provisioned.
type Result struct {
	Name string // in its certificate
	// Address is the IP address from which the installed system has connected or reported.
	Address string
	// IsConnected says that the installed system has the agent, and has connected.
	IsConnected bool
}

// FailedError says that Trident, on the machine, refused or failed the installation.
type FailedError struct{ error }

// Unwrap returns the error of Trident.
func (e *FailedError) Unwrap() error { return e.error }

var (
	errReported = errors.New("the machine has reported the end")
	errSilent   = errors.New("no report after the reboot")
)

// Await waits until the machine has connected, and returns its address. It fails with Timeout
// after Options.CallTime, and with the cause of ctx.
func (r *Run) Await(ctx context.Context) (string, error) {
	over := time.NewTimer(r.options.CallTime)
	defer over.Stop()
	select {
	case <-r.machine.called:
		address, _ := r.machine.known()
		return address, nil
	case <-over.C:
		err := errkind.Errorf(errkind.Timeout, "wait for the machine: none has connected to %s within %s", r.announced(r.socket), r.options.CallTime)
		return "", errkind.WithHint(err, "See on its console whether it has booted the live image, has a network, and reaches this address.")
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the machine: %w", context.Cause(ctx))
	}
}

// Install installs the machine, which has connected or connects within Options.CallTime, and
// follows it through its reboot until it is provisioned. fn gets each event of the
// installation once. Install fails with a *[FailedError] if Trident failed the installation, with
// Timeout if the machine does not report within Options.RebootTime after the beginning of its
// reboot, and with the cause of ctx. In that last case it asks Trident to undo an
// installation that has not come to the reboot.
func (r *Run) Install(ctx context.Context, fn func(*client.Event)) (Result, error) {
	if _, err := r.Await(ctx); err != nil {
		return Result{}, err
	}
	c, err := r.listener.Client(r.options.Name, client.WithDialer(r.dial))
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close() }()
	following, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	end := &ending{run: r, rebootBegun: make(chan struct{}), stop: stop}
	var waiting sync.WaitGroup
	waiting.Go(func() { end.wait(following) })
	_, err = c.Host().Install(following, &client.Config{Text: string(r.config.YAML())}, client.How{}, func(e *client.Event) {
		if r.machine.event(e) {
			close(end.rebootBegun)
		}
		fn(e)
	})
	if err != nil && r.machine.isRebooting() && isLost(err) {
		<-following.Done() // the machine may report by phonehome
	}
	cause := context.Cause(following)
	stop(nil)
	waiting.Wait()
	if err != nil && ctx.Err() != nil {
		r.cancel(ctx, c)
	}
	return r.result(ctx, err, cause, end.report)
}

// isLost reports whether an error says only that the host does not answer.
func isLost(err error) bool {
	_, connecting := errors.AsType[*client.ConnectError](err)
	return connecting || client.Kind(err) == client.KindUnavailable
}

// ending waits for an end that the connection does not show.
type ending struct {
	run         *Run
	rebootBegun chan struct{}
	stop        context.CancelCauseFunc
	report      report
}

// wait ends the following of an operation when the machine reports its end by phonehome, or
// does not report for too long.
func (e *ending) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-e.rebootBegun:
	}
	over := time.NewTimer(e.run.options.RebootTime)
	defer over.Stop()
	select {
	case <-ctx.Done():
	case <-over.C:
		e.stop(errSilent)
	case e.report = <-e.run.reports:
		e.stop(errReported)
	}
}

// result judges the end of an installation. cause is why the following of it ended, if it did.
func (r *Run) result(ctx context.Context, err, cause error, last report) (Result, error) {
	address, _ := r.machine.known()
	detached, isDetached := errors.AsType[*client.DetachedError](err)
	switch {
	case err == nil:
		return Result{Name: r.options.Name, Address: address, IsConnected: true}, nil
	case ctx.Err() != nil:
		return Result{}, fmt.Errorf("install the machine: %w", context.Cause(ctx))
	case errors.Is(cause, errReported) && last.State == "succeeded":
		return Result{Name: r.options.Name, Address: cmp.Or(last.address, address)}, nil
	case errors.Is(cause, errReported):
		return Result{}, &FailedError{errkind.Errorf(errkind.Unhealthy, "install the machine: after the reboot Trident reports: %s", last.Message)}
	case errors.Is(cause, errSilent):
		err := errkind.Errorf(errkind.Timeout, "install the machine: it was installed, and has not reported within %s after its reboot", r.options.RebootTime)
		return Result{}, errkind.WithHint(err, "See its console. The installed system reports if it has Trident and reaches this host; --with-agent also has it connect.")
	case isDetached:
		return Result{}, fmt.Errorf("install the machine: %w", detached)
	case isLost(err):
		return Result{}, fmt.Errorf("install the machine: %w", err)
	}
	return Result{}, &FailedError{fmt.Errorf("install the machine: %w", err)}
}

// cancel asks Trident to undo an installation before its reboot.
func (r *Run) cancel(ctx context.Context, c *client.Client) {
	_, operation := r.machine.known()
	if operation == "" || r.machine.isRebooting() {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer stop()
	if _, err := c.Cancel(ctx, operation); err != nil {
		r.options.Notice(fmt.Sprintf("The installation goes on, and cannot be cancelled: %v", err))
		return
	}
	r.options.Notice("The machine undoes the installation.")
}
