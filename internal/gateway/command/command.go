// Package command is the command line of trident-gateway.
package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/gateway/page"
	"github.com/trident-project/trident/internal/gateway/proxy"
	"github.com/trident-project/trident/internal/version"
)

// Main runs the command line of this process and returns its exit code: 0 for success, 2 for
// a wrong command line, 1 for any other failure.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the process
	root := Command()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "trident-gateway: %s\n", strings.Join(strings.FieldsFunc(err.Error(), unicode.IsControl), "; "))
	if hint := errkind.Hint(err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return 2
	}
	return 1
}

// usageError is the error of a wrong command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func asUsage(cmd *cobra.Command, err error) error {
	return &usageError{errkind.WithHint(errkind.With(errkind.Invalid, err), "see: %s --help", cmd.CommandPath())}
}

// Command returns the root command. Each command of the gateway is listed here.
func Command() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:           "trident-gateway",
		Short:         "Let permitted callers on other machines use Trident on this host",
		Long:          "trident-gateway accepts calls of gRPC and JSON-RPC over TLS 1.3 and passes those that a caller\nmay make to tridentd. docs/gateway.md and docs/json-rpc.md describe it.",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needsSubcommand,
	}
	cmd.SetVersionTemplate("trident-gateway {{.Version}}\n")
	cmd.SetFlagErrorFunc(asUsage)
	cmd.PersistentFlags().StringVarP(&file, "config", "c", config.DefaultFile, "the file of settings")
	cmd.AddCommand(serveCommand(&file), checkCommand(&file), setupCommand(&file), installCommand(&file), uninstallCommand(&file), tokenCommand(&file), passphraseCommand(&file), consoleCommand(&file), connect.Command())
	return cmd
}

func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return asUsage(cmd, errors.New("no command"))
	}
	return asUsage(cmd, fmt.Errorf("unknown command %q", args[0]))
}

// exactly refuses any other number of arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return asUsage(cmd, fmt.Errorf("%d arguments are given, not %d", len(args), n))
		}
		return nil
	}
}

// wakeFile is the file that the gateway writes to have tridentd started; see
// trident-gateway-wake.path.
const wakeFile = "/run/trident-gateway/wake"

// loadFile is below the folder that trident-gateway.service keeps at a restart.
const loadFile = "/run/trident-gateway/load"

func serveCommand(file *string) *cobra.Command {
	var files proxy.Files
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Serve callers until SIGTERM; SIGHUP reloads all files",
		Example: "  trident-gateway serve --config /etc/trident/gateway.yaml",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			files.Settings = *file
			return serve(cmd.Context(), files, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	cmd.Flags().StringVar(&files.Load, "load-file", loadFile, "the file with the load of the last 24 hours; empty to have it in memory alone")
	consoleFlag(cmd, &files.Console)
	cmd.Flags().StringVar(&files.Wake, "wake-file", wakeFile, "the file to write so that systemd starts tridentd; empty to start nothing")
	return cmd
}

func serve(ctx context.Context, files proxy.Files, logger *slog.Logger) error {
	browser, err := page.New()
	if err != nil {
		return err
	}
	s, err := proxy.New(files, browser, logger)
	if err != nil {
		return err
	}
	listeners, err := s.Listen(ctx)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for {
			select {
			case <-hup:
				_ = s.Reload() // logged
			case <-ctx.Done():
				return
			}
		}
	}()
	if err := notify("READY=1"); err != nil {
		logger.Warn("notify", "error", err)
	}
	return s.Serve(ctx, listeners...)
}

func checkCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:     "check",
		Short:   "Check the settings, certificates and tokens",
		Example: "  trident-gateway check",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := proxy.Check(*file); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s and its files are valid\n", *file)
			return err
		},
	}
}
