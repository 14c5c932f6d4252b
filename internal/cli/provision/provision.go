// Package provision has the command trident provision, which installs a machine that boots a
// live image.
package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/linux/filekind"
	"github.com/trident-project/trident/internal/provision"
)

// maxConfig is the largest Host Configuration that the API takes.
const maxConfig = 1 << 20

type options struct {
	app     *command.App
	config  string
	run     provision.Options // without Config, Logger and Notice
	disk    string            // of QEMU; "" for another machine
	size    string            // of that disk
	memory  string
	emulate bool
	redfish redfishOptions
}

const long = `Provision installs a machine that boots the live image of --iso. It puts the address
of this host and a certificate for this run into the image, serves the image and the
OS image of --image by HTTP, waits for the machine to connect, installs it by the
Host Configuration, and follows it through its reboot until it is provisioned. The
data on the disks of the machine are lost.

--qemu makes and starts a virtual machine, which ends with the command. --redfish has
the management controller of a machine boot the image once. Without both, boot the
image that the command serves by other means.

The live image needs a placeholder for the configuration of the agent: see
docs/provisioning.md.
The machine needs to reach this host. It reports its end to this host, unless
trident.phonehome of HOSTCONFIG names another; with --with-agent the installed
system connects too.

Exit codes: 0 the machine is provisioned, 1 it was not, and Trident on it did not fail,
2 Trident failed the installation or the command line is wrong, 124 the command took
longer than --timeout, 130 it was interrupted.`

// Command returns the command.
func Command(a *command.App) *cobra.Command { return newCommand(a, run) }

func newCommand(a *command.App, run func(context.Context, *options) error) *cobra.Command {
	o := &options{app: a}
	cmd := &cobra.Command{
		Use:   "provision HOSTCONFIG --iso FILE",
		Short: "Install a machine that boots a live image",
		Long:  long,
		Example: `  trident provision host.yaml --iso live.iso --image os.cosi
  trident provision host.yaml --iso live.iso --image os.cosi --qemu machine.raw
  trident provision host.yaml --iso live.iso --image os.cosi --redfish https://bmc.example --user admin --password-file password`,
		Args: command.Exactly("HOSTCONFIG"),
		RunE: command.Run(run, o, &o.config),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.run.ISO, "iso", "", "the live image to boot")
	flags.StringVar(&o.run.Image, "image", "", "the OS image to serve, in place of image.url of HOSTCONFIG")
	flags.StringVar(&o.run.Name, "name", "", "the name of the machine in its certificate; without this flag os.hostname")
	flags.StringVar(&o.run.Address, "address", "", "the address by which the machine reaches this host; without this flag that of the default route")
	flags.IntVar(&o.run.Port, "port", 0, "the port for the agent of the machine; 0 means any free port")
	flags.IntVar(&o.run.HTTPPort, "http-port", 0, "the port for the images; 0 means any free port")
	flags.BoolVar(&o.run.WithAgent, "with-agent", false, "have the installed system connect to this host too (it needs trident-gateway)")
	flags.DurationVar(&o.run.CallTime, "call-time", provision.CallTime, "how long to wait for the machine")
	flags.DurationVar(&o.run.RebootTime, "reboot-time", provision.RebootTime, "how long to wait for the machine after its reboot begins")
	flags.StringVar(&o.disk, "qemu", "", "start a virtual machine with this new file as its disk")
	flags.StringVar(&o.size, "qemu-size", "16G", "the size of that disk")
	flags.StringVar(&o.memory, "qemu-memory", "4G", "the memory of the virtual machine")
	flags.BoolVar(&o.emulate, "qemu-emulate", false, "emulate the processor of the virtual machine, for a host whose KVM does not work (ten times slower)")
	o.redfish.addFlags(cmd)
	command.Required(cmd, "iso")
	cmd.MarkFlagsMutuallyExclusive("qemu", "redfish")
	cmd.MarkFlagsMutuallyExclusive("qemu", "address")
	for _, name := range []string{"name", "address", "qemu-size", "qemu-memory"} {
		command.CompleteFlag(cmd, name)
	}
	return cmd
}

// provisioned is the result. Its JSON form is documented by docs/cli.md.
type provisioned struct {
	Name string `json:"name"`
	// Address is the IP address from which the installed system has connected or reported.
	Address string `json:"address"`
	// Connected says that the installed system has connected with its agent.
	Connected bool `json:"connected"`
	// Disk is the disk of --qemu.
	Disk string `json:"disk,omitempty"`
}

// say prints a sentence for the person who waits.
type say func(format string, args ...any)

// starter starts the machine, and ends what it has started.
type starter interface {
	// check finds faults before anything is served. It may complete the options.
	check(context.Context, *provision.Options) error
	// start begins to boot the live image. It calls failed if the machine ends later.
	start(ctx context.Context, r *provision.Run, say say, failed func(error)) error
	// end undoes start, and returns when nothing of it is left.
	end(say)
}

func run(ctx context.Context, o *options) error {
	err := provisionMachine(ctx, o)
	if _, failed := errors.AsType[*provision.FailedError](err); failed {
		return command.AsUpstream(err)
	}
	return command.AsSetup(command.Interrupted(ctx, err))
}

func provisionMachine(ctx context.Context, o *options) error {
	machine, err := o.starter()
	if err != nil {
		return err
	}
	return provisionWith(ctx, o, machine)
}

// provisionWith provisions a machine that has its own way to start.
func provisionWith(ctx context.Context, o *options, machine starter) (err error) {
	progress := terminal.NewProgress(&o.app.Streams)
	defer progress.End()
	settings := o.run
	settings.Notice = func(s string) { progress.Line("%s", terminal.Line(s)) }
	settings.Logger = slog.New(slog.NewTextHandler(o.app.Stderr, &slog.HandlerOptions{Level: o.app.Verbosity}))
	if settings.Config, err = filekind.ReadFile(o.config, maxConfig, filekind.Config); err != nil {
		return fmt.Errorf("read Host Configuration: %w", err)
	}
	if err := machine.check(ctx, &settings); err != nil {
		return err
	}
	r, err := provision.Prepare(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	running, stop := context.WithCancelCause(ctx)
	defer machine.end(progress.Line) // before the servers
	defer stop(nil)
	if err := machine.start(running, r, progress.Line, stop); err != nil {
		return err
	}
	result, err := o.follow(running, r, progress)
	if err != nil {
		return err
	}
	return o.show(result)
}

// follow installs the machine with progress.
func (o *options) follow(ctx context.Context, r *provision.Run, progress *terminal.Progress) (provision.Result, error) {
	progress.Line("Waiting for %s to connect to %s", r.Name(), r.Agent())
	address, err := r.Await(ctx)
	if err != nil {
		return provision.Result{}, err
	}
	progress.Line("The machine has connected from %s", address)
	result, err := r.Install(ctx, progress.Event)
	progress.End()
	return result, err
}

func (o *options) show(result provision.Result) error {
	answer := provisioned{Name: result.Name, Address: result.Address, Connected: result.IsConnected, Disk: o.disk}
	return o.app.Show(answer, func(w *terminal.Table) {
		if o.disk != "" {
			w.Line("Provisioned %s: its disk is %s.", answer.Name, answer.Disk)
			return
		}
		w.Line("Provisioned %s: reach it at %s.", answer.Name, answer.Address)
	})
}

func (o *options) starter() (starter, error) {
	switch {
	case o.disk != "":
		return o.newVirtual()
	case o.redfish.url != "":
		return o.redfish.newController()
	}
	return byHand{}, nil
}

// byHand is a machine that a person boots.
type byHand struct{}

func (byHand) check(context.Context, *provision.Options) error { return nil }
func (byHand) end(say)                                         {}

func (byHand) start(_ context.Context, r *provision.Run, say say, _ func(error)) error {
	say("Boot the machine from %s", r.ISO())
	say("Keep this address secret: the image has the key of the machine")
	return nil
}
