package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

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
	case connecting && !(upstream && client.Kind(err) == client.KindDenied): // upstream fails there: the caller is not root
		return exitSetup
	case upstream:
		return exitFailed
	}
	if failed, ok := errors.AsType[*client.OperationError](err); ok && failed.Stuck() {
		return exitFailed
	}
	switch client.Kind(err) {
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
	hint := client.Hint(err)
	if word := a.output.String(); word != "text" {
		a.printErrorObject(word, errorObject{Kind: kindOf(err), Message: strings.ToValidUTF8(err.Error(), "\uFFFD"), Hint: hint})
		return
	}
	a.printMessage(red, "trident:", err.Error())
	if hint != "" {
		a.printMessage(cyan, "hint:", hint)
	}
}

// printMessage prints a text behind a word. A terminal gets lines that are broken between
// words; what a line continues is indented.
func (a *app) printMessage(colour, word, text string) {
	const indent = "  "
	columns := max(0, a.err.columns()-len(indent))
	for i, paragraph := range paragraphs(text) {
		if i == 0 {
			paragraph = word + " " + paragraph
		}
		for j, l := range broken(paragraph, columns) {
			if i+j > 0 {
				l = indent + l
			} else if rest, ok := strings.CutPrefix(l, word); ok {
				l = a.err.paint(colour, word) + rest
			}
			fmt.Fprintln(a.stderr, l)
		}
	}
}

// errorObject is an error as programs read it. Its JSON form is documented by
// docs/cli.md.
type errorObject struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// kindOf is the kind of an error; an interrupted command was cancelled.
func kindOf(err error) string {
	switch {
	case errors.Is(err, errInterrupted):
		return string(errkind.Cancelled)
	case errors.Is(err, errTimedOut):
		return string(errkind.Timeout)
	}
	return string(cmp.Or(client.Kind(err), client.KindInternal))
}

// printErrorObject prints an error as one line of JSON, which is the last line of
// standard error, or as a document of YAML.
func (a *app) printErrorObject(word string, e errorObject) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(e) // three strings in memory
	out := visible(text.Bytes(), escapedPair)
	if word == "yaml" {
		if doc, err := yamlOf(out); err == nil {
			out = append([]byte("---\n"), doc...)
		}
	}
	_, _ = a.stderr.Write(out)
}

// wantedFormat returns the format that args ask for: an error of the command line may
// come before cobra has read the flag. cmd is the command that ended with the error.
func wantedFormat(cmd *cobra.Command, args []string) string {
	if f := cmd.Flags().Lookup("output"); f != nil && f.Value.Type() != (format{}).Type() {
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
		var f format
		if word != "" && f.Set(word) == nil {
			return f.word
		}
	}
	return ""
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
