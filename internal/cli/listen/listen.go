// Package listen has the command trident listen, which waits for hosts that connect out
// (trident-gateway connect), and runs commands of trident on them.
package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

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

// arrival is a host that has connected for the first time.
type arrival struct {
	Host    string `json:"host"`
	Address string `json:"address"`
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

// arrivals has each host once, in the order of arrival. Its methods may be called concurrently.
type arrivals struct {
	only []string

	mu   sync.Mutex
	seen map[string]bool
	list []arrival
	more chan struct{} // has a value after list has grown
}

func newArrivals(only []string) *arrivals {
	return &arrivals{only: only, seen: map[string]bool{}, more: make(chan struct{}, 1)}
}

func (a *arrivals) add(c client.HostConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[c.Identity] || len(a.only) > 0 && !slices.Contains(a.only, c.Identity) {
		return
	}
	a.seen[c.Identity] = true
	a.list = append(a.list, arrival{c.Identity, c.RemoteAddr().String()})
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// next returns the next host, or an error when ctx ends.
func (a *arrivals) next(ctx context.Context) (arrival, error) {
	for {
		a.mu.Lock()
		if len(a.list) > 0 {
			first := a.list[0]
			a.list = a.list[1:]
			a.mu.Unlock()
			return first, nil
		}
		a.mu.Unlock()
		select {
		case <-a.more:
		case <-ctx.Done():
			return arrival{}, context.Cause(ctx)
		}
	}
}

// session serves the hosts of one run of the command.
type session struct {
	*options
	listener *client.Listener
	slots    chan struct{}

	mu     sync.Mutex
	failed []result
}

// serve handles each host, and returns when all that it was to handle have ended.
func (s *session) serve(ctx context.Context, hosts *arrivals) error {
	var running sync.WaitGroup
	defer running.Wait()
	most := len(uniq(s.hosts))
	if s.once {
		most = 1
	}
	for n := 0; most == 0 || n < most; n++ {
		host, err := hosts.next(ctx)
		if err != nil {
			running.Wait()
			return errors.Join(command.Interrupted(ctx, err), s.err())
		}
		if len(s.args) == 0 {
			if err := s.app.Show(host, func(w *terminal.Table) { w.Line("%s\t%s", host.Host, host.Address) }); err != nil {
				return err
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			continue // next returns the cause
		}
		running.Go(func() {
			defer func() { <-s.slots }()
			s.runOn(ctx, host.Host)
		})
	}
	running.Wait()
	return s.err()
}

func uniq(names []string) []string {
	names = slices.Sorted(slices.Values(names))
	return slices.Compact(names)
}

// runOn runs the command on a host, and then prints its output.
func (s *session) runOn(ctx context.Context, host string) {
	var stdout, stderr bytes.Buffer
	code, err := s.runThrough(ctx, host, terminal.Streams{Stdout: &stdout, Stderr: &stderr, Now: s.app.Now})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		fmt.Fprintf(&stderr, "%v\n", err)
		code = 1
	}
	if code != 0 {
		s.failed = append(s.failed, result{host, code})
	}
	fmt.Fprintf(s.app.Stderr, "== %s: exit code %d\n%s", terminal.Line(host), code, stderr.Bytes())
	_, _ = s.app.Stdout.Write(stdout.Bytes())
}

// runThrough runs the command over a socket of its own, which leads to the host.
func (s *session) runThrough(ctx context.Context, host string, streams terminal.Streams) (int, error) {
	dir, err := os.MkdirTemp("", "trident-listen-") // mode 0700
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := forward(ctx, dir+"/s", func(ctx context.Context) (client.HostConn, error) { return s.listener.Host(ctx, host) })
	if err != nil {
		return 0, err
	}
	defer f.close()
	return s.run(ctx, streams, append([]string{"--socket", dir + "/s"}, s.args...)), nil
}

// err returns the error of the hosts on which the command failed; nil if there are none.
func (s *session) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var texts []string
	for _, r := range s.failed {
		texts = append(texts, fmt.Sprintf("%s (exit code %d)", r.host, r.code))
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("trident %s failed on some hosts: %s", strings.Join(s.args, " "), strings.Join(texts, ", "))
}
