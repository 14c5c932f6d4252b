package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

// onSeveralHosts has the command that is about to run run on each of the hosts, if --host or
// --label names several: each time with a command line, streams and a connection of its own,
// so that no command has to know.
func onSeveralHosts(a *command.App, cmd *cobra.Command, args []string) {
	if !a.HasSeveralHosts() {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		errs, err := a.OnEach(cmd.Context(), func(ctx context.Context, one *command.App) error {
			_, err := run(ctx, one, args)
			return err
		}, describe)
		for _, one := range errs {
			if command.IsUsage(one) { // it is that of all
				return errors.Unwrap(one)
			}
		}
		return errors.Join(err, ofHosts(errs))
	}
}

// describe returns the form of the error of a host for programs, and the end of its line.
func describe(err error) (*terminal.HostFailure, string) {
	f := &terminal.HostFailure{Failure: failureOf(err), Retriable: client.Retriable(err)}
	return f, "failed: " + f.Kind
}

// hostErrors are the errors of a command on several hosts, all of them *client.HostError.
type hostErrors struct {
	of   int // hosts
	errs []error
}

// ofHosts returns the error of a command on several hosts, nil if none has failed.
func ofHosts(errs []error) error {
	all := &hostErrors{of: len(errs)}
	for _, err := range errs {
		if err != nil {
			all.errs = append(all.errs, err)
		}
	}
	if len(all.errs) == 0 {
		return nil
	}
	return all
}

func (h *hostErrors) Error() string {
	return fmt.Sprintf("%d of %d hosts failed: %s", len(h.errs), h.of, strings.Join(h.names(), ", "))
}

func (h *hostErrors) names() (out []string) {
	for _, err := range h.errs {
		if one, ok := errors.AsType[*client.HostError](err); ok {
			out = append(out, one.Host)
		}
	}
	return out
}

// exitCode returns the worst exit code of the hosts.
func (h *hostErrors) exitCode() int { return worstCode(h.errs) }

// worstCode returns the exit code of the errors that is the first in this order: the command
// did not come to its end; the host may need a person; the host is as before.
func worstCode(errs []error) int {
	worst := exitOK
	rank := map[int]int{}
	for i, code := range []int{exitInterrupted, exitTimedOut, exitFailed, exitNoReboot, exitRolledBack, exitSetup, exitRefused, exitBusy} {
		rank[code] = 100 - i
	}
	for _, err := range errs {
		if code := exitCode(err); rank[code] > rank[worst] {
			worst = code
		}
	}
	return worst
}

// print prints one message for each error, with the hosts that have it: the same text and the
// same hint.
func (h *hostErrors) print(a *command.App) {
	if a.Output.String() != "text" { // the result has the errors
		return
	}
	hosts, order := map[terminal.Failure][]string{}, []terminal.Failure{}
	for _, err := range h.errs {
		one, ok := errors.AsType[*client.HostError](err)
		if !ok {
			continue
		}
		f := failureOf(one.Err)
		mark := "permanent"
		if client.Retriable(one.Err) {
			mark = "retriable"
		}
		f.Message += " (" + mark + ")"
		if hosts[f] == nil {
			order = append(order, f)
		}
		hosts[f] = append(hosts[f], one.Host)
	}
	for _, f := range order {
		names := strings.Join(hosts[f], ", ")
		f.Message = names + ": " + f.Message
		a.PrintFailure(f)
	}
}

// worstKind returns the kind of the error that decides the exit code.
func (h *hostErrors) worstKind() string {
	worst := h.exitCode()
	for _, err := range h.errs {
		if exitCode(err) == worst {
			return kindOf(err)
		}
	}
	return string(client.KindInternal)
}
