// Package listen has the command trident listen, which waits for hosts that connect out
// (trident-gateway connect), and runs commands of trident on them.
package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/proto/client"
)

// Runner runs a command line of trident with the given streams, and returns its exit code.
type Runner func(ctx context.Context, streams terminal.Streams, args []string) int

// parallel is how many hosts run the command at the same time.
const parallel = 8

type options struct {
	app              *command.App
	run              Runner
	address          string
	certificate, key string
	ca               string
	hosts            []string
	once             bool
	args             []string
}

const long = `Listen waits on a TCP address for hosts that connect out by trident-gateway connect, or
by upstream's rcp-agent. It prints a line for each host. After -- comes a command of
trident, without the word trident: listen runs it once on each host that connects,
on at most 8 at a time, and prints its output when it has ended.

A host is named by its certificate: the first DNS name or URI, or else its SHA-256
fingerprint. With --host the command listens to these hosts only and ends when each
has come, with --once when one has come; otherwise it ends when it is interrupted.

The certificate of --certificate needs the DNS name reverseconnectproxy. --ca has the
authorities that sign the certificates of hosts. Other peers are refused, with a warning.`

// Command returns the command. run runs a command line for one host.
func Command(a *command.App, run Runner) *cobra.Command {
	return newCommand(a, func(ctx context.Context, o *options) error {
		o.run = run
		return listen(ctx, o)
	})
}

func newCommand(a *command.App, run func(context.Context, *options) error) *cobra.Command {
	o := &options{app: a}
	cmd := &cobra.Command{
		Use:   "listen ADDRESS [-- COMMAND]",
		Short: "Wait for hosts that connect out, and run a command on each",
		Long:  long,
		Example: `  trident listen :7443 --certificate listener.crt --key listener.key --ca hosts-ca.crt
  trident listen :7443 --certificate listener.crt --key listener.key --ca hosts-ca.crt --host host-1 -- get status`,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 0 {
				dash = len(args)
			}
			return command.Exactly("ADDRESS")(cmd, args[:dash])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.address, o.args = args[0], args[1:]
			return run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.certificate, "certificate", "", "the certificate of this listener (PEM)")
	flags.StringVar(&o.key, "key", "", "the key of the certificate (PEM)")
	flags.StringVar(&o.ca, "ca", "", "the authorities of the hosts (PEM)")
	flags.StringArrayVar(&o.hosts, "host", nil, "listen to this host only; may be repeated")
	flags.BoolVar(&o.once, "once", false, "end after the first host")
	command.Required(cmd, "certificate", "key", "ca")
	return cmd
}

func (o *options) settings() (*tls.Config, error) {
	var pem [3][]byte
	for i, f := range []struct{ flag, path string }{{"--certificate", o.certificate}, {"--key", o.key}, {"--ca", o.ca}} {
		var err error
		if pem[i], err = regfile.ReadFile(f.path, 1<<20); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.flag, err)
		}
	}
	own, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return nil, errkind.With(errkind.Invalid, fmt.Errorf("read --certificate %s and --key %s: %w", o.certificate, o.key, err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem[2]) {
		return nil, errkind.Errorf(errkind.Invalid, "read --ca %s: it has no certificate in PEM", o.ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: pool}, nil
}

// result is the end of the command on one host.
type result struct {
	host string
	code int
}

func listen(ctx context.Context, o *options) error {
	settings, err := o.settings()
	if err != nil {
		return err
	}
	arrivals := newArrivals(o.hosts)
	logger := slog.New(slog.NewTextHandler(o.app.Stderr, &slog.HandlerOptions{Level: o.app.Verbosity}))
	l, err := client.Listen(o.address, settings, client.WithListenLogger(logger), client.WithConnected(arrivals.add))
	if err != nil {
		return err
	}
	progress := terminal.NewProgress(&o.app.Streams)
	progress.Line("listening on %s", l.Addr())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{options: o, listener: l, slots: make(chan struct{}, parallel)}
	err = s.serve(ctx, arrivals)
	cancel(nil)
	return errors.Join(err, l.Close())
}
