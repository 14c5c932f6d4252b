package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/provision"
	"github.com/trident-project/trident/internal/provision/qemu"
	"github.com/trident-project/trident/internal/provision/redfish"
)

const (
	maxPassword = 4 << 10 // bytes
	maxCA       = 1 << 20
	// ejectTime bounds the removal of the live image from a virtual CD.
	ejectTime = 30 * time.Second
)

func (o *options) newVirtual() (starter, error) {
	size, err := bytesOf("qemu-size", o.size)
	if err != nil {
		return nil, err
	}
	memory, err := bytesOf("qemu-memory", o.memory)
	if err != nil {
		return nil, err
	}
	return &virtual{machine: &qemu.Machine{Disk: o.disk, Size: size, Memory: memory}}, nil
}

func bytesOf(flag, text string) (int64, error) {
	n, err := bytesize.Parse(text)
	if err != nil {
		return 0, errkind.With(errkind.Invalid, fmt.Errorf("--%s: %w", flag, err))
	}
	return n, nil
}

// virtual is a machine in QEMU.
type virtual struct {
	machine virtualMachine
	all     sync.WaitGroup
	stop    context.CancelFunc
}

// virtualMachine is qemu.Machine, which tests replace.
type virtualMachine interface {
	Create() error
	Run(ctx context.Context, iso io.Reader, size int64) error
	Log() string
}

func (v *virtual) check(_ context.Context, o *provision.Options) error {
	o.Address, o.Loopback = qemu.HostAddress, true
	return nil
}

func (v *virtual) start(ctx context.Context, r *provision.Run, say say, failed func(error)) error {
	if err := v.machine.Create(); err != nil {
		return err
	}
	say("The machine boots in QEMU; its serial port writes to %s", v.machine.Log())
	ctx, v.stop = context.WithCancel(ctx)
	iso, size := r.ISOContent()
	v.all.Go(func() {
		if err := v.machine.Run(ctx, iso, size); err != nil {
			failed(err)
		}
	})
	return nil
}

func (v *virtual) end(say) {
	if v.stop != nil {
		v.stop()
	}
	v.all.Wait()
}

// redfishOptions are the flags for a management controller.
type redfishOptions struct {
	url, user, passwordFile, ca, system string
	insecure                            bool
}

func (o *redfishOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.url, "redfish", "", "boot the machine by the Redfish service at this URL")
	flags.StringVar(&o.user, "user", "", "the user of the Redfish service")
	flags.StringVar(&o.passwordFile, "password-file", "", "the file with the password of the Redfish service")
	flags.StringVar(&o.ca, "redfish-ca", "", "the authorities of the Redfish service (PEM); without this flag those of this host")
	flags.BoolVar(&o.insecure, "redfish-insecure", false, "accept any certificate of the Redfish service, and http")
	flags.StringVar(&o.system, "redfish-system", "", "the Id of the machine, if the Redfish service has several")
	for _, name := range []string{"redfish", "user", "redfish-system"} {
		command.CompleteFlag(cmd, name)
	}
	cmd.MarkFlagsRequiredTogether("redfish", "user", "password-file")
	cmd.MarkFlagsMutuallyExclusive("redfish-ca", "redfish-insecure")
}

func (o *redfishOptions) newController() (starter, error) {
	password, err := regfile.ReadFile(o.passwordFile, maxPassword)
	if err != nil {
		return nil, fmt.Errorf("read --password-file: %w", err)
	}
	settings := redfish.Options{URL: o.url, User: o.user, Password: strings.TrimRight(string(password), "\r\n"), Insecure: o.insecure, System: o.system}
	if o.ca != "" {
		if settings.CA, err = regfile.ReadFile(o.ca, maxCA); err != nil {
			return nil, fmt.Errorf("read --redfish-ca: %w", err)
		}
	}
	client, err := redfish.New(settings)
	if err != nil {
		return nil, err
	}
	return &controller{client: client}, nil
}

// controller is a machine with a management controller.
type controller struct {
	client   *redfish.Client
	inserted bool
}

func (c *controller) check(ctx context.Context, o *provision.Options) error {
	if o.Address == "" {
		address, err := provision.Towards(ctx, c.client.Host())
		if err != nil {
			return err
		}
		o.Address = address
	}
	return c.client.Check(ctx)
}

func (c *controller) start(ctx context.Context, r *provision.Run, say say, _ func(error)) error {
	c.inserted = true // perhaps, after a failure
	if err := c.client.Boot(ctx, r.ISO()); err != nil {
		return err
	}
	say("The machine boots from its virtual CD")
	return nil
}

func (c *controller) end(say say) {
	if !c.inserted {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), ejectTime, errors.New("no answer within "+ejectTime.String()))
	defer cancel()
	if err := c.client.Eject(ctx); err != nil {
		say("The live image may still be in the virtual CD: %v", err)
	}
}
