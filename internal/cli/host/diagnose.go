package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/diagnose"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/version"
	"github.com/trident-project/trident/proto/client"
)

type diagnoseOptions struct {
	app              *command.App
	bundle, root     string
	journal, selinux bool
	tools            run.Runner
}

const (
	// toolTime bounds each tool that diagnose runs, and collectTime each call to the
	// daemon.
	toolTime    = 20 * time.Second
	collectTime = 30 * time.Second
	// maxOperations is the most operations in a bundle, each with its last maxEvents events.
	maxOperations = 20
	maxEvents     = 2000
)

const diagnoseLong = `Diagnose writes one file, a tar archive compressed with zstd, for the analysis of a
failure on this host: the status, the operations with their events, the logs, a
copy of the datastore, and facts about the host. Its report.json lists what
diagnose could not collect, for example because the daemon does not answer.

Diagnose removes secrets: passwords and keys in Host Configurations, values whose
names are those of secrets, users and queries of URLs, private keys. Read the file
all the same before you pass it on.`

func newDiagnoseCommand(a *command.App, do func(context.Context, *diagnoseOptions) error) *cobra.Command {
	o := &diagnoseOptions{app: a, tools: run.Host{}}
	cmd := &cobra.Command{
		Use:     "diagnose --output FILE",
		Short:   "Collect logs and records for the analysis of a failure",
		Long:    diagnoseLong,
		Example: "  trident diagnose --output trident.tar.zst --journal",
		Args:    command.Exactly(),
		RunE:    command.Run(do, o),
	}
	cmd.Flags().StringVarP(&o.bundle, "output", "o", "", "the file to write; - is standard output")
	cmd.Flags().BoolVar(&o.journal, "journal", false, "also collect the journal of this boot")
	cmd.Flags().BoolVar(&o.selinux, "selinux", false, "also collect the denials of SELinux")
	command.Required(cmd, "output")
	addRoot(cmd, &o.root)
	return cmd
}

func collectDiagnostics(ctx context.Context, o *diagnoseOptions) error {
	var failures int
	file := secretFile(o.app, o.bundle)
	if err := file.CheckStream(); err != nil {
		return err
	}
	err := diagnose.Write(ctx, file, o.app.Now(), func(b *diagnose.Bundle) error {
		b.Report.Version = version.String()
		for _, collect := range []func(context.Context, *diagnose.Bundle) error{
			o.fromDaemon, o.logs, o.datastore, o.facts, o.journals,
		} {
			if err := collect(ctx, b); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		failures = len(b.Report.CollectionFailures)
		return nil
	})
	if err != nil {
		return command.AsUpstream(fmt.Errorf("collect diagnostics: %w", err))
	}
	if file.IsFile() && !o.app.Quiet {
		fmt.Fprintf(o.app.Stdout, "%s is written.\n", terminal.Line(o.bundle))
	}
	if failures > 0 {
		fmt.Fprintf(o.app.Stderr, "%d things could not be had; its report.json says which and why.\n", failures)
	}
	return nil
}

// fromDaemon collects the answers of the daemon.
func (o *diagnoseOptions) fromDaemon(ctx context.Context, b *diagnose.Bundle) error {
	var broken error // of the bundle: nothing else ends the collection
	err := o.app.Ask(ctx, "ask the daemon", func(c *client.Client) error {
		ctx, cancel := context.WithTimeout(ctx, collectTime)
		defer cancel()
		if _, err := c.Version(ctx); err != nil {
			return err
		}
		if text, err := hostStatus(ctx, c); err == nil {
			text = diagnose.DocumentWithoutSecrets(text)
			b.Report.HostStatus = valueOf([]byte(text))
			broken = b.Add("host-status.yaml", "host status", []byte(text))
		} else {
			b.Failed("host status", err)
		}
		broken = errors.Join(broken,
			o.message(b, "host.json", func() (any, error) {
				host, err := c.Host().Get(ctx)
				if err != nil {
					return nil, err
				}
				// host-status.yaml has them as documents.
				host.HostStatus, host.Config, host.NextConfig, host.RollbackTargets = "", "", "", nil
				return host, nil
			}),
			o.message(b, "self-status.json", func() (any, error) { return c.Status(ctx) }),
			o.message(b, "self-history.json", func() (any, error) {
				entries, err := c.History(ctx, 0)
				if err != nil {
					return nil, err
				}
				return terminal.RawList(entries)
			}),
			o.operations(ctx, b, c))
		return nil
	})
	if err != nil {
		b.Failed("tridentd", err)
	}
	return broken
}

// message adds an answer of the daemon to the bundle.
func (o *diagnoseOptions) message(b *diagnose.Bundle, name string, ask func() (any, error)) error {
	value, err := ask()
	if err == nil {
		var text []byte
		if text, err = terminal.Marshal(value); err == nil {
			return b.Add(name, "tridentd", []byte(diagnose.WithoutSecrets(string(text))))
		}
	}
	b.Failed(name, err)
	return nil
}

// operations adds the newest operations to the bundle, each with its events.
func (o *diagnoseOptions) operations(ctx context.Context, b *diagnose.Bundle, c *client.Client) error {
	all, err := c.Operations(ctx, maxOperations, false)
	if err != nil {
		b.Failed("operations", err)
		return nil
	}
	for _, op := range all {
		events, err := eventsOf(ctx, c, op)
		if err != nil {
			b.Failed("events of operation "+op.GetId(), err)
		}
		raw, err := terminal.RawList(events)
		if err == nil {
			var whole []byte
			if whole, err = terminal.RawMessage(op); err == nil {
				whole, err = terminal.Marshal(map[string]any{"operation": json.RawMessage(whole), "events": raw})
			}
			if err == nil {
				err = b.Add("operations/"+filepath.Base(op.GetId())+".json", "tridentd", []byte(diagnose.WithoutSecrets(string(whole))))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errSeen ends the watch of an operation after the last event that it had.
var errSeen = errors.New("all events were seen")

func eventsOf(ctx context.Context, c *client.Client, op *client.Operation) ([]*client.Event, error) {
	last := op.GetLastSequence()
	if last == 0 {
		return nil, nil
	}
	ctx, seen := context.WithCancelCause(ctx)
	defer seen(nil)
	var out []*client.Event
	_, err := c.Watch(ctx, op.GetId(), last-min(last, maxEvents), func(e *client.Event) {
		if ctx.Err() == nil {
			out = append(out, e)
		}
		if e.GetSequence() >= last {
			seen(errSeen)
		}
	})
	if _, failed := errors.AsType[*client.OperationError](err); failed || errors.Is(err, errSeen) {
		err = nil
	}
	return out, err
}
