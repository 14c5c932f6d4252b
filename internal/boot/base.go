package boot

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// base is what one call of a method needs of the host, whichever boot loader it is.
type base struct {
	Host  // every change of Vars is a named change of the host
	esp   esp
	slot  slot.Slot         // that the call is about
	label slot.Pair[string] // of the slots: their folders in EFI, and their boot entries
}

func newBase(h Host, e esp) base {
	h.Vars = touching{h.Vars, h.Touch}
	return base{Host: h, esp: e, label: slot.Pair[string]{A: label(h.Index, slot.A), B: label(h.Index, slot.B)}}
}

// onESP opens the ESP of h while use runs.
func (h Host) onESP(ctx context.Context, use func(base) error) error {
	if err := interrupt.Err(ctx); err != nil {
		return err
	}
	root, err := os.OpenRoot(h.ESP)
	if err != nil {
		return fmt.Errorf("open the ESP: %w", err)
	}
	defer root.Close()
	return use(newBase(h, esp{ctx, root.FS(), root, h.Touch}))
}

// folder returns the path of the folder of slot s on the ESP.
func (w *base) folder(s slot.Slot) string { return path.Join(efiDir, w.label.Of(s)) }

// loaderOf returns the path of the program on the ESP that the firmware starts for slot s.
func (w *base) loaderOf(s slot.Slot) string { return path.Join(w.folder(s), w.Arch.bootFile()) }

// touching is a Store whose every change is a named change of the host (Host.Touch).
type touching struct {
	efivar.Store
	touch func(string, func() error) error
}

func (t touching) Set(n efivar.Name, v efivar.Variable) error {
	return errkind.WithName(t.touch("set "+n.Name, func() error { return t.Store.Set(n, v) }), errkind.NameSetEfiVariable)
}

func (t touching) Delete(n efivar.Name) error {
	return errkind.WithName(t.touch("delete "+n.Name, func() error { return t.Store.Delete(n) }), errkind.NameSetEfiVariable)
}
