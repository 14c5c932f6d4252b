// Package hosts has the commands about other hosts: those below trident hosts, which give names
// to hosts and check that they can be reached, the far side of a connection through SSH, and
// the commands to which hosts connect, listen and provision.
package hosts

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/listen"
	"github.com/trident-project/trident/internal/cli/provision"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/hosts"
)

// Runner runs a command line of trident with the given streams, and returns its exit code.
type Runner = listen.Runner

// Commands returns the commands. They work on this machine, so they refuse --host.
func Commands(a *command.App, run Runner) []*cobra.Command {
	return command.OnThisHost(group(a), newDialStdioCommand(a, dialStdio), listen.Command(a, run), provision.Command(a))
}

func group(a *command.App) *cobra.Command {
	return command.Group("hosts", "Give names to hosts, and check that they can be reached",
		newAddCommand(a, add), newListCommand(a, list), newRemoveCommand(a, remove), newCheckCommand(a, check))
}

type addOptions struct {
	app    *command.App
	name   string
	host   hosts.Host
	labels []string
}

const addLong = `Add writes a host into ~/.config/trident/hosts.yaml ($XDG_CONFIG_HOME is respected).
Afterwards --host NAME is the host. Trident tries the endpoints in their order:

ssh://[user@]host[:port]  by your ssh, with its agent, configuration and jump hosts
tls://host:port           a gateway
unix:PATH                 a socket on this machine

Files stay where they are: hosts.yaml has their absolute paths. A key, or a token, that
others can read is refused.`

func newAddCommand(a *command.App, run func(context.Context, *addOptions) error) *cobra.Command {
	o := &addOptions{app: a}
	cmd := &cobra.Command{
		Use:   "add NAME ENDPOINT...",
		Short: "Give a name to a host",
		Long:  addLong,
		Example: `  trident hosts add web-1 ssh://root@web-1.example.com --label env=prod
  trident hosts add web-2 tls://web-2:7373 --ca ca.crt --certificate me.crt --key me.key
  trident hosts add web-3 ssh://me@web-3 --remote-command "sudo trident dial-stdio"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return command.Exactly("NAME", "ENDPOINT")(cmd, args)
			}
			return nil
		},
	}
	var ssh, remote string
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.host.Endpoints = args[0], args[1:]
		o.host.SSHCommand, o.host.RemoteCommand = strings.Fields(ssh), strings.Fields(remote)
		for _, text := range o.labels {
			l, err := hosts.ParseLabel(text)
			if err != nil {
				return command.UsageError(cmd, fmt.Errorf("--label: %w", err))
			}
			if o.host.Labels == nil {
				o.host.Labels = map[string]string{}
			}
			o.host.Labels[l.Name] = l.Value
		}
		return run(cmd.Context(), o)
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.labels, "label", nil, "a label `NAME=VALUE`, by which --label selects the host")
	flags.StringVar(&o.host.Certificate, "certificate", "", "the certificate of this client, a PEM file")
	flags.StringVar(&o.host.Key, "key", "", "the key of the certificate, a PEM file")
	flags.StringVar(&o.host.CA, "ca", "", "the authorities that sign the certificate of the server, a PEM file")
	flags.StringVar(&o.host.ServerName, "server-name", "", "the name in the certificate of the server")
	flags.StringVar(&o.host.TokenFile, "token-file", "", "the file with a bearer token")
	flags.StringVar(&ssh, "ssh-command", "", "the program instead of ssh, and its first arguments")
	flags.StringVar(&remote, "remote-command", "", "the command on the host instead of trident dial-stdio")
	for _, name := range []string{"label", "server-name", "ssh-command", "remote-command"} {
		command.CompleteFlag(cmd, name)
	}
	return cmd
}

func add(_ context.Context, o *addOptions) error {
	path, err := hosts.DefaultPath()
	if err != nil {
		return err
	}
	for _, file := range []*string{&o.host.Certificate, &o.host.Key, &o.host.CA, &o.host.TokenFile} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("add host %s: %w", o.name, err)
		}
		if _, err := os.Stat(*file); err != nil {
			return fmt.Errorf("add host %s: %w", o.name, err)
		}
	}
	if err := hosts.Add(path, o.name, o.host); err != nil {
		return err
	}
	o.app.Say("Added %s. To see whether it answers: trident hosts check %s", o.name, o.name)
	return nil
}

type removeOptions struct {
	app   *command.App
	names []string
}

func newRemoveCommand(a *command.App, run func(context.Context, *removeOptions) error) *cobra.Command {
	o := &removeOptions{app: a}
	return &cobra.Command{
		Use:               "remove NAME...",
		Short:             "Forget hosts; nothing changes on them",
		Example:           "  trident hosts remove web-1 web-2",
		ValidArgsFunction: completeNames,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.Exactly("NAME")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return run(cmd.Context(), o)
		},
	}
}

func completeNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return command.HostNames(), cobra.ShellCompDirectiveNoFileComp
}

func remove(_ context.Context, o *removeOptions) error {
	path, err := hosts.DefaultPath()
	if err != nil {
		return err
	}
	if err := hosts.Remove(path, o.names...); err != nil {
		return err
	}
	o.app.Say("Removed %s.", strings.Join(o.names, ", "))
	return nil
}

// selection are the hosts that list and check work on.
type selection struct {
	app           *command.App
	names, labels []string
}

func newListCommand(a *command.App, run func(context.Context, *selection) error) *cobra.Command {
	o := &selection{app: a}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the hosts that have names",
		Example: `  trident hosts list
  trident hosts list --label env=prod --output json`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	cmd.Flags().StringArrayVar(&o.labels, "label", nil, "only hosts with this label `NAME=VALUE`; several have to match")
	command.CompleteFlag(cmd, "label")
	return cmd
}

// targets returns the selected hosts; without names and labels all, perhaps none.
func (o *selection) targets() (*hosts.File, []hosts.Target, error) {
	path, err := hosts.DefaultPath()
	if err != nil {
		return nil, nil, err
	}
	var labels []hosts.Label
	for _, text := range o.labels {
		l, err := hosts.ParseLabel(text)
		if err != nil {
			return nil, nil, fmt.Errorf("--label: %w", err)
		}
		labels = append(labels, l)
	}
	f, err := hosts.Load(path)
	if err != nil {
		return nil, nil, err
	}
	if len(o.names) == 0 && len(labels) == 0 && len(f.Names()) == 0 {
		return f, nil, nil
	}
	targets, err := f.Select(o.names, labels)
	return f, targets, err
}

// listed is the form of a host for programs. docs/cli.md documents it.
type listed struct {
	Host        string            `json:"host"`
	Endpoints   []string          `json:"endpoints"`
	Labels      map[string]string `json:"labels"`
	Certificate string            `json:"certificate,omitempty"`
	Key         string            `json:"key,omitempty"`
	CA          string            `json:"ca,omitempty"`
	ServerName  string            `json:"serverName,omitempty"`
	TokenFile   string            `json:"tokenFile,omitempty"`
}

func list(_ context.Context, o *selection) error {
	f, targets, err := o.targets()
	if err != nil {
		return err
	}
	all := []listed{}
	for _, t := range targets {
		h := t.Host
		if h.Labels == nil {
			h.Labels = map[string]string{}
		}
		all = append(all, listed{t.Name, h.Endpoints, h.Labels, h.Certificate, h.Key, h.CA, h.ServerName, h.TokenFile})
	}
	if len(all) == 0 {
		o.app.Say("%s has no hosts. To add one: trident hosts add NAME ssh://root@HOST", f.Path())
	}
	return o.app.Show(all, func(w *terminal.Table) {
		if len(targets) == 0 {
			return
		}
		w.Head("HOST", "ENDPOINTS", "LABELS")
		for _, t := range targets {
			w.Row(t.Name, strings.Join(t.Host.Endpoints, " "), cmp.Or(t.Host.LabelText(), "-"))
		}
	})
}
