package image

import "fmt"

// layout returns warnings about violations of the specification in the layout of the
// archive. They do not disturb readers; upstream does not check the layout.
func (i *Image) layout(a *archive) []Finding {
	var out []Finding
	warn := func(path, format string, args ...any) {
		out = append(out, Finding{Name: NameLayout, Path: path, Text: fmt.Sprintf(format, args...), Relaxable: true, warning: true})
	}
	for _, e := range a.entries {
		if e.raw != e.name {
			warn(e.raw, "begins with ./")
		}
	}
	if !a.ended {
		warn("", "does not end with two blocks of zeros")
	}
	files := a.entries
	if i.meta.Version.since(2) {
		switch {
		case len(files) > 0 && files[0].name == markerName && files[0].size > 0:
			warn(markerName, "is not empty")
			files = files[1:]
		case len(files) > 0 && files[0].name == markerName:
			files = files[1:]
		default:
			warn(markerName, "is not the first file")
		}
	}
	if len(files) == 0 || files[0].name != metadataName {
		warn(metadataName, "is not at the beginning")
	}
	i.order(a, warn)
	return out
}

// order warns if the archive's images are not in the order of the disk, or if the archive
// has other files.
func (i *Image) order(a *archive, warn func(string, string, ...any)) {
	wanted, last := map[string]bool{markerName: true, metadataName: true}, -1
	for _, p := range i.parts {
		wanted[p.File.Path] = true
		at := a.byName[p.File.Path]
		if i.meta.Version.since(2) && at < last {
			warn(p.File.Path, "is in the archive before a region that precedes it on the disk")
		}
		last = max(last, at)
	}
	for _, c := range i.carried {
		wanted[c.File.Path] = true
		if a.byName[c.File.Path] < last {
			warn(c.File.Path, "is an extension, and is in the archive before a region of the disk")
		}
	}
	for _, e := range a.entries {
		if !wanted[e.name] {
			warn(e.name, "is in the archive, and metadata.json does not mention it")
		}
	}
}
