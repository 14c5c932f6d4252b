package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/password"
	"github.com/trident-project/trident/internal/gateway/proxy"
	"github.com/trident-project/trident/internal/gateway/setup"
	tools "github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
)

// unitTime bounds what systemd does for install and uninstall.
const unitTime = 2 * time.Minute

func installCommand(file *string) *cobra.Command {
	o := setup.Options{Root: "/", Person: password.DefaultName}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Set the gateway up, set the first passphrase, and start it now and at each boot",
		Long: `Do what a new gateway needs: the user, an authority, certificates and settings as setup
makes them, the passphrase of admin, and the service. What exists is kept, so the
command can run again. It asks for the passphrase at a terminal, and reads one line of
standard input otherwise; a passphrase that is set already stays.`,
		Example: `  trident-gateway install
  trident-gateway install --name host1.example.org --listen 0.0.0.0:7443 < passphrase.txt`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := ofThisHost(cmd, *file); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), unitTime)
			defer cancel()
			if err := makeUser(ctx); err != nil {
				return err
			}
			if err := setUp(cmd, &o); err != nil {
				return err
			}
			if err := firstPassphrase(cmd, *file); err != nil {
				return err
			}
			if err := setup.Start(ctx, systemd.Connect(ctx, systemd.PrivateSocket)); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "\n%s runs, and starts at each boot\n", setup.Unit)
			return err
		},
	}
	setUpFlags(cmd, &o)
	return cmd
}

func uninstallCommand(file *string) *cobra.Command {
	keepAudit := false
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the gateway, and remove its settings, keys, tokens, passphrases and audit log",
		Long: `Stop the gateway, now and at each boot, and remove what install, setup, token and
passphrase made, and the audit log. The user and the unit stay: they belong to the
package.`,
		Example: "  trident-gateway uninstall --keep-audit",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := ofThisHost(cmd, *file); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), unitTime)
			defer cancel()
			removed, err := setup.Remove(ctx, "/", systemd.Connect(ctx, systemd.PrivateSocket), keepAudit)
			for _, path := range removed {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", path)
			}
			if err == nil && len(removed) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "there is no gateway on this host")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&keepAudit, "keep-audit", false, "keep the audit log")
	return cmd
}

// ofThisHost refuses other settings than those of the host, and users other than root.
func ofThisHost(cmd *cobra.Command, file string) error {
	if file != config.DefaultFile {
		return asUsage(cmd, errkind.Errorf(errkind.Invalid, "%s is for %s only", cmd.Name(), config.DefaultFile))
	}
	if os.Geteuid() != 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Denied, "%s the gateway: only root may", cmd.Name()), "run it as root")
	}
	return nil
}

// makeUser makes the user of the gateway if the host does not have it.
func makeUser(ctx context.Context) error {
	if hasGatewayGroup() {
		return nil
	}
	_, err := tools.Host{}.Run(ctx, "systemd-sysusers", "trident-gateway.conf")
	if err == nil && !hasGatewayGroup() {
		err = errors.New("it made no group trident-gateway")
	}
	if err != nil {
		return errkind.WithHint(fmt.Errorf("make the user of the gateway: %w", err), "install the package trident-gateway")
	}
	return nil
}

// firstPassphrase sets the passphrase of the administrator unless there is one.
func firstPassphrase(cmd *cobra.Command, file string) error {
	c, err := proxy.ReadConfig(file)
	if err != nil {
		return err
	}
	l, err := password.Read(c.HTTP.Passphrases)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(l.Entries, func(e password.Entry) bool { return e.Name == password.DefaultName }) {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "kept the passphrase of %s\n", password.DefaultName)
		return err
	}
	text, err := readPassphrase(cmd.InOrStdin(), cmd.ErrOrStderr())
	if err == nil {
		err = changePassphrases(file, func(l *password.List) error { return l.Set(password.DefaultName, text, time.Now()) })
	}
	if err != nil {
		return fmt.Errorf("set the passphrase of %s: %w", password.DefaultName, err)
	}
	return hintRights(cmd.OutOrStdout(), file, password.Entry{Name: password.DefaultName}.Identity())
}
