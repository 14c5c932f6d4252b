package newos

import (
	"cmp"
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

const (
	mdadmConf = "/etc/mdadm/mdadm.conf"
	crypttab  = "/etc/crypttab"
)

// writeLayers writes the files by which the new OS starts its arrays and unlocks its
// encrypted volumes. Without any it leaves those of the image.
func (o *OS) writeLayers(_ context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	spec := &c.Spec().Storage
	inv, err := o.Machine.Inventory()
	if err != nil {
		return err
	}
	arrays, err := storage.MdadmConf(spec, inv)
	if err != nil {
		return err
	}
	volumes, err := storage.Crypttab(spec, r.State.Paths.Map(), r.State.Slot)
	if err != nil {
		return err
	}
	if arrays != "" {
		err = errkind.WithName(o.put(root, mdadmConf, 0o644, arrays), errkind.NameCreateMdadmConf)
	}
	if volumes != "" {
		err = cmp.Or(err, errkind.WithName(o.put(root, crypttab, 0o600, volumes), errkind.NameCreateCrypttab))
	}
	return err
}
