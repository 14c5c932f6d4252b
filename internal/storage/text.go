package storage

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/bytesize"
)

// MarshalJSON returns the Description as JSON.
func (p *Plan) MarshalJSON() ([]byte, error) { return json.Marshal(p.described) }

// String returns the Description as text for people.
func (p *Plan) String() string { return p.described.String() }

// String returns the plan as text for people, in several lines.
func (d Description) String() string {
	var b strings.Builder
	switch d.For {
	case Install:
		fmt.Fprintf(&b, "Install into %s\n", d.Slot)
	case Update:
		fmt.Fprintf(&b, "Update %s\n", d.Slot)
	}
	for _, disk := range d.Disks {
		disk.text(&b)
	}
	if len(d.Layers) > 0 {
		b.WriteString("\nMade of partitions:\n")
	}
	for _, l := range d.Layers {
		fmt.Fprintf(&b, "  %s %s of %s\n", l.Kind, l.ID, strings.Join(l.Members, " and "))
	}
	if len(d.Formats) > 0 {
		b.WriteString("\nMade anew, and empty:\n")
	}
	for _, f := range d.Formats {
		fmt.Fprintf(&b, "  %s on %s (%s)", f.Type, f.ID, f.Path)
		if f.Mount != "" {
			fmt.Fprintf(&b, ", mounted at %s", f.Mount)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nAll other disks and partitions stay as they are.\n")
	return b.String()
}

func (d DiskPlan) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nDisk %q: %s (%s), %s", d.ID, d.Path, d.Device, bytesize.Plain(d.Size))
	for _, more := range []struct{ what, value string }{{"model", d.Model}, {"serial", d.Serial}} {
		if more.value != "" {
			fmt.Fprintf(b, ", %s %s", more.what, more.value)
		}
	}
	if d.Removable {
		b.WriteString(", removable")
	}
	b.WriteString("\n")
	for _, p := range d.Partitions {
		fmt.Fprintf(b, "  %-6s %s %s: %s at %s, type %s", p.Action, p.Path, p.ID, bytesize.Plain(p.Size), bytesize.Plain(p.Offset), p.Type)
		if p.Grown {
			b.WriteString(", grown")
		}
		if p.Label != "" && p.Label != p.ID {
			fmt.Fprintf(b, ", label %q", p.Label)
		}
		b.WriteString("\n")
	}
	if len(d.Destroys) == 0 {
		b.WriteString("  DESTROYS nothing that is known\n")
	}
	for _, l := range d.Destroys {
		fmt.Fprintf(b, "  DESTROYS %s\n", l)
	}
}

// String returns the loss as text for people, in one line.
func (l Loss) String() string {
	out := fmt.Sprintf("%s %s, %s", l.What, l.Path, bytesize.Plain(l.Size))
	switch l.What {
	case "content":
		out = fmt.Sprintf("the content of %s, %s", l.Path, bytesize.Plain(l.Size))
	case "signature":
		out = fmt.Sprintf("what a former use has left beside the partition table of %s", l.Path)
	}
	if l.Content != "" {
		out += ", " + l.Content
	}
	if l.Label != "" {
		out += fmt.Sprintf(", label %q", l.Label)
	}
	return out
}
