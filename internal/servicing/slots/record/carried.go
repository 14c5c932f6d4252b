package record

import (
	"context"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// Carried is an extension that the OS image carries for its OS.
type Carried struct {
	Class extension.Class `json:"class"`
	Path  string          `json:"path,omitempty"` // in the OS; "": the default one
	File  string          `json:"file"`           // in the image
	// SHA384 is the digest of the unpacked image; "" until it is unpacked and verified.
	SHA384 string `json:"sha384,omitempty"`
}

// CarriedBy returns the extensions that an image carries.
func CarriedBy(i *image.Image) []Carried {
	var out []Carried
	for _, c := range i.Extensions() {
		out = append(out, Carried{Class: extension.Class(c.Class), Path: c.Path, File: c.File.Path})
	}
	return out
}

// CarriedExtensions returns the unpacked extensions of the image as the store knows them.
func (r *Record) CarriedExtensions() []extension.Extension {
	var out []extension.Extension
	for _, c := range r.Carried {
		if c.SHA384 != "" {
			out = append(out, extension.Extension{Class: c.Class, Path: c.Path, SHA384: c.SHA384})
		}
	}
	return out
}

// CarriedBySlots returns a function that returns the extensions that the images of both slots
// carry: for each slot, those of the newest operation that has succeeded with some, and of later
// ones, which may have failed before or after they overwrote the slot. list returns the
// operations, newest first, and of the record of one.
func CarriedBySlots(list func(context.Context) ([]operation.Operation, error), of func(operation.Operation) (Record, bool)) func(context.Context) (extension.Generation, error) {
	return func(ctx context.Context) (extension.Generation, error) {
		ops, err := list(ctx)
		if err != nil {
			return nil, err
		}
		var out extension.Generation
		known := map[slot.Slot]bool{}
		for _, op := range ops {
			r, is := of(op)
			if !is || known[r.Slot] {
				continue
			}
			found := r.CarriedExtensions()
			out = append(out, found...)
			known[r.Slot] = op.Phase == operation.Done && len(found) > 0
		}
		return out, nil
	}
}
