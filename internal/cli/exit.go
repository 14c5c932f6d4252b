package cli

import (
	"cmp"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

// The exit codes. 0 to 4 are upstream's, and the commands that upstream has return only those
// and the codes of --timeout and of an interrupt. 4 is reserved for a daemon that cannot read
// its configuration.
const (
	exitOK          = 0
	exitSetup       = 1 // the daemon could not be reached, or provision could not prepare or follow a machine
	exitFailed      = 2 // the operation failed, or the command line is wrong
	exitNoReboot    = 3 // a reboot was requested, and the host did not reboot
	exitRefused     = 5 // Trident refused an image; nothing changed
	exitBusy        = 6 // another operation is running; nothing changed
	exitRolledBack  = 7 // a new version failed its trial and was rolled back
	exitTimedOut    = 124
	exitInterrupted = 130
)

// exitCode returns the exit code for an error. Nothing else decides about exit codes.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if several, ok := errors.AsType[*hostErrors](err); ok {
		return several.exitCode()
	}
	switch {
	case errors.Is(err, command.ErrInterrupted):
		return exitInterrupted
	case errors.Is(err, command.ErrTimedOut):
		return exitTimedOut
	case errors.Is(err, command.ErrNoReboot):
		return exitNoReboot
	}
	_, upstream := errors.AsType[command.UpstreamError](err)
	_, connecting := errors.AsType[*client.ConnectError](err)
	_, preparing := errors.AsType[command.SetupError](err)
	switch {
	case preparing:
		return exitSetup
	case connecting && !(upstream && client.Kind(err) == client.KindDenied): // upstream fails there: the caller is not root
		return exitSetup
	case upstream:
		return exitFailed
	}
	if failed, ok := errors.AsType[*client.OperationError](err); ok && failed.Stuck() {
		return exitFailed
	}
	switch client.Kind(err) {
	case client.KindUntrusted, client.KindCorrupt, client.KindIncompatible, client.KindForbidden, client.KindTooOld, client.KindBlocked:
		return exitRefused
	case client.KindBusy:
		return exitBusy
	case client.KindUnhealthy:
		return exitRolledBack
	}
	return exitFailed
}

// printError prints an error and its hint in the output format of the command. It prints
// nothing if the reader of standard output has closed the pipe.
func printError(a *command.App, err error) {
	several, ok := errors.AsType[*hostErrors](err)
	if err == nil || !ok && errors.Is(err, command.ErrReaderGone) { // trident … | head: nobody misses the rest
		return
	}
	f := failureOf(err)
	if ok {
		several.print(a)
		f.Kind, f.Hint = several.worstKind(), ""
	}
	a.PrintFailure(f)
}

// failureOf returns the form of an error for programs.
func failureOf(err error) terminal.Failure {
	return terminal.Failure{Kind: kindOf(err), Message: err.Error(), Hint: client.Hint(err)}
}

// kindOf returns the kind of an error: of an interrupt Cancelled, of --timeout Timeout.
func kindOf(err error) string {
	switch {
	case errors.Is(err, command.ErrInterrupted):
		return string(client.KindCancelled)
	case errors.Is(err, command.ErrTimedOut):
		return string(client.KindTimeout)
	}
	return string(cmp.Or(client.Kind(err), client.KindInternal))
}

// wantedFormat returns the value of --output in args, because an error of the command line
// may come before cobra has read the flag. cmd is the command that returned the error.
func wantedFormat(cmd *cobra.Command, args []string) terminal.Format {
	if f := cmd.Flags().Lookup("output"); f != nil && f.Value.Type() != terminal.Format("").Type() {
		return "" // there the flag names a file
	}
	for i, arg := range args {
		word, ok := strings.CutPrefix(arg, "--output=")
		switch {
		case arg == "--":
			return ""
		case ok:
		case arg == "--output", arg == "-o" && cmd.Flags().Lookup("outfile") == nil:
			if i+1 < len(args) {
				word = args[i+1]
			}
		}
		var f terminal.Format
		if word != "" && f.Set(word) == nil {
			return f
		}
	}
	return ""
}
