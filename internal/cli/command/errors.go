package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

// The reasons for which a command ends without an error of the daemon.
var (
	ErrInterrupted = errors.New("interrupted")
	ErrTerminated  = fmt.Errorf("terminated: %w", ErrInterrupted)
	ErrTimedOut    = errors.New("--timeout is over")
	// ErrNoReboot says that the host did not reboot in time.
	ErrNoReboot = errors.New("the reboot did not happen")
)

// UsageError returns the error of a wrong command line, with the hint to read the help.
func UsageError(cmd *cobra.Command, err error) error {
	return errUsage{errkind.WithHint(errkind.With(errkind.Invalid, err), "see: %s --help", cmd.CommandPath())}
}

// Interrupted returns the reason for which ctx ended, instead of the error of a call that
// only says that the context ended.
func Interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if errors.Is(err, ErrNoReboot) || errors.Is(err, cause) || (!errors.Is(cause, ErrInterrupted) && !errors.Is(cause, ErrTimedOut)) {
		return err
	}
	return cause
}

// failedTo returns err with doing ("roll back the host") in front, in place of the same or the
// shorter words of a service ("roll back").
func failedTo(doing string, err error) error {
	said := fmt.Errorf("%s: %w", doing, err)
	if verb, cause, ok := strings.Cut(err.Error(), ": "); ok && strings.HasPrefix(strings.ToLower(doing)+" ", strings.ToLower(verb)+" ") {
		return restated{doing + ": " + cause, said}
	}
	return said
}

// restated is an error with another text.
type restated struct {
	text string
	error
}

func (e restated) Error() string { return e.text }
func (e restated) Unwrap() error { return e.error }

// UpstreamError is the error of a command that upstream has, and so of upstream's exit codes.
type UpstreamError struct{ error }

func (e UpstreamError) Unwrap() error { return e.error }

func AsUpstream(err error) error {
	if err == nil {
		return nil
	}
	if _, connecting := errors.AsType[*client.ConnectError](err); connecting && client.Kind(err) == client.KindDenied {
		err = fmt.Errorf("Failed to run due to missing root privileges: %w", err) //nolint:staticcheck // upstream's text
	}
	return UpstreamError{err}
}

// SetupError is the error of a command that ended before Trident on a host did anything, or
// without an answer of that Trident: its exit code is 1.
type SetupError struct{ error }

func (e SetupError) Unwrap() error { return e.error }

// AsSetup returns err as a SetupError; nil stays nil.
func AsSetup(err error) error {
	if err == nil {
		return nil
	}
	return SetupError{err}
}
