package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// The exit codes. 0 to 4 are upstream's, whose commands have no others but those
// of --timeout and of an interrupt; 4 is kept for a daemon that cannot read its
// configuration.
const (
	exitOK          = 0
	exitSetup       = 1 // nothing was asked of the daemon, it could not be reached
	exitFailed      = 2 // the operation failed, or the command line is wrong
	exitNoReboot    = 3 // a reboot was requested, and the host still runs
	exitRefused     = 5 // an image was not accepted; nothing changed
	exitBusy        = 6 // another operation runs; nothing changed
	exitThrownBack  = 7 // a new version was tried, did not prove itself, and is gone
	exitTimedOut    = 124
	exitInterrupted = 130
)

var (
	errInterrupted = errors.New("interrupted")
	errTerminated  = fmt.Errorf("terminated: %w", errInterrupted)
	errTimedOut    = errors.New("--timeout is over")
)

// exitCode is the one place where an error becomes a number.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errTimedOut):
		return exitTimedOut
	case errors.Is(err, errNoReboot):
		return exitNoReboot
	}
	_, upstream := errors.AsType[upstreamError](err)
	_, connecting := errors.AsType[*client.ConnectError](err)
	switch {
	case connecting && !(upstream && client.Kind(err) == string(errkind.Denied)): // upstream fails there: the caller is not root
		return exitSetup
	case upstream:
		return exitFailed
	}
	if failed, ok := errors.AsType[*client.OperationError](err); ok && failed.Stuck() {
		return exitFailed
	}
	switch errkind.Kind(client.Kind(err)) {
	case errkind.Untrusted, errkind.Corrupt, errkind.Incompatible, errkind.Forbidden, errkind.TooOld, errkind.Blocked:
		return exitRefused
	case errkind.Busy:
		return exitBusy
	case errkind.Unhealthy:
		return exitThrownBack
	}
	return exitFailed
}

// printError shows an error and what to do about it.
func (a *app) printError(err error) {
	if err == nil {
		return
	}
	fmt.Fprintf(a.stderr, "trident: %s\n", lines(err.Error()))
	if hint := client.Hint(err); hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", line(hint))
	}
}

// usage is the error of a command that was used wrongly.
func usage(cmd *cobra.Command, err error) error {
	return errkind.WithHint(errkind.With(errkind.Invalid, err), "see: %s --help", cmd.CommandPath())
}

// interrupted tells the reason why ctx ended; the error of a call only says
// that it did.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if errors.Is(err, errNoReboot) || errors.Is(err, cause) || (!errors.Is(cause, errInterrupted) && !errors.Is(cause, errTimedOut)) {
		return err
	}
	return cause
}
