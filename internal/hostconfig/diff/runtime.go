package diff

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// ExtensionChange lists the changes to the extensions of one kind. An extension that is
// in no list stays.
type ExtensionChange struct {
	Added, Removed []hostconfig.Extension
	Replaced       []ReplacedExtension
}

// ReplacedExtension is an extension whose image changes: New has the path of Old or, if
// neither has a path, the URL of Old. An image that moves to another path is in Removed
// and Added instead; it need not be fetched again.
type ReplacedExtension struct{ Old, New hostconfig.Extension }

// Empty reports whether nothing changes.
func (c ExtensionChange) Empty() bool { return len(c.Added)+len(c.Removed)+len(c.Replaced) == 0 }

// FileChange lists the changes to the additional files.
type FileChange struct {
	Write  []hostconfig.AdditionalFile // new or different in the new configuration
	Remove []hostconfig.AdditionalFile // in the old configuration only
}

// Empty reports whether nothing changes.
func (c FileChange) Empty() bool { return len(c.Write)+len(c.Remove) == 0 }

// compareExtensions pairs old and new extensions: first those with the same hash and
// path, which stay; then those with the same path or, without paths, the same URL, which
// are replaced. The order of the lists does not matter.
func (d *differ) compareExtensions(at string, old, new []hostconfig.Extension) ExtensionChange {
	var out ExtensionChange
	unpairedOld, unpairedNew := indexes(len(old)), indexes(len(new))
	pair := func(match func(o, n *hostconfig.Extension) bool, do func(o, n int)) {
		byNew := unpairedNew[:0:0]
	next:
		for _, n := range unpairedNew {
			for i, o := range unpairedOld {
				if match(&old[o], &new[n]) {
					unpairedOld = slices.Delete(unpairedOld, i, i+1)
					do(o, n)
					continue next
				}
			}
			byNew = append(byNew, n)
		}
		unpairedNew = byNew
	}
	pair(func(o, n *hostconfig.Extension) bool {
		return o.SHA384 == n.SHA384 && form.CleanPath(o.Path) == form.CleanPath(n.Path)
	}, func(o, n int) {
		if old[o].URL != new[n].URL {
			d.addReason(itemAt(at, n), KindRuntimeUpdate, "comes from another URL, and %s stays", label(&new[n]))
		}
	})
	pair(func(o, n *hostconfig.Extension) bool {
		return o.Path != "" && form.CleanPath(o.Path) == form.CleanPath(n.Path) || o.Path == "" && n.Path == "" && o.URL == n.URL
	}, func(o, n int) {
		out.Replaced = append(out.Replaced, ReplacedExtension{old[o], new[n]})
		d.addReason(itemAt(at, n), KindRuntimeUpdate, "replaces %s", label(&old[o]))
	})
	for _, n := range unpairedNew {
		out.Added = append(out.Added, new[n])
		d.addReason(itemAt(at, n), KindRuntimeUpdate, "adds %s", label(&new[n]))
	}
	for _, o := range unpairedOld {
		out.Removed = append(out.Removed, old[o])
		d.addReason(at, KindRuntimeUpdate, "has %s no more", label(&old[o]))
	}
	return out
}

// compareFiles pairs files by destination. Of several files with one destination the last counts.
func (d *differ) compareFiles(old, new []hostconfig.AdditionalFile) {
	const at = "os.additionalFiles"
	had, has := lastOfEach(old), lastOfEach(new)
	for i := range new {
		f := &new[i]
		where := form.CleanPath(f.Destination)
		if has[where] != f {
			continue
		}
		switch o := had[where]; {
		case o == nil:
			d.addReason(itemAt(at, i), KindRuntimeUpdate, "adds %s", f.Destination)
		case !reflect.DeepEqual(o, f):
			d.addReason(itemAt(at, i), KindRuntimeUpdate, "changes %s", f.Destination)
		default:
			continue
		}
		d.Files.Write = append(d.Files.Write, *f)
	}
	for i := range old {
		f := &old[i]
		if where := form.CleanPath(f.Destination); had[where] == f && has[where] == nil {
			d.Files.Remove = append(d.Files.Remove, *f)
			d.addReason(at, KindRuntimeUpdate, "has %s no more", f.Destination)
		}
	}
}

func lastOfEach(files []hostconfig.AdditionalFile) map[string]*hostconfig.AdditionalFile {
	out := map[string]*hostconfig.AdditionalFile{}
	for i := range files {
		out[form.CleanPath(files[i].Destination)] = &files[i]
	}
	return out
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func itemAt(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }
