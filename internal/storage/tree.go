package storage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/hostconfig"
)

// tree writes a description as a tree: each disk with its partitions, each partition with
// the layers on it, down to the file system and its mount point.
type tree struct {
	Description
	*strings.Builder
	shown map[string]bool // layers with all that is on them
}

func (t tree) disk(d DiskPlan) {
	if d.Path == "" {
		t.printf("\nDisk %q: missing (%s)", d.ID, d.Device)
	} else {
		t.printf("\nDisk %q: %s (%s), %s", d.ID, d.Path, d.Device, bytesize.Plain(d.Size))
	}
	for _, more := range []struct{ what, value string }{{"model", d.Model}, {"serial", d.Serial}} {
		if more.value != "" {
			t.printf(", %s %s", more.what, more.value)
		}
	}
	if d.Removable {
		t.WriteString(", removable")
	}
	t.WriteString("\n")
	for _, p := range d.Partitions {
		if p.Action == Missing {
			t.printf("  %s %s\n", p.Action, p.ID)
			t.above(p.ID, "    ")
			continue
		}
		t.printf("  %-6s %s %s: %s at %s, type %s", p.Action, p.Path, p.ID, bytesize.Plain(p.Size), bytesize.Plain(p.Offset), p.Type)
		if p.Grown {
			t.WriteString(", grown")
		}
		if p.Label != "" && p.Label != p.ID {
			t.printf(", label %q", p.Label)
		}
		t.WriteString("\n")
		t.above(p.ID, "    ")
	}
	if len(d.Destroys) == 0 && d.Path != "" {
		t.WriteString("  DESTROYS nothing that is known\n")
	}
	for _, l := range d.Destroys {
		t.printf("  DESTROYS %s\n", l)
	}
}

func (t tree) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

// above writes what is on the device id.
func (t tree) above(id, indent string) {
	for _, l := range t.Layers {
		at := slices.Index(l.Members, id)
		if at < 0 {
			continue
		}
		switch l.Kind {
		case LayerPair:
			in := []string{"volume-a", "volume-b"}[at]
			t.printf("%s%s %s, its half for %s\n", indent, l.Kind, l.ID, in)
			if in == t.Slot.String() {
				t.above(l.ID, indent+"  ")
			}
		case LayerVerity:
			t.printf("%s%s %s, its %s, %s\n", indent, l.Kind, l.ID, []string{"data", "hashes"}[at], l.Path)
			if at == 0 {
				t.above(l.ID, indent+"  ")
			}
		default:
			t.device(l, indent)
		}
	}
	t.content(id, indent)
}

// device writes an array or an encrypted volume, and what is on it; the latter once.
func (t tree) device(l Layer, indent string) {
	if t.shown[l.ID] {
		t.printf("%s%s %s, as above\n", indent, l.Kind, l.ID)
		return
	}
	t.shown[l.ID] = true
	level := ""
	if l.Kind == LayerArray {
		level = fmt.Sprintf(" (%s of %s)", l.Level, strings.Join(l.Members, " and "))
	}
	least := ""
	if l.Action == Create {
		least = "at least "
	}
	t.printf("%s%s %s %s%s: %s, %s%s\n", indent, l.Action, l.Kind, l.ID, level, l.Path, least, bytesize.Plain(l.Size))
	t.above(l.ID, indent+"  ")
}

// content writes the file system or swap on the device id itself.
func (t tree) content(id, indent string) {
	text := ""
	if i := slices.IndexFunc(t.Formats, func(f Format) bool { return f.ID == id }); i >= 0 {
		text = "new and empty " + t.Formats[i].Type
	}
	i := slices.IndexFunc(t.Mounts, func(m Mount) bool { return m.ID == id })
	mounted := i >= 0 && t.Mounts[i].At != ""
	if mounted && text == "" {
		text = "its present file system"
		if t.Mounts[i].Source == string(hostconfig.FromImage) && t.isWritten(id) {
			text = "file system of the image"
		}
	}
	if mounted {
		text += ", mounted at " + t.Mounts[i].At
	}
	if text != "" {
		t.printf("%s%s\n", indent, text)
	}
}

// isWritten reports whether the image can write to the device id: an update writes A/B
// volumes alone.
func (t tree) isWritten(id string) bool {
	return t.For == Install || slices.ContainsFunc(t.Layers, func(l Layer) bool { return l.ID == id && (l.Kind == LayerPair || l.Kind == LayerVerity) })
}
