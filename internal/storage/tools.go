package storage

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/run"
)

// Keys returns the key of the encrypted volume with that id, the same one at each call.
type Keys func(volumeID string) (luks.Key, error)

// Tools is how Apply reaches the host.
type Tools struct {
	// Runner runs mkfs and mkswap, and udevadm with Udev.
	Runner run.Runner
	// Open and Await stand for those of package blockdev, when they are nil.
	Open  func(path string, exclusive bool) (blockdev.Device, error)
	Await func(ctx context.Context, paths ...string) error
	// Arrays creates and stops arrays, Volumes makes, opens and closes encrypted volumes, and
	// Key returns the key of the volume with that id, the same one at each call. Only plans
	// that have arrays or volumes need them.
	Arrays  md.Manager
	Volumes luks.Manager
	Key     Keys
	// Udev says that udev runs here. It has the kernel read a table again when a
	// disk was written, during which the partitions are gone for a moment.
	Udev bool
}

// HostTools returns the tools of the host with the root folder root, without Key.
func HostTools(root string) Tools {
	_, err := os.Stat(filepath.Join(root, "run/udev/control"))
	return Tools{
		Runner: run.Host{}, Open: blockdev.Open, Udev: err == nil,
		Arrays: &md.Host{Root: root, Tools: run.Host{}}, Volumes: luks.Host{},
	}
}

func (t Tools) open(path string, exclusive bool) (blockdev.Device, error) {
	if t.Open != nil {
		return t.Open(path, exclusive)
	}
	return blockdev.Open(path, exclusive)
}

// Tools returns the names of the programs that Apply runs.
func (p *Plan) Tools() []string {
	var out []string
	for _, f := range p.described.Formats {
		if args, err := mkfs(f); err == nil && !slices.Contains(out, args[0]) {
			out = append(out, args[0])
		}
	}
	if arrays, _ := p.creates(LayerArray, blockdev.Array); arrays {
		out = append(out, "mdadm")
	}
	if volumes, _ := p.creates(LayerEncrypted, blockdev.Encrypted); volumes {
		out = append(out, "cryptsetup")
	}
	return out
}

// creates reports whether Apply creates or ends devices of a kind, and whether it creates some.
func (p *Plan) creates(kind LayerKind, is string) (uses, creates bool) {
	creates = slices.ContainsFunc(p.described.Layers, func(l Layer) bool { return l.Kind == kind && l.Action == Create })
	return creates || slices.ContainsFunc(p.releases, func(r release) bool { return r.Is == is }), creates
}

// CheckTools fails, with errkind.Unsupported, if tools has no means for the arrays or the
// encrypted volumes of the plan.
func (p *Plan) CheckTools(tools Tools) error {
	if arrays, _ := p.creates(LayerArray, blockdev.Array); arrays && tools.Arrays == nil {
		return errkind.WithName(errkind.Errorf(errkind.Unsupported, "this Trident cannot set up software RAID on this host"), errkind.NameCreateRaid)
	}
	volumes, made := p.creates(LayerEncrypted, blockdev.Encrypted)
	if volumes && tools.Volumes == nil || made && tools.Key == nil {
		return errkind.WithName(errkind.Errorf(errkind.Unsupported, "this Trident cannot set up encrypted volumes on this host"), errkind.NameEncryptBlockDevice)
	}
	return nil
}
