package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

// configOptions are what install and update share: a Host Configuration, and how
// far to go with it.
type configOptions struct {
	servicingOptions
	config  string
	given   bool // config was named
	plan    bool // only tell what would be done
	allowed allowedOperations
}

func newConfigOptions(a *app) configOptions {
	return configOptions{servicingOptions: newServicingOptions(a)}
}

func (o *configOptions) addFlags(cmd *cobra.Command) {
	o.servicingOptions.addFlags(cmd.Flags())
	o.allowed.addFlag(cmd)
}

func (o *configOptions) take(args []string) {
	o.config, o.given = argument(args, defaultConfig), len(args) > 0
}

// run does what is allowed. Where only finalizing is, what was staged has the
// configuration, and one that was named is checked and not more.
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
			err = o.app.checkConfig(ctx, c, configName(o.config), text)
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
