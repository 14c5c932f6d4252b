package record

import (
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/image"
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
