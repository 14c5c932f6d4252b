package image

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// check checks the rules that concern more than one value.
func (m *Metadata) check(w *walker) {
	m.checkFilesystems(w)
	if m.Version.since(1) {
		m.checkBootloader(w)
		m.checkPackages(w)
	}
	if m.Version.since(2) {
		m.checkDisk(w)
	}
	m.checkExtensions(w)
}

func (m *Metadata) checkFilesystems(w *walker) {
	mounts, uuids, paths := map[string]int{}, map[string]int{}, map[string]string{}
	for i, f := range m.Filesystems {
		at := fmt.Sprintf("images[%d]", i)
		mount := path.Clean("/" + f.MountPoint)
		if f.MountPoint == "" {
			mount = ""
		}
		if first, ok := mounts[mount]; ok {
			w.fault(NameDuplicateMountPoint, at+".mountPoint", "is %.64q, as is that of images[%d]", f.MountPoint, first)
		} else {
			mounts[mount] = i
		}
		uuid := strings.ToLower(f.UUID)
		if first, ok := uuids[uuid]; ok && uuid != "" {
			w.doubt(NameDuplicateFsUUID, at+".fsUuid", "is %.64q, as is that of images[%d]", f.UUID, first)
		} else {
			uuids[uuid] = i
		}
		if f.Inline() && f.Verity.Image != f.Image {
			w.doubt(NameImageMismatch, at+".verity.image", "has the path of %s.image, and not the same sizes and digest", at)
		}
		for _, file := range m.files(i) {
			if first, ok := paths[file.Path]; ok && file.Path != "" {
				w.doubt(nameDuplicateImagePath, file.at+".path", "is %.128q, as is %s.path", file.Path, first)
			} else {
				paths[file.Path] = file.at
			}
		}
	}
}

// Doubts returns warnings for the makers of images about metadata that breaks no rule of
// the format, but from which no host can be installed: it has no root file system, or has
// partitions for another architecture.
func (m *Metadata) Doubts() []Finding {
	w := &walker{}
	if !slices.ContainsFunc(m.Filesystems, func(f Filesystem) bool { return path.Clean(f.MountPoint) == "/" }) {
		w.warn(NameNoRoot, "images", "has no file system for /, so that no host can be installed from it")
	}
	for i, f := range m.Filesystems {
		if arch := partTypeArch(f.PartType); arch != "" && arch != m.Arch {
			w.warn(NameArch, fmt.Sprintf("images[%d].partType", i), "is the type of a partition for %s, and osArch is %s", arch, m.Arch)
		}
	}
	return w.findings
}

// placed is a file and the path of the object that describes it.
type placed struct {
	File
	at string
}

// files returns the files of file system i, each once.
func (m *Metadata) files(i int) []placed {
	at := fmt.Sprintf("images[%d]", i)
	out := []placed{{m.Filesystems[i].Image, at + ".image"}}
	if v := m.Filesystems[i].Verity; v != nil && !m.Filesystems[i].Inline() {
		out = append(out, placed{v.Image, at + ".verity.image"})
	}
	return out
}

func (m *Metadata) checkBootloader(w *walker) {
	b := m.Bootloader
	switch {
	case b == nil:
		w.fault(NameBootloaderRequired, "bootloader", "is missing, and is required since version 1.1")
	case b.Type == GRUB && b.SystemdBoot != nil:
		w.fault(NameGrubWithEntries, "bootloader.systemdBoot", "is present, and the boot loader is grub")
	case b.Type == SystemdBoot && b.SystemdBoot == nil:
		w.fault(NameNoEntries, "bootloader.systemdBoot", "is missing, and the boot loader is systemd-boot")
	case b.Type == SystemdBoot && len(b.SystemdBoot.Entries) == 0:
		w.fault(NameEmptyEntries, "bootloader.systemdBoot.entries", "is empty: there is nothing to boot")
	}
}

func (m *Metadata) checkPackages(w *walker) {
	if m.Packages == nil && !m.OSRelease.isContainerLinux() {
		w.fault(NamePackagesRequired, "osPackages", "is missing, and is required since version 1.1")
	}
}

func (m *Metadata) checkDisk(w *walker) {
	if m.Compression == nil {
		w.fault(NameCompressionRequired, "compression", "is missing, and is required since version 1.2")
	}
	d := m.Disk
	if d == nil {
		w.fault(NameDiskRequired, "disk", "is missing, and is required since version 1.2")
		return
	}
	if d.Type != "gpt" && len(w.found("disk.type")) == 0 {
		w.fault(NameNotGPT, "disk.type", "is %.32q, must be gpt", d.Type)
	}
	if len(d.Regions) == 0 {
		w.fault(NameNoRegions, "disk.gptRegions", "is missing or empty")
		return
	}
	if first := d.Regions[0].Type; first != PrimaryGPT {
		w.fault(NameFirstRegion, "disk.gptRegions[0].type", "is %.32q, must be %s", first, PrimaryGPT)
	}
	m.checkRegions(w)
	m.checkPartitions(w)
}

// checkRegions checks the regions without the file systems.
func (m *Metadata) checkRegions(w *walker) {
	numbers, paths := map[int]int{}, map[string]int{}
	for i, r := range m.Disk.Regions {
		at := fmt.Sprintf("disk.gptRegions[%d]", i)
		if first, ok := paths[r.Image.Path]; ok && r.Image.Path != "" {
			w.fault(nameDuplicateImagePath, at+".image.path", "is %.128q, as is that of disk.gptRegions[%d]", r.Image.Path, first)
		} else {
			paths[r.Image.Path] = i
		}
		if i > 0 && r.Type == PrimaryGPT {
			w.fault(NameMultipleGPT, at+".type", "is %s, and only the first region may be", PrimaryGPT)
		}
		if r.Type != PartitionRegion || len(w.found(at+".number")) > 0 {
			continue
		}
		first, ok := numbers[r.Number]
		switch {
		case r.Number == 0:
			w.fault(NameNumberZero, at+".number", "is 0, and partitions are counted from 1")
		case ok:
			w.fault(NameDuplicateNumber, at+".number", "is %d, as is that of disk.gptRegions[%d]", r.Number, first)
		default:
			numbers[r.Number] = i
		}
	}
}

// found returns the findings at a path.
func (w *walker) found(path string) []Finding {
	var out []Finding
	for _, f := range w.findings {
		if f.Path == path {
			out = append(out, f)
		}
	}
	return out
}

// checkPartitions compares the file of each file system with that of its partition, which
// must be the same.
func (m *Metadata) checkPartitions(w *walker) {
	partitions := map[string]File{}
	for _, r := range m.Disk.Regions {
		if r.Type == PartitionRegion {
			partitions[r.Image.Path] = r.Image
		}
	}
	for i := range m.Filesystems {
		for _, f := range m.files(i) {
			p, ok := partitions[f.Path]
			if !ok {
				w.doubt(NameImageNoPartition, f.at+".path", "is %.128q, which is that of no partition in disk.gptRegions", f.Path)
				continue
			}
			if p.Compressed != f.Compressed {
				w.doubt(NameImageMismatch, f.at+".compressedSize", "is %d, and that of its partition %d", f.Compressed, p.Compressed)
			}
			if p.Size != f.Size {
				w.doubt(NameImageMismatch, f.at+".uncompressedSize", "is %d, and that of its partition %d", f.Size, p.Size)
			}
			if p.SHA384 != f.SHA384 {
				w.doubt(NameImageMismatch, f.at+".sha384", "is not that of its partition")
			}
		}
	}
}
