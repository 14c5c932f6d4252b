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

// The exit codes. 0 to 4 are upstream's, and the commands that upstream has return only those
// and the codes of --timeout and of an interrupt. 4 is reserved for a daemon that cannot read
// its configuration.
const (
	exitOK          = 0
	exitSetup       = 1 // the daemon could not be reached
	exitFailed      = 2 // the operation failed, or the command line is wrong
	exitNoReboot    = 3 // a reboot was requested, and the host did not reboot
	exitRefused     = 5 // Trident refused an image; nothing changed
	exitBusy        = 6 // another operation is running; nothing changed
	exitRolledBack  = 7 // a new version failed its trial and was rolled back
	exitTimedOut    = 124
	exitInterrupted = 130
)

var (
	errInterrupted = errors.New("interrupted")
	errTerminated  = fmt.Errorf("terminated: %w", errInterrupted)
	errTimedOut    = errors.New("--timeout is over")
)

// exitCode returns the exit code for an error. Nothing else decides about exit codes.
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
		return exitRolledBack
	}
	return exitFailed
}

// printError prints an error and its hint in the output format of the command.
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
// words, and all but the first are indented. A command at the end of the text is a line of
// its own that is not broken, so that people can copy it from the screen.
func (a *app) printMessage(colour, word, text string) {
	const indent = "  "
	columns := max(0, a.err.columns()-len(indent))
	for i, paragraph := range paragraphs(text) {
		if i == 0 {
			paragraph = word + " " + paragraph
		}
		rows := broken(paragraph, columns)
		if at := strings.LastIndex(paragraph, ": "); len(rows) > 1 && at >= len(word) && isCommand(paragraph[at+2:]) {
			rows = append(broken(paragraph[:at+1], columns), paragraph[at+2:])
		}
		for j, l := range rows {
			if i+j > 0 {
				l = indent + l
			} else if rest, ok := strings.CutPrefix(l, word); ok {
				l = a.err.paint(colour, word) + rest
			}
			fmt.Fprintln(a.stderr, l)
		}
	}
}

// isCommand reports whether the end of a hint is a command line: it begins with a program
// and is not a sentence.
func isCommand(text string) bool {
	program, _, _ := strings.Cut(text, " ")
	switch program {
	case "trident", "sudo", "openssl", "systemctl", "journalctl", "findmnt", "mkfs.erofs":
		return !strings.HasSuffix(text, ".")
	}
	return false
}

// errorObject is the form of an error for programs. docs/cli.md documents it.
type errorObject struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// kindOf returns the kind of an error: of an interrupt Cancelled, of --timeout Timeout.
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

// wantedFormat returns the value of --output in args, because an error of the command line
// may come before cobra has read the flag. cmd is the command that returned the error.
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
