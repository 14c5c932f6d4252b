package boot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Reconcile gives each slot with a boot loader on the ESP one boot entry for each member of
// the ESP. gone are the UUIDs of partitions. The entry of a new member takes the place of the entry of a partition that is
// gone, else it comes after the last entry of its slot. Reconcile deletes the entries of
// gone partitions that no member took over. What boots next, and the order of the slots,
// stay. A caller may call it again after a failure or a power cut.
func Reconcile(ctx context.Context, h Host, gone []string) error {
	h, err := h.complete(SystemdBoot) // the entries are the same for either boot loader
	if err != nil {
		return err
	}
	err = h.onESP(ctx, func(w base) error {
		for _, s := range []slot.Slot{slot.A, slot.B} {
			if !w.esp.has(w.loaderOf(s)) {
				continue
			}
			if err := w.reconcile(s, gone); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("give each member of the ESP a boot entry: %w", err)
	}
	return nil
}

func (w *base) reconcile(s slot.Slot, gone []string) error {
	before, err := w.labelled(w.label.Of(s))
	if err != nil {
		return err
	}
	numbers, err := w.ensure(s)
	if err != nil {
		return err
	}
	err = w.order(func(order []efivar.Number) []efivar.Number {
		at := len(order)
		for i, n := range order {
			if slices.ContainsFunc(before, func(e efivar.Entry) bool { return e.Number == n }) {
				at = i + 1
			}
		}
		return slices.Insert(order, at, without(order...)(slices.Clone(numbers))...)
	})
	if err != nil {
		return err
	}
	after, err := w.labelled(w.label.Of(s))
	if err != nil {
		return err
	}
	for _, e := range after {
		if w.isOurs(e) || !isGone(e, gone) {
			continue
		}
		if err := w.order(without(e.Number)); err != nil {
			return err
		}
		if err := efivar.DeleteEntry(w.Vars, e.Number); err != nil {
			return err
		}
	}
	return nil
}

// isGone reports whether the entry boots from one of the partitions gone.
func isGone(e efivar.Entry, gone []string) bool {
	disk, _, ok := e.Location()
	return ok && slices.ContainsFunc(gone, func(id string) bool { return strings.EqualFold(id, disk.Partition.String()) })
}
