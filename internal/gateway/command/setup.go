package command

import (
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/setup"
)

func setupCommand(file *string) *cobra.Command {
	o := setup.Options{Root: "/"}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make an authority, certificates and settings for a first try",
		Long: `Make an authority, the certificate of the gateway, the certificate of an
administrator and the settings, as far as they do not exist, and print the commands
that come next. It renews certificates that end within 30 days.`,
		Example: `  trident-gateway setup
  trident-gateway setup --name host1.example.org --listen 0.0.0.0:7443`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if *file != config.DefaultFile {
				return asUsage(cmd, errkind.Errorf(errkind.Invalid, "setup writes %s only", config.DefaultFile))
			}
			if os.Geteuid() != 0 && o.Root == "/" {
				return errkind.WithHint(errkind.Errorf(errkind.Denied, "set up the gateway: only root may"), "run it as root")
			}
			return setUp(cmd, &o)
		},
	}
	setUpFlags(cmd, &o)
	cmd.Flags().StringVar(&o.Root, "root", "/", "set up the host below this folder")
	return cmd
}

func setUpFlags(cmd *cobra.Command, o *setup.Options) {
	cmd.Flags().StringArrayVar(&o.Names, "name", nil, "a name or address by which clients reach this host; can be repeated (default: the host name)")
	cmd.Flags().StringVar(&o.Listen, "listen", config.DefaultListen, "the address in new settings")
}

// setUp makes what the options say, for this host if they name none.
func setUp(cmd *cobra.Command, o *setup.Options) error {
	if len(o.Names) == 0 {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		o.Names = []string{name}
	}
	o.GID, o.Out = gatewayGroup(), cmd.OutOrStdout()
	return setup.Run(*o)
}

func hasGatewayGroup() bool {
	_, err := user.LookupGroup("trident-gateway")
	return err == nil
}

// gatewayGroup returns the ID of the group of the gateway, or that of this process if the
// host does not have the group.
func gatewayGroup() int {
	if g, err := user.LookupGroup("trident-gateway"); err == nil {
		if id, err := strconv.Atoi(g.Gid); err == nil {
			return id
		}
	}
	return os.Getegid()
}
