package host

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
	"github.com/trident-project/trident/proto/client"
)

type getOptions struct {
	app     *command.App
	kind    string
	outfile string
}

func getKinds() []string {
	return []string{"status", "configuration", "last-error", "rollback-chain", "rollback-target", "extensions", "recovery-key"}
}

const getLong = `Get prints the records that Trident has of this host, in YAML:

status           the whole record, as upstream's HostStatus
configuration    the Host Configuration
last-error       why the last servicing failed, or null
rollback-chain   the states that the host can return to, the next one first
rollback-target  the Host Configuration of the next one, or {}
extensions       the extensions of the configuration, and those that the OS image carries
recovery-key     the key that Trident made for encrypted volumes, in the live system that installs`

func newGetCommand(a *command.App, run func(context.Context, *getOptions) error) *cobra.Command {
	o := &getOptions{app: a}
	cmd := &cobra.Command{
		Use:   "get [KIND]",
		Short: "Print the status of this host, or a part of it",
		Example: `  trident get
  trident get configuration --outfile host.yaml
  trident get last-error --output json`,
		Long:      getLong,
		ValidArgs: getKinds(),
		Args:      command.AtMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.kind = command.Argument(args, "status")
			if !slices.Contains(getKinds(), o.kind) {
				return command.DidYouMean(cmd, fmt.Errorf("there is no %q; there are %s", o.kind, strings.Join(getKinds(), ", ")), nearest.Word(o.kind, getKinds()))
			}
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().Var(&a.Output, "output", "how to print the result: text, wide, json or yaml") // without -o, which upstream gave to --outfile
	cmd.Flags().StringVarP(&o.outfile, "outfile", "o", "", "write to this file; - is standard output")
	return cmd
}

func get(ctx context.Context, o *getOptions) error {
	return command.AsUpstream(o.app.Ask(ctx, "get "+o.kind, func(c *client.Client) error {
		text, err := o.document(ctx, c)
		if err == nil && o.app.Output.String() == "json" {
			text, err = jsonOf(text)
		}
		if err != nil {
			return err
		}
		if o.outfile != "" {
			if o.kind == "recovery-key" { // a file with the key has nothing else
				text = bytes.TrimSuffix(text, []byte("\n"))
			}
			out := secretFile(o.app, o.outfile)
			if err := writeText(ctx, out, text); err != nil {
				return err
			}
			if out.IsFile() {
				o.app.Say("Wrote %s to %s.", o.kind, o.outfile)
			}
			return nil
		}
		_, err = o.app.Stdout.Write(text)
		return err
	}))
}

// document returns the requested record in YAML.
func (o *getOptions) document(ctx context.Context, c *client.Client) ([]byte, error) {
	switch o.kind {
	case "extensions":
		return extensions(ctx, c)
	case "recovery-key":
		key, err := c.Host().RecoveryKey(ctx, "")
		if err != nil {
			return nil, err
		}
		return append(key, '\n'), nil
	case "rollback-chain":
		chain, err := c.Host().RollbackChain(ctx)
		if err != nil {
			return nil, err
		}
		return sequence(chain)
	case "rollback-target":
		target, err := c.Host().RollbackTarget(ctx)
		return []byte(cmp.Or(target, "{}\n")), err
	}
	status, err := hostStatus(ctx, c)
	if err != nil {
		return nil, err
	}
	switch o.kind {
	case "configuration":
		return member(status, "spec", "{}")
	case "last-error":
		return member(status, "lastError", "null")
	}
	return []byte(status), nil
}

// extensions returns the extensions of the running OS.
func extensions(ctx context.Context, c *client.Client) ([]byte, error) {
	resp, err := c.Host().Get(ctx)
	if err != nil {
		return nil, err
	}
	type entry struct {
		Kind    string `yaml:"kind"`
		Path    string `yaml:"path"`
		URL     string `yaml:"url,omitempty"`
		SHA384  string `yaml:"sha384"`
		Carried bool   `yaml:"carried"`
	}
	all := []entry{}
	for _, e := range resp.GetExtensions() {
		all = append(all, entry{e.GetKind(), e.GetPath(), e.GetUrl(), e.GetSha384(), e.GetCarried()})
	}
	return dumpYAML(all)
}

// member returns the value of a key of a mapping, or otherwise if the key is absent.
func member(document, key, otherwise string) ([]byte, error) {
	root, err := mapping(document)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == key {
			return dumpYAML(root.Content[i+1])
		}
	}
	return []byte(otherwise + "\n"), nil
}

// sequence makes one document of several.
func sequence(documents []string) ([]byte, error) {
	all := &yaml.Node{Kind: yaml.SequenceNode}
	for _, d := range documents {
		m, err := mapping(d)
		if err != nil {
			return nil, err
		}
		all.Content = append(all.Content, m)
	}
	return dumpYAML(all)
}

func mapping(document string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(document), &doc); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read the answer of the daemon: %w", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errkind.Errorf(errkind.Corrupt, "read the answer of the daemon: it is not a mapping")
	}
	return doc.Content[0], nil
}

// dumpYAML writes YAML as upstream does.
func dumpYAML(value any) ([]byte, error) { return yaml.Dump(value, yaml.WithLineWidth(-1)) }

// jsonOf is YAML as JSON, in which the keys have no order.
func jsonOf(text []byte) ([]byte, error) {
	value, err := decodeYAML(text)
	if err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read the answer of the daemon: %w", err)
	}
	return terminal.Marshal(value)
}

func decodeYAML(text []byte) (value any, err error) {
	err = yaml.Unmarshal(text, &value)
	return value, err
}
