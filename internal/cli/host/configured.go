package host

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

// configOptions are the options that install and update share: a Host Configuration and the
// allowed operations.
type configOptions struct {
	servicingOptions
	config  string
	given   bool // config was named
	plan    bool // only tell what would be done
	allowed allowedOperations
}

func newConfigOptions(a *command.App) configOptions {
	return configOptions{servicingOptions: newServicingOptions(a)}
}

// complete gives cmd the argument CONFIG and the flags of o, and runs run with them.
func (o *configOptions) complete(cmd *cobra.Command, planUsage string, run func(context.Context) error) {
	cmd.Args = command.AtMostOne
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.plan && (o.allowed.given || o.Detach || o.CancelOnInterrupt) {
			return command.UsageError(cmd, errors.New("--plan only prints: omit --allowed-operations, --detach and --cancel-on-interrupt"))
		}
		o.config, o.given = command.Argument(args, defaultConfig), len(args) > 0
		return run(cmd.Context())
	}
	o.addFlags(cmd.Flags())
	o.allowed.addFlag(cmd)
	cmd.Flags().BoolVar(&o.plan, "plan", false, planUsage)
}

// run calls verb with the allowed operations. If only finalize is allowed, the staged
// operation has the configuration, and run only checks a configuration that was given.
func (o *configOptions) run(ctx context.Context, c *client.Client, verb func(*client.Config, client.How) (client.Outcome, error)) (out client.Outcome, err error) {
	stage, finalize := o.allowed.may()
	var text []byte
	if stage || !finalize || o.given {
		if text, err = readConfig(ctx, o.config); err != nil {
			return out, err
		}
	}
	if !stage {
		if text != nil {
			err = checkConfig(ctx, o.App, c, configName(o.config), text)
		}
		if err != nil || !finalize {
			return out, err
		}
		return verb(nil, o.allowed.how())
	}
	config, err := configOf(text)
	if err != nil {
		return out, err
	}
	return verb(config, o.allowed.how())
}
