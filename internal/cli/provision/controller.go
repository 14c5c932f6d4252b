package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/provision"
	"github.com/trident-project/trident/internal/provision/redfish"
)

// redfishOptions are the flags for a management controller.
type redfishOptions struct {
	url, user, passwordFile, ca, system string
	insecure                            bool
}

func (o *redfishOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.url, "redfish", "", "boot the machine by the Redfish service at this URL")
	flags.StringVar(&o.user, "user", "", "the user of the Redfish service")
	flags.StringVar(&o.passwordFile, "password-file", "", "the file with the password of the Redfish service")
	flags.StringVar(&o.ca, "redfish-ca", "", "the authorities of the Redfish service (PEM); without this flag those of this host")
	flags.BoolVar(&o.insecure, "redfish-insecure", false, "accept any certificate of the Redfish service, and http")
	flags.StringVar(&o.system, "redfish-system", "", "the Id of the machine, if the Redfish service has several")
	for _, name := range []string{"redfish", "user", "redfish-system"} {
		command.CompleteFlag(cmd, name)
	}
	cmd.MarkFlagsRequiredTogether("redfish", "user", "password-file")
	cmd.MarkFlagsMutuallyExclusive("redfish-ca", "redfish-insecure")
}

func (o *redfishOptions) newController() (starter, error) {
	password, err := regfile.ReadFile(o.passwordFile, maxPassword)
	if err != nil {
		return nil, fmt.Errorf("read --password-file: %w", err)
	}
	settings := redfish.Options{URL: o.url, User: o.user, Password: strings.TrimRight(string(password), "\r\n"), Insecure: o.insecure, System: o.system}
	if o.ca != "" {
		if settings.CA, err = regfile.ReadFile(o.ca, maxCA); err != nil {
			return nil, fmt.Errorf("read --redfish-ca: %w", err)
		}
	}
	client, err := redfish.New(settings)
	if err != nil {
		return nil, err
	}
	return &controller{client: client}, nil
}

// controller is a machine with a management controller.
type controller struct {
	client   *redfish.Client
	inserted bool
}

func (c *controller) check(ctx context.Context, o *provision.Options) error {
	if o.Address == "" {
		address, err := provision.Towards(ctx, c.client.Host())
		if err != nil {
			return err
		}
		o.Address = address
	}
	return c.client.Check(ctx)
}

func (c *controller) start(ctx context.Context, r *provision.Run, say say, _ func(error)) error {
	c.inserted = true // perhaps, after a failure
	if err := c.client.Boot(ctx, r.ISO()); err != nil {
		return err
	}
	say("The machine boots from its virtual CD")
	return nil
}

func (c *controller) end(say say) {
	if !c.inserted {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), ejectTime, errors.New("no answer within "+ejectTime.String()))
	defer cancel()
	if err := c.client.Eject(ctx); err != nil {
		say("The live image may still be in the virtual CD: %v", err)
	}
}
