// Program fleet is an example for fleet tools. It stages one Host Configuration on all
// hosts, finalizes it on the first host, and then on the others.
//
//	fleet host.yaml /tmp/host1.sock /tmp/host2.sock tls://host3:7443
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/trident-project/trident/proto/client"
)

const (
	parallel = 16
	// perHost is how long one host may take for one round, a reboot included.
	perHost = 30 * time.Minute
	// again is how long to leave a host alone that may be willing later.
	again = 10 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer, options ...client.Option) error {
	if len(args) < 2 {
		return errors.New("name a Host Configuration and the hosts")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	r := rollout{config: &client.Config{Text: string(text)}, options: append(options, client.WithName("fleet", "example"))}
	hosts := args[1:]
	for _, round := range []struct {
		name  string
		part  client.Part
		hosts []string
	}{
		{"stage", client.StageOnly, hosts},           // refusals show here, without risk
		{"finalize", client.FinalizeOnly, hosts[:1]}, // the first one shows whether it works
		{"finalize", client.FinalizeOnly, hosts[1:]},
	} {
		faults := client.Each(ctx, round.hosts, parallel, r.host(round.part), r.options...)
		for i, host := range round.hosts {
			fmt.Fprintf(out, "%s %s: %s\n", round.name, host, verdict(faults[i]))
		}
		if err := errors.Join(faults...); err != nil {
			return fmt.Errorf("the rollout stops: %w", err)
		}
	}
	return nil
}

type rollout struct {
	config  *client.Config
	options []client.Option
}

// host is what is done to one host in a round. Who is busy is asked again for as
// long as there is time.
func (r *rollout) host(part client.Part) func(context.Context, *client.Client) error {
	return func(ctx context.Context, trident *client.Client) error {
		ctx, cancel := context.WithTimeout(ctx, perHost)
		defer cancel()
		for {
			_, err := trident.Host().Update(ctx, r.config, client.How{Part: part}, nil)
			if !client.Retriable(err) {
				return err
			}
			select {
			case <-time.After(again):
			case <-ctx.Done():
				return err
			}
		}
	}
}

// verdict says what to do about one host.
func verdict(err error) string {
	switch failed, _ := errors.AsType[*client.OperationError](err); {
	case err == nil:
		return "done"
	case failed != nil && failed.Stuck():
		return "send somebody: " + string(client.Kind(err))
	case client.Kind(err) == client.KindUnhealthy:
		return "it went back by itself: " + string(client.Kind(err))
	case client.Kind(err) == client.KindUnavailable:
		return "it cannot be reached"
	}
	return "refused: " + string(client.Kind(err))
}
