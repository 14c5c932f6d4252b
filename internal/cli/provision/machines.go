package provision

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/provision"
	"github.com/trident-project/trident/internal/provision/qemu"
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
	return &virtual{machine: &qemu.Machine{Disk: o.disk, Size: size, Memory: memory, Emulate: o.emulate}}, nil
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
