// Package call has the command that calls a method of JSON-RPC of the gateway of a host.
package call

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
)

type options struct {
	app            *command.App
	method, params string
}

// completionTime bounds how long a completion waits for the gateway.
const completionTime = 2 * time.Second

// Command returns the command.
func Command(a *command.App) *cobra.Command {
	o := &options{app: a}
	cmd := &cobra.Command{
		Use:   "call METHOD [PARAMS]",
		Short: "Call a method of the gateway of a host by JSON-RPC",
		Long: `Call a method of JSON-RPC of the gateway of a host, and print its result. PARAMS is
an object or an array of JSON. --host names a host with a tls:// endpoint. The method
rpc.discover lists all methods.`,
		Example: `  trident --host host1 call self.status
  trident --host host1 call self.history '{"limit":5}'
  trident --host host1 call operations.list '[5,true]'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.UsageError(cmd, errors.New("METHOD is missing"))
			}
			if len(args) > 2 {
				return command.UsageError(cmd, fmt.Errorf("unexpected argument %q", args[2]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.method = args[0]
			if len(args) == 2 {
				o.params = args[1]
				if !json.Valid([]byte(o.params)) {
					return command.UsageError(cmd, errors.New("PARAMS is not JSON"))
				}
			}
			return o.run(cmd.Context())
		},
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || a.Begin(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return o.complete(context.Background()), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (o *options) run(ctx context.Context) error {
	target := o.app.Target()
	if target == nil {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "call %s: no host is named", o.method), "Name one with a tls:// endpoint: trident --host NAME call %s", o.method)
	}
	request := map[string]any{"jsonrpc": "2.0", "method": o.method, "id": 1}
	if o.params != "" {
		request["params"] = json.RawMessage(o.params)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("call %s: %w", o.method, err)
	}
	data, err := target.HTTP(ctx, "/rpc", body)
	if err != nil {
		return fmt.Errorf("call %s: %w", o.method, err)
	}
	var answer struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
			Data    struct{ Kind, Hint string }
		}
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return errkind.With(errkind.Unsupported, fmt.Errorf("call %s: read the answer: %w", o.method, err))
	}
	if e := answer.Error; e != nil {
		kind := errkind.Kind(e.Data.Kind)
		if kind == "" {
			kind = errkind.Invalid
		}
		err := errkind.Errorf(kind, "%s", e.Message)
		if e.Data.Hint != "" {
			err = errkind.WithHint(err, "%s", e.Data.Hint)
		}
		return err
	}
	return o.app.Show(answer.Result, func(w *terminal.Table) { writeText(w, answer.Result) })
}

// writeText writes a result for people: as indented JSON, because each method has another.
func writeText(w *terminal.Table, result json.RawMessage) {
	text, err := terminal.Marshal(result)
	if err != nil {
		text = result
	}
	w.Text(string(text))
}

// complete returns the names of the methods of the gateway, with their summaries; none if it
// does not answer in time.
func (o *options) complete(ctx context.Context) []string {
	target := o.app.Target()
	if target == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	data, err := target.HTTP(ctx, "/openrpc.json", nil)
	if err != nil {
		return nil
	}
	var document struct {
		Methods []struct{ Name, Summary string }
	}
	if json.Unmarshal(data, &document) != nil {
		return nil
	}
	var out []string
	for _, m := range document.Methods {
		out = append(out, m.Name+"\t"+m.Summary)
	}
	return out
}
