package hostconfig

import (
	"fmt"
	"path"
	"slices"
)

// ExtensionChange is what changes among the extensions of one kind. Those in
// none of the lists stay as they are.
type ExtensionChange struct {
	Added, Removed []Extension
	Replaced       []ReplacedExtension
}

// ReplacedExtension is another image for the same path, or from the same URL
// when none of them has a path. An image that goes to another path is removed
// and added; it need not be fetched again.
type ReplacedExtension struct{ Old, New Extension }

// Empty reports whether nothing changes.
func (c ExtensionChange) Empty() bool { return len(c.Added)+len(c.Removed)+len(c.Replaced) == 0 }

// FileChange is what changes among the additional files.
type FileChange struct {
	Write  []AdditionalFile // new ones, and what is there is written again
	Remove []AdditionalFile // written by the old configuration, and not in the new one
}

// Empty reports whether nothing changes.
func (c FileChange) Empty() bool { return len(c.Write)+len(c.Remove) == 0 }

// compareExtensions pairs what is old with what is new: an image is known by its hash
// and its path, a place by its path or else by the URL that it is filled from.
// Their order means nothing.
func (d *differ) compareExtensions(at string, old, new []Extension) ExtensionChange {
	var out ExtensionChange
	unpairedOld, unpairedNew := indexes(len(old)), indexes(len(new))
	pair := func(match func(o, n *Extension) bool, do func(o, n int)) {
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
	pair(func(o, n *Extension) bool { return o.SHA384 == n.SHA384 && cleanPath(o.Path) == cleanPath(n.Path) }, func(o, n int) {
		if old[o].URL != new[n].URL {
			d.addReason(itemAt(at, n), KindRuntimeUpdate, "comes from another URL, and %s stays", new[n].label())
		}
	})
	pair(func(o, n *Extension) bool {
		return o.Path != "" && cleanPath(o.Path) == cleanPath(n.Path) || o.Path == "" && n.Path == "" && o.URL == n.URL
	}, func(o, n int) {
		out.Replaced = append(out.Replaced, ReplacedExtension{old[o], new[n]})
		d.addReason(itemAt(at, n), KindRuntimeUpdate, "replaces %s", old[o].label())
	})
	for _, n := range unpairedNew {
		out.Added = append(out.Added, new[n])
		d.addReason(itemAt(at, n), KindRuntimeUpdate, "adds %s", new[n].label())
	}
	for _, o := range unpairedOld {
		out.Removed = append(out.Removed, old[o])
		d.addReason(at, KindRuntimeUpdate, "has %s no more", old[o].label())
	}
	return out
}

// compareFiles pairs files by destination. Of several with one destination the last counts.
func (d *differ) compareFiles(old, new []AdditionalFile) {
	const at = "os.additionalFiles"
	had, has := lastOfEach(old), lastOfEach(new)
	for i := range new {
		f := &new[i]
		where := cleanPath(f.Destination)
		if has[where] != f {
			continue
		}
		switch o := had[where]; {
		case o == nil:
			d.addReason(itemAt(at, i), KindRuntimeUpdate, "adds %s", f.Destination)
		case !same(o, f):
			d.addReason(itemAt(at, i), KindRuntimeUpdate, "changes %s", f.Destination)
		default:
			continue
		}
		d.Files.Write = append(d.Files.Write, *f)
	}
	for i := range old {
		f := &old[i]
		if where := cleanPath(f.Destination); had[where] == f && has[where] == nil {
			d.Files.Remove = append(d.Files.Remove, *f)
			d.addReason(at, KindRuntimeUpdate, "has %s no more", f.Destination)
		}
	}
}

func lastOfEach(files []AdditionalFile) map[string]*AdditionalFile {
	out := map[string]*AdditionalFile{}
	for i := range files {
		out[cleanPath(files[i].Destination)] = &files[i]
	}
	return out
}

// cleanPath is path from the root, or "" for none.
func cleanPath(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean("/" + p)
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func itemAt(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }
