package host

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

// planned is the daemon's plan of an installation or an update.
type planned interface {
	proto.Message
	GetText() string
	GetWarnings() []*hostv1.Finding
}

// showPlan shows the plan that ask returns for the configuration. The host does not change.
func (o *configOptions) showPlan(ctx context.Context, doing string, ask func(*client.Client, *client.Config) (planned, error)) error {
	if err := o.checkFiles(); err != nil {
		return err
	}
	err := o.App.Ask(ctx, doing, func(c *client.Client) error {
		text, err := readConfig(ctx, o.config)
		if err != nil {
			return err
		}
		config, err := configOf(text)
		if err != nil {
			return err
		}
		plan, err := ask(c, config)
		if err != nil {
			return err
		}
		for _, f := range plan.GetWarnings() {
			fmt.Fprintln(o.App.Stderr, findingText(configName(o.config), f))
		}
		return o.App.Show(plan, func(w *terminal.Table) {
			if plan.GetText() == "" { // of a release that had no text of an update
				w.Line("This daemon has its plan for programs only: --output json shows it.")
			}
			w.Text(plan.GetText())
		})
	})
	return command.AsUpstream(errors.Join(err, o.writeFiles(ctx, err)))
}
