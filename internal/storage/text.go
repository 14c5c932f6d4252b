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
	case Stream:
		b.WriteString("Write a whole disk\n")
	}
	t := tree{Description: d, Builder: &b, shown: map[string]bool{}}
	for _, disk := range d.Disks {
		t.disk(disk)
	}
	b.WriteString("\nAll other disks and partitions stay as they are.\n")
	return b.String()
}

// String returns the loss as text for people, in one line.
func (l Loss) String() string {
	out := fmt.Sprintf("%s %s, %s", l.What, l.Path, bytesize.Plain(l.Size))
	switch l.What {
	case "content":
		out = fmt.Sprintf("the content of %s, %s", l.Path, bytesize.Plain(l.Size))
	case "array", "volume":
		out = fmt.Sprintf("the running %s %s, %s", l.What, l.Path, bytesize.Plain(l.Size))
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
