package machine

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type captureOptions struct {
	app         *command.App
	link        string
	promiscuous bool
	snap        int32
	maxBytes    int64
	maxTime     time.Duration
	filter      string
}

func newCaptureCommand(a *command.App, run func(context.Context, *captureOptions) error) *cobra.Command {
	o := &captureOptions{app: a}
	cmd := &cobra.Command{
		Use:     "capture INTERFACE",
		Short:   "Record packets of a network interface, as a pcap file",
		Example: "  trident host capture eth0 --time 10s --max-bytes 1000000",
		Long: `Capture writes a pcap file to standard output. It ends after --time or --max-bytes. The
file does not have the packets of the connection to the host. A filter is what tcpdump
-ddd prints for an expression.`,
		Args: command.Exactly("INTERFACE"),
		RunE: command.Run(run, o, &o.link),
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.promiscuous, "promiscuous", false, "also record packets that are not for this host")
	flags.Int32Var(&o.snap, "snap-length", 0, "how many bytes of each packet to record; 0 means 262144")
	flags.Int64Var(&o.maxBytes, "max-bytes", 0, "how large the file may become; 0 means 16 MiB")
	flags.DurationVar(&o.maxTime, "time", time.Minute, "how long to record, at most an hour")
	flags.StringVar(&o.filter, "filter", "", "a BPF program as tcpdump -ddd prints it")
	return cmd
}

func capture(ctx context.Context, o *captureOptions) error {
	req := &machinev1.CaptureRequest{
		Interface: o.link, Promiscuous: o.promiscuous, SnapLength: o.snap, MaxBytes: o.maxBytes, MaxTime: durationpb.New(o.maxTime),
	}
	var err error
	if req.Filter, err = parseFilter(o.filter); err != nil {
		return err
	}
	return receive(ctx, o.app, "capture packets of "+o.link, func(c *client.Client) (grpc.ServerStreamingClient[machinev1.CaptureResponse], error) {
		return c.Capture().Capture(ctx, req)
	}, func(m *machinev1.CaptureResponse) error {
		if n := m.GetDropped(); n > 0 {
			warn(o.app, "the kernel has dropped %d packets", n)
		}
		_, err := o.app.Stdout.Write(m.GetData())
		return err
	})
}

// parseFilter parses the decimal form of a BPF program: the number of instructions, and a line
// with four numbers for each.
func parseFilter(text string) (program []*machinev1.BpfInstruction, err error) {
	lines := bufio.NewScanner(strings.NewReader(strings.TrimSpace(text)))
	for number := 0; lines.Scan(); number++ {
		var in machinev1.BpfInstruction
		if _, err := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 32); number == 0 && err == nil {
			continue // how many there are
		}
		if n, err := fmt.Sscanf(lines.Text(), "%d %d %d %d", &in.Op, &in.Jt, &in.Jf, &in.K); n != 4 || err != nil {
			return nil, errkind.WithHint(errkind.Errorf(errkind.Invalid, "read --filter: line %d is not an instruction: %.64q", number+1, lines.Text()),
				"give what tcpdump -ddd prints")
		}
		program = append(program, &in)
	}
	return program, lines.Err()
}
