package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/md"
)

// layerTimeout bounds the making or ending of one array or encrypted volume.
const layerTimeout = 10 * time.Minute

// end ends what the plan releases, and then the arrays and volumes that an earlier Apply of
// the same plan has made, from the top down.
func (p *Plan) end(ctx context.Context, tools Tools, touch Touch) error {
	ending := slices.Clone(p.releases)
	for _, l := range slices.Backward(p.devices()) {
		known := slices.ContainsFunc(ending, func(r release) bool { return r.UUID == l.UUID })
		if l.Action != Create || known {
			continue
		}
		is := blockdev.Array
		if l.Kind == LayerEncrypted {
			is = blockdev.Encrypted
		}
		ending = append(ending, release{blockdev.Other{Path: l.Path, Label: l.Name, UUID: l.UUID, Is: is}})
	}
	for _, r := range ending {
		if err := r.end(ctx, tools, touch); err != nil {
			return err
		}
	}
	return nil
}

// end closes the volume, or stops the array.
func (r release) end(ctx context.Context, tools Tools, touch Touch) error {
	ctx, cancel := context.WithTimeout(ctx, layerTimeout)
	defer cancel()
	act, upstream, change := "close encrypted volume", errkind.NameCleanupEncryption, func() error {
		return tools.Volumes.Close(ctx, luks.Volume{Name: r.Label, UUID: r.UUID})
	}
	if r.Is == blockdev.Array {
		act, upstream, change = "stop array", errkind.NameCleanupRaid, func() error {
			id, err := gpt.ParseGUID(r.UUID)
			if err != nil {
				return err
			}
			return tools.Arrays.Stop(ctx, md.UUID(id))
		}
	}
	if err := touch(act+" "+r.Label, change); err != nil {
		return errkind.WithName(errkind.WithHint(fmt.Errorf("%s %q (%s): %w", act, r.Label, r.Path, err), hintUse), upstream)
	}
	return nil
}

// create creates the arrays and encrypted volumes, from the bottom up. It overwrites
// what an earlier call has made.
func (p *Plan) create(ctx context.Context, tools Tools, touch Touch) error {
	for _, l := range p.devices() {
		build := p.encrypt
		if l.Kind == LayerArray {
			build = p.createArray
		}
		if l.Action != Create {
			continue
		}
		if err := build(ctx, l, tools, touch); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) createArray(ctx context.Context, l *Layer, tools Tools, touch Touch) error {
	ctx, cancel := context.WithTimeout(ctx, layerTimeout)
	defer cancel()
	a := md.Array{Name: l.Name, Level: md.Level(l.Level)}
	id, err := gpt.ParseGUID(l.UUID)
	a.UUID = md.UUID(id)
	for _, m := range l.Members {
		below, e := p.Target(m)
		if err == nil {
			err = e
		}
		a.Members = append(a.Members, below.Path)
	}
	if err == nil {
		err = touch("create array "+l.ID, func() error { return tools.Arrays.Create(ctx, a) })
	}
	if err == nil {
		return nil
	}
	return errkind.WithName(fmt.Errorf("create array %q (%s): %w", l.ID, l.Path, err), errkind.NameCreateRaid)
}

func (p *Plan) encrypt(ctx context.Context, l *Layer, tools Tools, touch Touch) error {
	return p.withKey(ctx, l, tools, func(ctx context.Context, v luks.Volume, key luks.Key) error {
		if err := touch("encrypt "+l.ID, func() error { return tools.Volumes.Format(ctx, v, key) }); err != nil {
			return err
		}
		return touch("open "+l.ID, func() error { return tools.Volumes.Open(ctx, v, key) })
	})
}

// withKey calls use with an encrypted volume and its key.
func (p *Plan) withKey(ctx context.Context, l *Layer, tools Tools, use func(context.Context, luks.Volume, luks.Key) error) error {
	ctx, cancel := context.WithTimeout(ctx, layerTimeout)
	defer cancel()
	below, err := p.Target(l.Members[0])
	var key luks.Key
	if err == nil {
		key, err = tools.Key(l.ID)
	}
	if err == nil {
		err = use(ctx, luks.Volume{Device: below.Path, Name: l.Name, UUID: l.UUID}, key)
	}
	if err == nil {
		return nil
	}
	return errkind.WithName(fmt.Errorf("make the encrypted volume %q (%s): %w", l.ID, l.Path, err), errkind.NameEncryptBlockDevice)
}

// Reopen opens the encrypted volumes that Apply has made and that a reboot of the
// installing system has closed. An open volume stays as it is.
func (p *Plan) Reopen(ctx context.Context, tools Tools, touch Touch) error {
	if err := p.CheckTools(tools); err != nil {
		return err
	}
	for _, l := range p.devices() {
		if l.Kind != LayerEncrypted || l.Action != Create {
			continue
		}
		err := p.withKey(ctx, l, tools, func(ctx context.Context, v luks.Volume, key luks.Key) error {
			return touch("open "+l.ID, func() error { return tools.Volumes.Open(ctx, v, key) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}
