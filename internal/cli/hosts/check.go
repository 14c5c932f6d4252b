package hosts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosts"
	"github.com/trident-project/trident/proto/client"
)

// soon is the time before the end of a certificate from which on check marks it.
const soon = 30 * 24 * time.Hour

func newCheckCommand(a *command.App, run func(context.Context, *selection) error) *cobra.Command {
	o := &selection{app: a}
	cmd := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Connect to every endpoint of hosts, by default of all",
		Long: `Check connects to each endpoint: which answers, with which version of Trident, how
fast, how long the certificates are valid, and why not. It changes nothing. It fails
if a host has no endpoint that answers. NAME is a name, or an endpoint.`,
		Example: `  trident hosts check
  trident hosts check web-1 ssh://root@web-2
  trident hosts check --label env=prod --output json`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringArrayVar(&o.labels, "label", nil, "only hosts with this label `NAME=VALUE`; several have to match")
	command.CompleteFlag(cmd, "label")
	return cmd
}

// checked is the form of an endpoint for programs. docs/cli.md documents it.
type checked struct {
	Host     string `json:"host"`
	Endpoint string `json:"endpoint"`
	Reached  bool   `json:"reached"`
	Version  string `json:"version,omitempty"`
	// RoundTrip is in milliseconds.
	RoundTrip         float64               `json:"roundTripMs,omitempty"`
	ServerCertificate *time.Time            `json:"serverCertificateExpires,omitempty"`
	ClientCertificate *time.Time            `json:"clientCertificateExpires,omitempty"`
	Error             *terminal.HostFailure `json:"error,omitempty"`

	err error
}

func check(ctx context.Context, o *selection) error {
	f, targets, err := o.targets()
	if err != nil {
		return fmt.Errorf("check hosts: %w", err)
	}
	if len(targets) == 0 {
		err := errkind.Errorf(errkind.NotFound, "check hosts: %s has no hosts", f.Path())
		return errkind.WithHint(err, "Add one: trident hosts add NAME ssh://root@HOST")
	}
	all := checkAll(ctx, targets, o.app.Parallel())
	shown := o.app.Show(all, func(w *terminal.Table) { writeChecks(w, all, o.app.Now()) })
	return errors.Join(shown, unreached(targets, all))
}

// checkAll checks all endpoints, for at most parallel at the same time, and returns them in
// their order.
func checkAll(ctx context.Context, targets []hosts.Target, parallel int) []checked {
	var all []checked
	var of []hosts.Target
	for _, t := range targets {
		for _, e := range t.Host.Endpoints {
			all, of = append(all, checked{Host: t.Name, Endpoint: e}), append(of, t)
		}
	}
	turns := make(chan struct{}, parallel)
	var running sync.WaitGroup
	for i := range all {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			found := of[i].Check(ctx, all[i].Endpoint)
			found.Err = command.Interrupted(ctx, found.Err)
			all[i].fill(found)
		})
	}
	running.Wait()
	return all
}

func (c *checked) fill(check hosts.Check) {
	c.err, c.Version, c.Reached = check.Err, check.Version, check.Err == nil
	c.RoundTrip = float64(check.RoundTrip.Round(time.Microsecond)) / float64(time.Millisecond)
	c.ServerCertificate, c.ClientCertificate = known(check.Expiry.Server), known(check.Expiry.Client)
	if err := check.Err; err != nil {
		c.Error = &terminal.HostFailure{Failure: terminal.Failure{Kind: string(client.Kind(err)), Message: err.Error(), Hint: client.Hint(err)}, Retriable: client.Retriable(err)}
	}
}

// known returns nil for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func writeChecks(w *terminal.Table, all []checked, now time.Time) {
	w.Head("HOST", "ENDPOINT", "VERSION", "ROUND TRIP", "CERTIFICATES")
	for _, c := range all {
		state, trip := terminal.Cell{Text: cmp.Or(c.Version, "unknown")}, fmt.Sprintf("%.1f ms", c.RoundTrip)
		if !c.Reached {
			state, trip = terminal.StateCell("failed"), "-"
		}
		w.Row(c.Host, c.Endpoint, state, trip, certificates(c, now))
	}
	failed := false
	for _, c := range all {
		if c.Error == nil {
			continue
		}
		if !failed {
			w.Line("")
		}
		failed = true
		w.Field(c.Host+" "+c.Endpoint, "%s", c.Error.Message)
		if c.Error.Hint != "" {
			w.Field("", "%s", c.Error.Hint)
		}
	}
}

// certificates says how long those of the server and of this client are valid.
func certificates(c checked, now time.Time) string {
	text := ""
	for _, one := range []struct {
		name string
		end  *time.Time
	}{{"server", c.ServerCertificate}, {"client", c.ClientCertificate}} {
		if one.end == nil {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += one.name + " until " + one.end.Format(time.DateOnly)
		switch left := one.end.Sub(now); {
		case left <= 0:
			text += " (expired)"
		case left < soon:
			text += fmt.Sprintf(" (%d days left)", left/(24*time.Hour))
		}
	}
	return cmp.Or(text, "-")
}

// unreached returns the error for hosts of which no endpoint answers; it has the kind of the
// first.
func unreached(targets []hosts.Target, all []checked) error {
	var errs []error
	for _, t := range targets {
		var first error
		reached := false
		for _, c := range all {
			if c.Host != t.Name {
				continue
			}
			reached = reached || c.Reached
			if first == nil {
				first = c.err
			}
		}
		if !reached {
			errs = append(errs, &client.HostError{Host: t.Name, Err: first})
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &Unreached{of: len(targets), errs: errs}
}

// Unreached is the error for hosts that did not answer.
type Unreached struct {
	of   int
	errs []error
}

func (u *Unreached) Error() string {
	return fmt.Sprintf("check hosts: %d of %d hosts do not answer", len(u.errs), u.of)
}

// Unwrap returns the error of each host.
func (u *Unreached) Unwrap() []error { return u.errs }
