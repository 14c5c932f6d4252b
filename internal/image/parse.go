package image

import (
	"encoding/hex"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

const (
	maxMetadata = 16 << 20 // bytes; a list of 20,000 packages has 2 MiB
	maxPackages = 1 << 17
	maxImage    = 1 << 50 // bytes of a partition
	sha384Size  = 48
)

// ParseMetadata parses metadata.json and checks all rules of its version. The error is a
// *MetadataError with all findings, of kind Invalid (Unsupported for another major
// version) and with upstream's name LoadCosi. With relaxed (upstream's internal parameter
// relaxedCosiValidation) a Relaxable finding is a warning.
//
// For a minor version newer than 1.3, ParseMetadata applies the rules of 1.3 to the keys
// that it knows; unknown words are warnings.
func ParseMetadata(data []byte, relaxed bool) (*Metadata, []Finding, error) {
	if len(data) > maxMetadata {
		return nil, nil, errkind.Errorf(errkind.TooLarge, "metadata.json has %d bytes, %d are read at most", len(data), maxMetadata)
	}
	tree, err := decodeTree(data)
	if err != nil {
		return nil, nil, metadataError("", Finding{Name: NameParse, Text: "cannot be read as JSON: " + err.Error()})
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return nil, nil, metadataError("", Finding{Name: NameParse, Text: "is " + kindOf(tree) + ", must be an object"})
	}
	w := &walker{}
	root := object{w, "", fields}
	text := root.text("version", true)
	version, ok := parseVersion(text)
	switch {
	case len(w.findings) > 0:
		return nil, nil, metadataError("", w.findings...)
	case !ok:
		return nil, nil, metadataError("", Finding{Name: NameParse, Path: "version", Text: "is not a version of the form 1.2"})
	case version.Major != 1:
		err := metadataError(version.String(), Finding{Name: nameUnsupportedVersion, Path: "version", Text: "is not 1.x, the versions that are understood"})
		return nil, nil, errkind.With(errkind.Unsupported, err)
	}
	w.newer = version.Minor > 3
	m := root.metadata(version)
	m.check(w)
	var faults, warnings []Finding
	for _, f := range w.findings {
		if f.warning || relaxed && f.Relaxable {
			warnings = append(warnings, f)
		} else {
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		return nil, warnings, metadataError(version.String(), faults...)
	}
	return m, warnings, nil
}

func metadataError(version string, findings ...Finding) error {
	return loadError(&MetadataError{version, findings})
}

func (o object) metadata(v Version) *Metadata {
	m := &Metadata{Version: v, OSRelease: OSRelease(o.text("osRelease", true))}
	arch := o.text("osArch", true)
	var ok bool
	if m.Arch, ok = ParseArch(arch); !ok && o.is("osArch") {
		o.fault(NameParse, "osArch", "is %.32q, must be x86_64 or arm64", arch)
	}
	if id := o.text("id", false); id != "" {
		g, err := gpt.ParseGUID(id)
		if err != nil {
			o.fault(NameParse, "id", "is %.64q, must be a UUID", id)
		}
		m.ID = g.String()
	}
	// Lists are empty, never nil: upstream reads [] and refuses null.
	m.Filesystems = []Filesystem{}
	images, _ := o.list("images", true, maxList)
	for _, i := range images {
		m.Filesystems = append(m.Filesystems, i.filesystem(v, m.Arch))
	}
	packages, is := o.list("osPackages", false, maxPackages)
	if is {
		m.Packages = []Package{}
	}
	for _, p := range packages {
		m.Packages = append(m.Packages, p.osPackage(v))
	}
	if b, is := o.object("bootloader", false); is {
		m.Bootloader = b.bootloader()
	}
	if v.since(2) {
		o.disk(m)
	}
	if v.since(3) {
		o.extensions(m)
	}
	for _, later := range []struct {
		key   string
		minor int
	}{{"disk", 2}, {"compression", 2}, {"extensions", 3}} {
		if !v.since(later.minor) && o.fields[later.key] != nil {
			o.doubt(nameFieldOfLaterVersion, later.key, "is a key of version 1.%d, and this metadata is of version %s", later.minor, v)
		}
	}
	return m
}

// osPackage reads a package. Since version 1.1 release and arch are required; both may
// be empty, because the packages of some systems have neither.
func (o object) osPackage(v Version) Package {
	p := Package{o.text("name", true), o.text("version", true), o.text("release", false), o.text("arch", false)}
	for _, r := range []struct{ key, name string }{{"release", NamePackageNoRelease}, {"arch", NamePackageNoArch}} {
		if v.since(1) && o.fields != nil && o.fields[r.key] == nil {
			o.fault(r.name, o.at(r.key), "is missing for %.64q, and is required since version 1.1", p.Name)
		}
	}
	return p
}

// disk reads the keys that version 1.2 added.
func (o object) disk(m *Metadata) {
	if c, is := o.object("compression", false); is {
		n, _ := c.number("maxWindowLog", true, maxWindowLog)
		m.Compression = &Compression{int(n)}
	}
	d, is := o.object("disk", false)
	if !is {
		return
	}
	m.Disk = &Disk{Type: d.text("type", true), Regions: []Region{}}
	m.Disk.Size, _ = d.number("size", true, maxImage)
	lba, ok := d.number("lbaSize", true, maxImage)
	if m.Disk.LBASize = int(lba); ok && lba != 512 && lba != 4096 {
		d.fault(NameParse, d.at("lbaSize"), "is %d, must be 512 or 4096", lba)
	} else if ok && m.Disk.Size%lba != 0 {
		d.fault(NameParse, d.at("size"), "is %d, must be a multiple of lbaSize", m.Disk.Size)
	}
	regions, _ := d.list("gptRegions", false, maxList)
	for _, r := range regions {
		m.Disk.Regions = append(m.Disk.Regions, r.region(m.Version))
	}
}

func (o object) region(v Version) Region {
	i, _ := o.object("image", true)
	r := Region{Image: i.file(v), Type: o.text("type", true)}
	if o.is("type") && r.Type != PrimaryGPT && r.Type != PartitionRegion {
		// Upstream ignores such a region, too.
		o.warn(NameParse, o.at("type"), "is %.32q, which is not known; the region is not used", r.Type)
	}
	if r.Type == PartitionRegion {
		n, _ := o.number("number", true, 1<<31)
		r.Number = int(n)
	}
	return r
}

func (o object) filesystem(v Version, arch Arch) Filesystem {
	i, _ := o.object("image", true)
	f := Filesystem{Image: i.file(v), MountPoint: o.text("mountPoint", true), Type: o.word("fsType", filesystemTypes()...), UUID: o.text("fsUuid", true)}
	if f.MountPoint != "" && (!path.IsAbs(f.MountPoint) || strings.ContainsFunc(f.MountPoint, isControl)) {
		o.doubt(nameUnsuitableMountPoint, o.at("mountPoint"), "is %.64q, must be an absolute path", f.MountPoint)
	}
	if f.UUID == "" && o.is("fsUuid") {
		o.fault(NameParse, o.at("fsUuid"), "is empty")
	}
	text := o.text("partType", true)
	var ok bool
	if f.PartType, ok = ParsePartType(text, arch); !ok && o.is("partType") {
		o.fault(NameParse, o.at("partType"), "is %.64q, must be a GUID, or a name of the Discoverable Partitions Specification", text)
	}
	verity, is := o.object("verity", false)
	if !is {
		return f
	}
	f.Verity = &Verity{RootHash: strings.ToLower(verity.text("roothash", true))}
	var inline bool
	f.Verity.HashOffset, inline = verity.number("hashOffset", false, maxImage)
	if hash, is := verity.object("image", !inline); is {
		f.Verity.Image = hash.file(v)
	} else {
		f.Verity.Image = f.Image
	}
	if at := f.Verity.HashOffset; at%512 != 0 || at > 0 && at >= f.Verity.Image.Size {
		o.fault(NameParse, verity.at("hashOffset"), "is %d, must be a multiple of 512 within the %d bytes of its image", at, f.Verity.Image.Size)
	}
	if b, err := hex.DecodeString(f.Verity.RootHash); (err != nil || len(b) < 16 || len(b) > 64) && verity.is("roothash") {
		o.fault(NameParse, verity.at("roothash"), "is not a digest in hexadecimal")
	}
	return f
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// filesystemTypes returns the types of file systems that an image may have.
func filesystemTypes() []string {
	return strings.Fields("ext4 ext3 ext2 cramfs squashfs vfat msdos exfat iso9660 ntfs btrfs xfs")
}

func (o object) file(v Version) File {
	f := File{Path: o.text("path", true), SHA384: strings.ToLower(o.text("sha384", v.since(1)))}
	f.Compressed, _ = o.number("compressedSize", true, maxImage)
	f.Size, _ = o.number("uncompressedSize", true, maxImage)
	given := f.Path
	f.Path = entryName(given)
	clean := path.Clean(f.Path) == f.Path && !strings.ContainsFunc(f.Path, isControl)
	if rest, ok := strings.CutPrefix(f.Path, "images/"); o.is("path") && (!ok || rest == "" || !clean || len(f.Path) > maxPath) {
		o.fault(NameParse, o.at("path"), "is %.128q, must be the clean path of a file below images/", given)
	}
	if b, err := hex.DecodeString(f.SHA384); o.is("sha384") && (err != nil || len(b) != sha384Size) && (v.since(1) || f.SHA384 != "") {
		o.fault(NameParse, o.at("sha384"), "has %d characters, must be %d hexadecimal digits", len(f.SHA384), 2*sha384Size)
	}
	return f
}

func (o object) bootloader() *Bootloader {
	b := &Bootloader{Type: o.word("type", SystemdBoot, GRUB)}
	set, is := o.object("systemdBoot", false)
	if !is {
		return b
	}
	b.SystemdBoot = &SystemdBootSet{Entries: []BootEntry{}}
	entries, _ := set.list("entries", true, maxList)
	for _, e := range entries {
		kind := e.word("type", UKIStandalone, UKIConfig, EntryConfig)
		entry := BootEntry{kind, e.text("path", true), e.text("cmdline", true), e.text("kernel", true)}
		b.SystemdBoot.Entries = append(b.SystemdBoot.Entries, entry)
	}
	return b
}
