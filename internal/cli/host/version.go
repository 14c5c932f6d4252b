package host

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/version"
	"github.com/trident-project/trident/proto/client"
)

type versionOptions struct{ app *command.App }

func newVersionCommand(a *command.App, run func(context.Context, *versionOptions) error) *cobra.Command {
	o := &versionOptions{app: a}
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this command and of the daemon",
		Example: `  trident version
  trident version --output json`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
}

// versions is the result of version. Its JSON form is documented by docs/cli.md.
type versions struct {
	Client string `json:"client"`
	Daemon string `json:"daemon"`
}

// printVersions prints the one that is known even when the daemon is not there.
func printVersions(ctx context.Context, o *versionOptions) error {
	v := versions{Client: version.String()}
	asked := o.app.Ask(ctx, "ask for the daemon's version", func(c *client.Client) (err error) {
		v.Daemon, err = c.Version(ctx)
		return err
	})
	return errors.Join(asked, o.app.Show(v, func(w *terminal.Table) {
		w.Line("client: %s", v.Client)
		if v.Daemon != "" {
			w.Line("daemon: %s", v.Daemon)
		}
	}))
}
