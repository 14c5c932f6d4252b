package command

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/password"
	"github.com/trident-project/trident/internal/gateway/proxy"
)

// consoleFile has the hash of the console token. A boot deletes it.
const consoleFile = "/run/trident-gateway/console.json"

func consoleFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "console-file", consoleFile, "the file with the hash of the console token")
}

func consoleCommand(file *string) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Print a token with which root logs in once, within five minutes",
		Long: `Print a token for one login over HTTP, which a person at this host, or a script on it,
gives to the method authenticate within five minutes. A new token takes the place of an
earlier one. Who has logged in with it has the rights of the identity console:root in the
settings, for http.loginTime or until the gateway restarts.`,
		Example: `  trident-gateway console
  trident-gateway console > token`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := proxy.ReadConfig(*file); err != nil {
				return asRoot(err)
			}
			token, expires, err := password.NewConsoleToken(path, gatewayGroup(), time.Now())
			if errors.Is(err, fs.ErrNotExist) {
				return errkind.WithHint(errkind.With(errkind.Precondition, err), "start the gateway: systemctl start trident-gateway.service")
			}
			if err != nil {
				return asRoot(err)
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), token); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "It counts for one login until %s.\n", expires.Format(time.TimeOnly))
			return hintRights(cmd.ErrOrStderr(), *file, password.ConsoleIdentity)
		},
	}
	consoleFlag(cmd, &path)
	return cmd
}
