package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/diagnose"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/local"
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

// maxLogs is the most files of one kind in a bundle: the newest by name.
const maxLogs = 40

// logs adds the log files of this Trident and of upstream's. The logs of servicings have
// upstream's names in the bundle.
func (o *diagnoseOptions) logs(_ context.Context, b *diagnose.Bundle) error {
	names := []string{"/var/log/trident-full.log", "/var/log/trident-metrics.jsonl", "/etc/fstab", "/etc/trident/trident.conf", "/etc/os-release"}
	inBundle := map[string]string{names[0]: "logs/trident-full.log", names[1]: "logs/trident-metrics.jsonl"}
	state, err := o.stateFolder()
	if err != nil {
		b.Failed("the folder of the datastore", err)
	}
	for _, pattern := range []string{state + "/trident-*.log", state + "/trident-*.jsonl", "/var/lib/trident/self/evidence/*/*"} {
		found, err := filepath.Glob(filepath.Join(o.root, pattern))
		if err != nil {
			return err
		}
		slices.Sort(found)
		for _, f := range found[max(0, len(found)-maxLogs):] {
			name := "/" + strings.TrimPrefix(strings.TrimPrefix(f, o.root), "/")
			names = append(names, name)
			if path.Dir(name) == state {
				inBundle[name] = "logs/historical/" + path.Base(name)
			}
		}
	}
	for _, name := range names {
		text, err := diagnose.Tail(filepath.Join(o.root, name))
		if errors.Is(err, fs.ErrNotExist) && name != "/etc/fstab" {
			continue
		}
		if err != nil {
			b.Failed(name, err)
			continue
		}
		if err := b.Add(cmp.Or(inBundle[name], "files"+name), name, []byte(diagnose.WithoutSecrets(string(text)))); err != nil {
			return err
		}
	}
	return nil
}

// stateFolder returns the folder of the datastore on the host.
func (o *diagnoseOptions) stateFolder() (string, error) {
	at, err := local.DatastorePath(o.root)
	if err != nil {
		return "/var/lib/trident", err
	}
	return path.Dir(at), nil
}

// datastore adds a copy of the datastore, without secrets, to the bundle.
func (o *diagnoseOptions) datastore(ctx context.Context, b *diagnose.Bundle) error {
	dir, err := os.MkdirTemp("", "trident-diagnose-")
	if err != nil {
		b.Failed("datastore", err)
		return nil
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "datastore.sqlite")
	if err := local.CopyDatastore(ctx, o.root, copied, diagnose.DocumentWithoutSecrets); err != nil {
		b.Failed("datastore", err)
		return nil
	}
	text, err := diagnose.Tail(copied)
	if err == nil && len(text) == diagnose.MaxFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		b.Failed("datastore", err)
		return nil
	}
	return b.Add("datastore.sqlite", "datastore", text)
}

// facts adds the output of tools about the host to the report.
func (o *diagnoseOptions) facts(ctx context.Context, b *diagnose.Bundle) error {
	h := &b.Report.HostDescription
	// On a physical machine it fails and prints "none".
	h.VirtType = strings.TrimSpace(o.tool(ctx, nil, "systemd-detect-virt", "--vm"))
	h.IsVirtual = h.VirtType != "" && h.VirtType != "none"
	container := strings.TrimSpace(o.tool(ctx, nil, "systemd-detect-virt", "--container"))
	h.IsContainer = container != "" && container != "none" || os.Getenv("DOCKER_ENVIRONMENT") != ""
	h.PlatformInfo = strings.TrimSpace(o.tool(ctx, b, "uname", "-srvm"))
	h.BlockdevInfo = valueOf([]byte(o.tool(ctx, b, "lsblk", "--json", "--bytes", "--output-all")))
	h.MountInfo = valueOf([]byte(o.tool(ctx, b, "findmnt", "--json")))
	h.TridentService = o.tool(ctx, b, "systemctl", "--no-pager", "show", "tridentd.service", "tridentd.socket", "trident.service",
		"--property=Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,StateChangeTimestamp")
	if failed, err := filepath.Glob(filepath.Join(o.root, "var/lib/trident/trident-health-check-failure-*.log")); err == nil {
		h.HealthCheckStatus = map[string]any{"failures": len(failed)}
	}
	if log, err := diagnose.Tail(filepath.Join(o.root, "var/log/pcrlock.log")); err == nil {
		h.PcrlockLog = diagnose.WithoutSecrets(string(log))
	}
	return nil
}

// tool returns the output of a tool, and notes its failure in the bundle, if b is not nil.
func (o *diagnoseOptions) tool(ctx context.Context, b *diagnose.Bundle, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	out, err := o.tools.Run(ctx, name, args...)
	if err != nil && b != nil {
		b.Failed(name, err)
	}
	return diagnose.WithoutSecrets(strings.ToValidUTF8(string(out), "?"))
}

// journals adds the journal of Trident's units and, if the flags say so, the journal of this
// boot and the denials of SELinux.
func (o *diagnoseOptions) journals(ctx context.Context, b *diagnose.Bundle) error {
	units := []string{"--unit=tridentd.service", "--unit=trident.service", "--unit=trident-install.service", "--unit=trident-network.service"}
	err := o.journalTo(ctx, b, "journal-trident.log", units...)
	if o.journal {
		err = errors.Join(err, o.journalTo(ctx, b, "journal-boot.log", "--boot"))
	}
	if !o.selinux {
		return err
	}
	if text := o.tool(ctx, b, "sestatus"); text != "" {
		err = errors.Join(err, b.Add("sestatus.txt", "sestatus", []byte(text)))
	}
	audit, aerr := diagnose.Tail(filepath.Join(o.root, "/var/log/audit/audit.log"))
	if aerr != nil {
		b.Failed("/var/log/audit/audit.log", aerr)
		return err
	}
	return errors.Join(err, b.Add("files/var/log/audit/audit.log", "/var/log/audit/audit.log", []byte(diagnose.WithoutSecrets(string(audit)))))
}

// journalTo adds the last lines of a journal, fewer of them if they are too large.
func (o *diagnoseOptions) journalTo(ctx context.Context, b *diagnose.Bundle, name string, args ...string) error {
	var err error
	for _, count := range []string{"6000", "1500", "300"} {
		var out []byte
		ctx, cancel := context.WithTimeout(ctx, toolTime)
		out, err = o.tools.Run(ctx, "journalctl", append([]string{"--no-pager", "--quiet", "--output=short-iso-precise", "--lines=" + count}, args...)...)
		cancel()
		if err == nil {
			return b.Add(name, "journalctl", []byte(diagnose.WithoutSecrets(strings.ToValidUTF8(string(out), "?"))))
		}
	}
	b.Failed("journalctl", err)
	return nil
}

// valueOf decodes YAML or JSON; nil for any other text.
func valueOf(text []byte) any {
	value, err := decodeYAML(text)
	if err == nil {
		_, err = json.Marshal(value) // not every YAML is JSON
	}
	if err != nil {
		return nil
	}
	return value
}
