// Package connect is the agent that connects out: it dials a listener, and the listener then
// calls tridentd over that connection, so that a host behind a firewall can be serviced.
//
// Its configuration, its TLS role and its bytes on the wire are those of upstream's rcp-agent,
// so that each can replace the other. Inside TLS the listener speaks to tridentd; the agent
// copies bytes and understands none of them.
package connect

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
)

const long = `connect dials the listener that its configuration names, with TLS 1.3 and the
certificate of this host, and passes what the listener sends to tridentd. It dials
again whenever the connection ends, until it is stopped (SIGTERM, exit code 0).

Without --config it reads ` + OwnConfig + `, or else ` + UpstreamConfig + `:

  clientAddress: fleet.example:7443      # the listener
  serverAddress: /run/trident/trident.sock
  rcpClientTls:
    certFile: /etc/trident/host.crt      # or certData: base64 of PEM
    keyFile: /etc/trident/host.key       # or keyData
    caFile: /etc/trident/fleet-ca.crt    # or serverCert
  additionalFiles:                       # downloaded before the first connection
  - downloadUrl: https://fleet.example/config.yaml
    destination: /etc/trident/config.yaml
    mode: 0600
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  proxy: http://proxy.example:3128       # without it: $HTTPS_PROXY; none: no proxy
  backoff: {min: 1s, max: 25s}           # pauses between failed attempts

Without clientAddress the agent starts ` + installUnit + ` and waits.`

// Command returns the command connect, for the program trident-gateway.
func Command() *cobra.Command {
	var path string
	var verbose bool
	cmd := &cobra.Command{
		Use:           "connect",
		Short:         "Connect this host to a listener, which then calls tridentd",
		Long:          long,
		Example:       "  trident-gateway connect --config /etc/trident/connect.yaml",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // the second signal ends the process at once
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			found, err := Find("/", path)
			if err != nil {
				return err
			}
			return serve(ctx, found, logger, run.Host{}, func(ctx context.Context) systemd.Units {
				return systemd.Connect(ctx, systemd.PrivateSocket)
			})
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "the configuration to read")
	cmd.Flags().BoolVar(&verbose, "debug", false, "log each attempt to connect")
	return cmd
}

// serve runs the agent until ctx ends. It returns nil then, and an error if the agent cannot
// begin its work.
func serve(ctx context.Context, path string, logger *slog.Logger, tools run.Runner, units func(context.Context) systemd.Units) error {
	c, warnings, err := Read(path)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		logger.Warn("configuration: " + string(w))
	}
	a := newAgent(c, logger)
	for _, f := range c.Files {
		if err := a.download(ctx, f, tools); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	if c.ClientAddress != "" {
		a.run(ctx)
		return nil
	}
	if err := startInstallation(ctx, units(ctx), logger); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
