package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
)

var (
	errInterrupted = errors.New("interrupted")
	errTerminated  = fmt.Errorf("terminated: %w", errInterrupted)
	errTimedOut    = errors.New("--timeout is over")
	// errNoReboot says that the host did not reboot in time.
	errNoReboot = errors.New("the reboot did not happen")
)

// usage returns the error of a wrong command line, with the hint to read the help.
func usage(cmd *cobra.Command, err error) error {
	return errkind.WithHint(errkind.With(errkind.Invalid, err), "see: %s --help", cmd.CommandPath())
}

// interrupted returns the reason for which ctx ended, instead of the error of a call that
// only says that the context ended.
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

// failedTo returns err with doing ("roll back the host") in front, in place of the shorter
// verb of a service ("roll back").
func failedTo(doing string, err error) error {
	said := fmt.Errorf("%s: %w", doing, err)
	if verb, cause, ok := strings.Cut(err.Error(), ": "); ok && strings.HasPrefix(strings.ToLower(doing)+" ", verb+" ") {
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

// upstreamError is the error of a command that upstream has, and so of upstream's exit codes.
type upstreamError struct{ error }

func (e upstreamError) Unwrap() error { return e.error }

func asUpstream(err error) error {
	if err == nil {
		return nil
	}
	if _, connecting := errors.AsType[*client.ConnectError](err); connecting && client.Kind(err) == client.KindDenied {
		err = fmt.Errorf("Failed to run due to missing root privileges: %w", err) //nolint:staticcheck // upstream's text
	}
	return upstreamError{err}
}
